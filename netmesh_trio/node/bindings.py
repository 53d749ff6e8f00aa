"""How long the NAT in front of a node remembers a binding that nobody uses, found out with the help of a neighbor.

A spare socket sends the neighbor one bare packet, whose source the neighbor notes.  After some silence the neighbor is
asked, in the session, to send a packet back there: it gets in or the binding is gone.  That takes minutes and a few
packets, happens once for each network that the node is in, and delays nothing.  Where bindings live for a shorter time
than the keep-alive, keep-alives are sent more often from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import attrs
import trio

from ..addresses import Address
from ..errors import BindError
from ..identity import PeerId
from ..traversal.lifetime import LifetimeSearch, keep_alive_for
from ..traversal.reflex import (
    TOKEN_SIZE,
    Help,
    HelpAnswer,
    HelperBudgets,
    HelpRequest,
    ReflexAnswer,
    read_canary_untrusted,
)
from ..wire import frames, packets
from ..wire.errors import DecodeError
from .engine import Engine
from .live import LiveSession
from .network import UdpSocket

__all__ = ["BindingHelper", "Bindings"]

# Seconds after which a packet of ours is sent again, and that a helper has to answer.
_REPEAT = (0.3, 0.6, 1.2)
_PATIENCE = 3.0
# Seconds that a canary may come later than the word that it was sent.
_GRACE = 0.5
#: Seconds before a new network is examined, and before a search that failed is begun anew.
_SETTLED = 15.0
# Seconds until a search in which nobody could help goes on: a helper may just have lost us, or have had much to do.
_AGAIN_SOON = (10.0, 20.0)
_AGAIN = 600.0
_MAX_WATCHED = 64
_MAX_WATCHED_OF_ONE = 2
_WATCHED_FOR = 600.0


@attrs.define
class _Watched:
    """A socket of a neighbor's whose binding we are to try."""

    live: LiveSession
    host: str
    household: Hashable
    expires: float
    number: int = 0
    source: Address | None = None


class BindingHelper:
    """The neighbor's part: notes where a canary came from, and sends one there when asked.

    A canary counts only from the host at which the asker's own session is seen, so nobody has packets sent to others.
    """

    def __init__(self, engine: Engine, budgets: HelperBudgets) -> None:
        self._engine = engine
        self._budgets = budgets
        self._watched: dict[bytes, _Watched] = {}
        #: Canaries sent back.
        self.sent: int = 0

    def on_request(self, live: LiveSession, address: Address, message: HelpRequest) -> bool:
        """Watch for a canary with this token, or send one where that came from; whether it was done."""
        now = self._engine.now()
        watched = self._watched.get(message.token)
        if message.what is Help.REVISIT:
            if watched is None or watched.live.peer is not live.peer or watched.source is None:
                return False
            self.sent += 1
            self._engine.send_packet(packets.canary(message.token), (watched.number, watched.source), None)
            return True
        for token in [token for token, old in self._watched.items() if old.expires <= now]:
            del self._watched[token]
        mine = [token for token, old in self._watched.items() if old.live.peer is live.peer]
        if len(mine) >= _MAX_WATCHED_OF_ONE:
            del self._watched[mine[0]]
        home = live.household
        if watched is not None or (len(self._watched) >= _MAX_WATCHED and not self._make_room(home)):
            return False
        self._watched[message.token] = _Watched(live, address.host, home, now + _WATCHED_FOR)
        return True

    def _make_room(self, home: Hashable) -> bool:
        """Give up what was watched for longest for whoever has most, if that is more than *home* will have."""
        held = Counter(watched.household for watched in self._watched.values())
        greatest, most = held.most_common(1)[0]
        if held[home] + 1 >= most:
            return False
        del self._watched[next(token for token, watched in self._watched.items() if watched.household == greatest)]
        return True

    def on_canary_untrusted(self, token: bytes, number: int, source: Address) -> bool:
        """Whether it is one that we watch for."""
        watched = self._watched.get(token)
        if watched is None:
            return False
        now = self._engine.now()
        if source.host == watched.host and self._budgets.may_answer(watched.live.peer.peer_id, now):
            watched.source = source
            watched.number = number
            self._engine.send_control(watched.live, frames.SUBPROTOCOL_REFLEX, ReflexAnswer(source, token).encode())
        return True


@attrs.define(eq=False)
class _Trial:
    """A spare socket and what is said about it."""

    live: LiveSession
    helper: Address
    socket: UdpSocket
    token: bytes
    noted: trio.Event = attrs.field(factory=trio.Event)
    answer: trio.Event = attrs.field(factory=trio.Event)
    done: bool = False
    came_in: trio.Event = attrs.field(factory=trio.Event)


