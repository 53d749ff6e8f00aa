"""The background upgrade: relayed sessions move to direct paths by themselves, and ``connect_direct`` waits for it."""

from __future__ import annotations

import attrs
import trio

from ..events import PathKind, PathReport
from ..identity import PeerId
from ..paths.path import Path
from ..traversal.backoff import UpgradeBackoff
from ..traversal.budgets import WindowBudget
from ..traversal.errors import PeerNotReachableError, RendezvousRejectedError, TraversalError
from ..traversal.rendezvous import RejectReason
from ..traversal.stats import TraversalStats
from .engine import Engine
from .live import LiveSession
from .peer import Peer
from .rendezvous import Rendezvous

__all__ = ["Upgrader"]

# New announcements of one peer that may bring about another attempt, within so many seconds.
_RESETS = 4
_RESET_PERIOD = 10.0


@attrs.define(eq=False)
class _Running:
    """An attempt under way; whoever wants the same waits for it."""

    live: LiveSession
    #: Nobody called for it.
    background: bool
    #: Seconds on the clock from which on the time to a direct path counts.
    since: float
    #: It gave a direct path, which is counted.
    succeeded: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    error: TraversalError | None = None
    #: Whether a network changed meanwhile: then its failure says nothing about the next attempt.
    outdated: bool = False
    #: What was known of both NATs as it began, and what ends it when that changes.
    standing: tuple[object, ...] = ()
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class Upgrader:
    """Decides when to look for a shorter path, and remembers why there is none."""

    def __init__(self, engine: Engine, rendezvous: Rendezvous, stats: TraversalStats, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._rendezvous = rendezvous
        self._stats = stats
        self._nursery = nursery
        traversal = engine.config.traversal
        self._automatic = engine.config.direct and traversal.enabled and traversal.auto_direct_upgrade
        self._backoff: UpgradeBackoff[PeerId] = UpgradeBackoff(self._chance, *traversal.upgrade_backoff)
        self._running: dict[PeerId, _Running] = {}
        # what a peer announces makes us send to where it says that it is: not as often as it likes
        self._resets: WindowBudget[PeerId] = WindowBudget(_RESETS, _RESET_PERIOD)
        # peers whose data took a relay, among all the others that a node may have
        self._relayed: dict[PeerId, Peer] = {}
        self._wake = trio.Event()
        engine.on_path_changed = self._path_changed
        engine.on_turned_direct = self._turned_direct
        engine.on_network_changed = self.network_changed
        engine.on_peer_moved = self.peer_changed

    def _chance(self) -> float:
        return int.from_bytes(self._engine.random_bytes(4), "big") / 2**32

    def _path_changed(self, live: LiveSession, path: Path) -> None:
        peer = live.peer
        if path.kind is PathKind.DIRECT:
            self._backoff.forget(peer.peer_id)
            peer.failure = None
        else:
            self._relayed[peer.peer_id] = peer
            self._wake.set()

    def _turned_direct(self, live: LiveSession) -> None:
        """A session's data takes a direct path from now on: count what led there, before anybody learns of it."""
        live.searched = True
        self._rendezvous.turned_direct(live)
        running = self._running.get(live.peer.peer_id)
        if running is not None and running.live is live and not running.succeeded:
            running.succeeded = True
            if running.background:
                self._stats.record_upgrade_success()
            self._stats.record_time_to_direct(self._engine.now() - running.since)

    def network_changed(self) -> None:
        """Our NAT or our addresses are others than before: what failed may work now."""
        self._backoff.network_changed()
        for peer in self._relayed.values():
            self._outdate(peer)
        self._wake.set()

    def peer_changed(self, peer_id: PeerId) -> None:
        """A peer announces another NAT or address than before."""
        peer = self._relayed.get(peer_id)
        if peer is not None and self._resets.take(peer_id, self._engine.now()):
            self._backoff.forget(peer_id)
            self._outdate(peer)
            self._wake.set()

    def _outdate(self, peer: Peer) -> None:
        """What failed with a peer, or is about to, says nothing any more."""
        peer.failure = None
        running = self._running.get(peer.peer_id)
        if running is not None:
            running.outdated = True
            if self._rendezvous.standing(peer.peer_id) != running.standing:
                running.scope.cancel()  # it sends to where one of the two is no more

    async def run(self) -> None:
        """Begin attempts when they are due, for ever.  The side that opened the session begins, the other answers."""
        while True:
            self._wake = trio.Event()
            now = self._engine.now()
            earliest = float("inf")
            if self._automatic:
                for peer in list(self._relayed.values()):
                    live = peer.live
                    if live is None or not live.relayed:
                        del self._relayed[peer.peer_id]  # it comes back when that changes
                        continue
                    if not live.session.initiator or peer.peer_id in self._running:
                        continue
                    if self._backoff.ready(peer.peer_id, now):
                        self._stats.record_upgrade_attempt()
                        self._begin(live, background=True)
                    else:
                        earliest = min(earliest, self._backoff.ready_at(peer.peer_id))
            with trio.move_on_at(earliest):
                await self._wake.wait()

    def _begin(self, live: LiveSession, *, background: bool) -> _Running:
        first = background and not live.searched
        since = live.session.created if first else self._engine.now()
        live.searched = True
        running = self._running[live.peer.peer_id] = _Running(live, background, since)
        self._nursery.start_soon(self._attempt, running)
        return running

    async def _attempt(self, running: _Running) -> None:
        live = running.live
        peer = live.peer
        try:
            while True:
                running.outdated = False
                running.standing = self._rendezvous.standing(peer.peer_id)
                running.scope = trio.CancelScope()
                with running.scope:
                    await self._rendezvous.attempt(live)
                if not running.scope.cancelled_caught:
                    break
        except TraversalError as error:
            running.error = error
            if not running.outdated:
                peer.failure = error
                self._engine.log.info("no direct path to %s for now: %s", peer.peer_id.short, error, peer=peer.peer_id)
                busy = isinstance(error, RendezvousRejectedError) and error.reason == RejectReason.BUSY.value
                self._backoff.failed(peer.peer_id, self._engine.now(), busy=busy)
        finally:
            del self._running[peer.peer_id]
            running.done.set()
            self._wake.set()
            peer.wake()

    async def connect_direct(self, peer: Peer) -> PathReport:
        """See :meth:`Node.connect_direct`; there is a session."""
        error: TraversalError | None = None
        live = peer.live
        if live is not None and live.relayed:
            running = self._running.get(peer.peer_id) or self._begin(live, background=False)
            await running.done.wait()
            error = running.error
        path = peer.live.session.path if peer.live is not None else None
        if path is None:
            raise PeerNotReachableError(f"the session with {peer.peer_id.short} ended meanwhile")
        if path.kind is PathKind.RELAYED and not path.suspect:
            self._stats.record_relay_fallback()
        report = peer.report(path)
        if error is not None and path.kind is PathKind.RELAYED:
            return attrs.evolve(report, error=error)
        return report
