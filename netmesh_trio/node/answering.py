"""The attempts of others at a direct path to this node: each peer gets its turn, soon, or hears that it is busy.

What a peer or a coordinator says makes us send challenges to addresses that they name.  So only a few trains *begin* at
once: a train holds its turn while its packets are dense, for 0.8 s, or until it has found a path, which takes a round
trip as a rule.  The others wait.  A hundred peers that dial one node in the same moment are answered within seconds,
and the probes that all of them together get out of it are still bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from ..addresses import Address
from ..events import PathKind
from ..identity import PeerId
from ..traversal.budgets import WindowBudget
from ..traversal.errors import PunchFailedError
from ..traversal.rendezvous import Candidates, PunchAck, PunchIntroduce, PunchReject, RejectReason
from ..traversal.stats import TraversalStats
from ..wire import frames
from .engine import Engine
from .live import LiveSession
from .trains import run_train, until_direct

__all__ = ["Answering"]

_MAX_TURNS = 8
_TURN = 0.8
_MAX_ANSWERS = 256
# The part of an attempt's deadline for which a turn is waited for: the other end still listens for the answer then.
_PATIENCE = 0.6
# Attempts of one peer that are answered, within so many seconds.
_PEER_LIMIT = 4
_PEER_PERIOD = 10.0


@attrs.define(eq=False)
class _Answer:
    """The answer to the candidates of one peer."""

    punch_id: bytes | None
    begun: trio.Event = attrs.field(factory=trio.Event)
    #: Whether no introduction came for it yet.
    expects_introduction: bool = True


class Answering:
    """The responder's part of the rendezvous."""

    def __init__(self, engine: Engine, stats: TraversalStats) -> None:
        self._engine = engine
        self._stats = stats
        self._turns = trio.Semaphore(_MAX_TURNS)
        self._answers: dict[PeerId, _Answer] = {}
        # candidates make us send to where a peer says that it is
        self._budget: WindowBudget[PeerId] = WindowBudget(_PEER_LIMIT, _PEER_PERIOD)

    def __len__(self) -> int:
        """Peers whose candidates are answered, or wait for it."""
        return len(self._answers)

    def admits(self, live: LiveSession, message: Candidates) -> bool:
        """Whether to answer an attempt; if not, the peer is told to try again soon.

        Who admits one calls :meth:`on_candidates` in a task of its own.
        """
        peer_id = live.peer.peer_id
        if peer_id in self._answers:
            return False  # the answer under way is as good
        if len(self._answers) >= _MAX_ANSWERS or not self._budget.take(peer_id, self._engine.now()):
            self._put_off(live, message.punch_id if message.reply_wanted else None)
            return False
        self._answers[peer_id] = _Answer(message.punch_id)
        return True

    def expects(self, peer_id: PeerId, punch_id: bytes) -> bool:
        """Whether the peer told us of that attempt itself; an introduction to it uses this up."""
        answer = self._answers.get(peer_id)
        if answer is None or answer.punch_id != punch_id or not answer.expects_introduction:
            return False
        answer.expects_introduction = False
        return True

    async def on_candidates(self, live: LiveSession, punch_id: bytes | None, targets: Sequence[Address]) -> None:
        """Answer an attempt that was admitted."""
        peer_id = live.peer.peer_id
        try:
            await self._in_turn(live, punch_id, targets, 0.0, self._answers[peer_id].begun)
        finally:
            del self._answers[peer_id]

    async def on_introduction(self, live: LiveSession, message: PunchIntroduce, *, expected: bool) -> None:
        """Answer an introduction that was admitted: in the turn that the peer has or waits for, if it was expected."""
        known = self._answers.get(live.peer.peer_id) if expected else None
        targets = (message.reflex,)
        if known is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_direct, live, nursery.cancel_scope)
                with trio.move_on_after(self._engine.config.traversal.punch_deadline):
                    await known.begun.wait()
                    await self._train(live, targets, message.delay)
                nursery.cancel_scope.cancel()
        else:
            await self._in_turn(live, None, targets, message.delay, trio.Event())
        path = live.session.path
        if live.session.closed is None and path is not None and path.kind is PathKind.DIRECT:
            ack = PunchAck(message.punch_id, path.address)
            self._engine.send_control(live, frames.SUBPROTOCOL_RENDEZVOUS, ack.encode())

    async def _in_turn(
        self, live: LiveSession, punch_id: bytes | None, targets: Sequence[Address], delay: float, begun: trio.Event
    ) -> None:
        """Wait for a turn, and send; done once the session is on a direct path."""
        deadline = self._engine.config.traversal.punch_deadline
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_direct, live, nursery.cancel_scope)
            with trio.move_on_after(_PATIENCE * deadline) as waiting:
                await self._turns.acquire()
            if waiting.cancelled_caught:
                self._put_off(live, punch_id)
            else:
                try:
                    begun.set()
                    self._stats.record_answer()
                    nursery.start_soon(self._until_over, live, targets, delay, nursery.cancel_scope)
                    await trio.sleep(delay + _TURN)
                finally:
                    self._turns.release()
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()

    async def _until_over(
        self, live: LiveSession, targets: Sequence[Address], delay: float, scope: trio.CancelScope
    ) -> None:
        await self._train(live, targets, delay)
        live.peer.failure = PunchFailedError("no probe was answered in time")
        scope.cancel()

    async def _train(self, live: LiveSession, targets: Sequence[Address], delay: float) -> None:
        with trio.move_on_after(self._engine.config.traversal.punch_deadline):
            await trio.sleep(delay)
            await run_train(self._engine, live, targets)

    def _put_off(self, live: LiveSession, punch_id: bytes | None) -> None:
        self._stats.record_answer_put_off()
        if punch_id is not None:
            reject = PunchReject(punch_id, RejectReason.BUSY)
            self._engine.send_control(live, frames.SUBPROTOCOL_RENDEZVOUS, reject.encode())