class Bindings:
    """Our own part: tries how long a binding lives."""

    def __init__(self, engine: Engine, helpers: Callable[[], list[PeerId]], about: Callable[[], object]) -> None:
        self._engine = engine
        self._helpers = helpers
        self._about = about
        self._trials: dict[bytes, _Trial] = {}
        self._search = LifetimeSearch()
        self._examined: object = None
        self._changed = trio.Event()
        #: Set at the end of a search, whatever it found.
        self.known: trio.Event = trio.Event()

    @property
    def alive(self) -> float | None:
        """Seconds of silence that a binding has survived; None if unknown."""
        return self._search.alive or None

    @property
    def gone(self) -> float | None:
        """Seconds of silence after which a binding was gone; None if unknown."""
        return self._search.gone

    async def wait_known(self) -> None:
        """Wait for the end of the search in the network that the node is in now, if there is one to be made."""
        await trio.lowlevel.checkpoint()
        if self._about() not in (None, self._examined):
            await self.known.wait()

    def changed(self) -> None:
        """The node may be behind another NAT, or have other helpers."""
        self._changed.set()

    # messages

    def on_answer(self, peer_id: PeerId, message: ReflexAnswer | HelpAnswer) -> bool:
        """Whether it belongs to a trial under way."""
        trial = self._trials.get(message.token) if message.token is not None else None
        if trial is None or trial.live.peer.peer_id != peer_id:
            return False
        if isinstance(message, ReflexAnswer):
            trial.noted.set()
        else:
            trial.done = message.done
            trial.answer.set()
        return True

    # the search

    async def run(self) -> None:
        """Examine each network that the node comes into, for ever."""
        while True:
            self._changed = trio.Event()
            about = self._about()
            if about is None or about == self._examined or not self._helpers():
                await self._changed.wait()
                continue
            with trio.move_on_after(_SETTLED):
                while about == self._about():
                    await self._changed.wait()
                    self._changed = trio.Event()
                continue
            self._search = LifetimeSearch()
            self._adapt()
            if self.known.is_set():
                self.known = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_moved, about, nursery.cancel_scope)
                try:
                    found = await self._find()
                    for pause in _AGAIN_SOON:
                        if found:
                            break
                        await trio.sleep(pause)
                        found = await self._find()
                finally:
                    self.known.set()
                if found:
                    self._examined = about
                else:
                    await trio.sleep(_AGAIN)
                nursery.cancel_scope.cancel()

    async def _until_moved(self, about: object, scope: trio.CancelScope) -> None:
        """What is found out about a network says nothing about the next."""
        while about == self._about():
            await self._changed.wait()
            self._changed = trio.Event()
        scope.cancel()

    async def _find(self) -> bool:
        """Search to the end; False if nobody could help."""
        while (wait := self._search.wait) is not None:
            survived = await self._try(wait)
            if survived is None:
                return False
            self._search.record(survived)
            self._adapt()
        return True

    def _adapt(self) -> None:
        """Send keep-alives as often as it takes."""
        engine = self._engine
        wanted = engine.config.keep_alive
        engine.keep_alive = keep_alive_for(wanted, self._search.alive, self._search.gone)
        for live in engine.all_live():
            live.session.keep_alive = engine.keep_alive
            live.drive_later()

    async def _try(self, wait: float) -> bool | None:
        """Whether a binding survives so many seconds; None if nobody could tell."""
        engine = self._engine
        for peer_id in self._helpers():
            live = engine.direct_session(peer_id)
            path = live.session.path if live is not None else None
            if live is None or path is None or isinstance(path.key, bytes):
                continue
            number, helper = path.key
            try:
                socket = await engine.network.bind(engine.sockets[number].address.host, 0)
            except BindError:
                return None
            trial = _Trial(live, helper, socket, engine.random_bytes(TOKEN_SIZE))
            self._trials[trial.token] = trial
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, trial)
                    survived = await self._watch(trial, wait)
                    nursery.cancel_scope.cancel()
            finally:
                del self._trials[trial.token]
                socket.close()
            if survived is not None:
                return survived
        return None

    async def _read(self, trial: _Trial) -> None:
        """What comes in on the spare socket."""
        while True:
            await trial.socket.wait_readable()
            while (received := trial.socket.receive_nowait()) is not None:
                data, _, source = received
                try:
                    token = read_canary_untrusted(bytes(data))
                except DecodeError:
                    continue
                if token == trial.token and source == trial.helper:
                    trial.came_in.set()

    async def _watch(self, trial: _Trial, wait: float) -> bool | None:
        if not await self._ask(trial, Help.BINDING):
            return None
        packet = packets.canary(trial.token)
        for pause in _REPEAT:
            trial.socket.send((packet,), len(packet), trial.helper)
            refreshed = self._engine.now()
            with trio.move_on_after(pause + self._rtt(trial)):
                await trial.noted.wait()
                break
        else:
            return None
        # a binding that was never there proves nothing when it is gone
        if not await self._comes_in(trial):
            return None
        await trio.sleep_until(refreshed + wait)
        return await self._comes_in(trial)

    async def _comes_in(self, trial: _Trial) -> bool | None:
        """Whether what the helper sends to the spare socket comes in; a single packet may get lost."""
        trial.came_in = trio.Event()
        for _ in range(2):
            if not await self._ask(trial, Help.REVISIT):
                return None
            with trio.move_on_after(self._rtt(trial) + _GRACE):
                await trial.came_in.wait()
                return True
        return False

    async def _ask(self, trial: _Trial, what: Help) -> bool:
        trial.answer = trio.Event()
        trial.done = False
        self._engine.send_control(trial.live, frames.SUBPROTOCOL_REFLEX, HelpRequest(trial.token, what).encode())
        with trio.move_on_after(_PATIENCE):
            await trial.answer.wait()
        return trial.done

    @staticmethod
    def _rtt(trial: _Trial) -> float:
        path = trial.live.session.path
        return path.rtt.smoothed if path is not None and path.rtt.samples else 0.0
