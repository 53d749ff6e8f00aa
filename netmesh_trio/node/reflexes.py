"""Reflex in a running node: asking peers under which address they see us, and answering and helping those who ask.

Whoever sends a canary needs no session with its receiver: it is a bare packet, from another port of ours (a socket
that is open for just that) or, on order, from our own.  See :mod:`netmesh_trio.traversal.reflex` for the messages.
"""

from __future__ import annotations

from collections import deque

import attrs
import trio

from ..addresses import Address
from ..errors import BindError
from ..identity import PeerId
from ..paths.path import PathKey
from ..routing.announcements import TAG_NAT_TRAVERSAL
from ..routing.store import AnnouncementStore
from ..traversal.classify import NatType, Observation
from ..traversal.errors import (
    PeerNotReachableError,
    ReflexTimeoutError,
    TransportError,
    UnsupportedError,
)
from ..traversal.reflex import (
    TOKEN_SIZE,
    CanaryOrder,
    Help,
    HelpAnswer,
    HelperBudgets,
    HelpRequest,
    Probe,
    ReflexAnswer,
    ReflexProbes,
    ReflexRequest,
    decode_reflex_message_untrusted,
    read_canary_untrusted,
)
from ..wire import frames, packets
from ..wire.errors import DecodeError
from .bindings import BindingHelper, Bindings
from .engine import Control, Engine
from .live import LiveSession

__all__ = ["CanaryResult", "ReflexCounters", "Reflexes"]

# Seconds after which a request is repeated; the session repeats lost packets, but not what a busy peer dropped.
_REPEAT = (0.5, 1.0, 2.0)
# Seconds that a canary may come later than the word that it was sent.
_GRACE = 0.5
_ORDER_TIMEOUT = 2.0
_MAX_ORDERS = 64
_MAX_CONSIDERED = 64
_MAX_ORDERED = 2


@attrs.define
class ReflexCounters:
    """What a node did for the classification of others, and what came in that belonged to nothing."""

    answered: int = 0
    #: Canaries sent for those who asked, from another port or on order.
    canaries_sent: int = 0
    #: Requests for help or orders declined: over the budget, nobody to ask, no port to send from.
    declined: int = 0
    canaries_received: int = 0
    #: Canaries that were none.  Messages that were none count among all that were.
    invalid: int = 0


@attrs.frozen
class CanaryResult:
    """What became of a request for a canary."""

    done: bool
    """Whether the helper says that it was sent."""
    source: Address | None
    """Where it came from; None if it did not come in."""


@attrs.define(eq=False)
class _Waiting:
    probe: Probe
    event: trio.Event = attrs.field(factory=trio.Event)
    reflex: Address | None = None
    declined: bool = False
    done: bool = False
    source: Address | None = None


@attrs.define(eq=False)
class _Order:
    """A canary that we asked a neighbor for, on behalf of ``asker``."""

    asker: LiveSession
    token: bytes
    address: Address
    candidates: deque[PeerId]
    expires: float


class Reflexes:
    """The reflex subprotocol of a node."""

    def __init__(self, engine: Engine, store: AnnouncementStore) -> None:
        self._engine = engine
        self._store = store
        self._timeout = engine.config.traversal.reflex_timeout
        self._probes = ReflexProbes(self._timeout)
        # canaries have a grace on top, and must not expire under the feet of who waits
        self._helps = ReflexProbes(self._timeout + _GRACE)
        self._waiting: dict[bytes, _Waiting] = {}
        self._budgets = HelperBudgets()
        # by the neighbor that was asked and the token
        self._orders: dict[tuple[PeerId, bytes], _Order] = {}
        self._hairpins: dict[bytes, trio.Event] = {}
        self._binding_helper = BindingHelper(engine, self._budgets)
        #: What the answers are for that belong to no request of ours; set by the node.
        self.bindings: Bindings | None = None
        self.counters: ReflexCounters = ReflexCounters()
        engine.on_canary_untrusted = self._on_canary_untrusted

    @property
    def refused(self) -> int:
        """What was refused because it is over a budget."""
        return self._budgets.refused

    @property
    def canaries_sent(self) -> int:
        """Canaries sent for others."""
        return self.counters.canaries_sent + self._binding_helper.sent

    @property
    def unmatched(self) -> int:
        """Answers and canaries that belonged to nothing that is under way: late, repeated or forged."""
        return self._probes.unmatched + self._helps.unmatched

    # asking

    def check_supported(self, peer_id: PeerId) -> None:
        """Raise UnsupportedError if we, or by its announcement the peer, do not take part."""
        if not self._engine.config.traversal.enabled:
            raise UnsupportedError("this node")
        announcement = self._store.get(peer_id)
        if announcement is not None and TAG_NAT_TRAVERSAL not in announcement.tags:
            raise UnsupportedError(f"peer {peer_id.short}")

    def _session(self, peer_id: PeerId) -> tuple[LiveSession, PathKey]:
        peer = self._engine.peers.get(peer_id)
        live = peer.live if peer is not None else None
        if live is None or live.session.closed is not None or live.session.path is None:
            raise PeerNotReachableError(f"peer {peer_id.short}")
        return live, live.session.path.key

    async def probe(self, peer_id: PeerId) -> Observation:
        """Ask a peer under which address it sees us.

        Raises UnsupportedError, PeerNotReachableError without a session, TransportError where the session runs over
        a relay (which hides our address), and ReflexTimeoutError after ``reflex_timeout``.
        """
        await trio.lowlevel.checkpoint()
        self.check_supported(peer_id)
        with trio.move_on_after(self._timeout):
            return await self._probe(peer_id)
        raise ReflexTimeoutError(f"peer {peer_id.short}, {self._timeout:g} s")

    async def _probe(self, peer_id: PeerId) -> Observation:
        engine = self._engine
        waiting: _Waiting | None = None
        key: PathKey | None = None
        attempt = 0
        try:
            while True:
                live, present = self._session(peer_id)
                if isinstance(present, bytes):
                    raise TransportError(f"peer {peer_id.short} is reached over a relay, which hides our address")
                if waiting is None or key != present:  # what one path says is not said of another
                    self._drop(self._probes, waiting)
                    waiting = self._start(self._probes, peer_id, present[1])
                    key = present
                engine.send_control(live, frames.SUBPROTOCOL_REFLEX, ReflexRequest(waiting.probe.token).encode())
                path = live.session.path
                rtt = path.rtt.smoothed if path is not None and path.rtt.samples else 0.0
                with trio.move_on_after(_REPEAT[min(attempt, len(_REPEAT) - 1)] + 2 * rtt):
                    await waiting.event.wait()
                attempt += 1
                if waiting.reflex is not None:
                    return Observation(peer_id, present[1], waiting.reflex, engine.now(), present[0])
                if waiting.declined:
                    raise TransportError(f"peer {peer_id.short} got the request over a relay, which hides our address")
        finally:
            self._drop(self._probes, waiting)

    async def ask_for_canary(self, peer_id: PeerId, what: Help) -> CanaryResult:
        """Ask a neighbor to have a canary sent to us.  Raises PeerNotReachableError, TransportError."""
        live, key = self._session(peer_id)
        if isinstance(key, bytes):
            raise TransportError(f"peer {peer_id.short} is reached over a relay, which hides our address")
        waiting = self._start(self._helps, peer_id, key[1])
        try:
            message = HelpRequest(waiting.probe.token, what).encode()
            self._engine.send_control(live, frames.SUBPROTOCOL_REFLEX, message)
            with trio.move_on_after(self._timeout):
                await waiting.event.wait()  # the answer, or the canary
            if waiting.done and waiting.source is None:
                waiting.event = trio.Event()
                path = live.session.path
                rtt = path.rtt.smoothed if path is not None and path.rtt.samples else 0.0
                with trio.move_on_after(_GRACE + rtt):
                    await waiting.event.wait()
            return CanaryResult(waiting.done or waiting.source is not None, waiting.source)
        finally:
            self._drop(self._helps, waiting)

    async def hairpin(self, address: Address, number: int) -> bool:
        """Whether a packet from socket ``number`` to ``address``, our own outside one, comes back in."""
        engine = self._engine
        token = engine.random_bytes(TOKEN_SIZE)
        event = self._hairpins[token] = trio.Event()
        try:
            for _ in range(2):
                engine.send_packet(packets.canary(token), (number, address), None)
                with trio.move_on_after(_GRACE):
                    await event.wait()
                    return True
            return False
        finally:
            del self._hairpins[token]

    def _start(self, probes: ReflexProbes, peer_id: PeerId, observer: Address) -> _Waiting:
        engine = self._engine
        probe = probes.start(peer_id, observer, engine.now(), engine.random_bytes)
        if probe is None:
            raise TransportError("too many requests are under way")
        waiting = self._waiting[probe.token] = _Waiting(probe)
        return waiting

    def _drop(self, probes: ReflexProbes, waiting: _Waiting | None) -> None:
        if waiting is not None:
            probes.cancel(waiting.probe.token)
            self._waiting.pop(waiting.probe.token, None)

    def _on_canary_untrusted(self, data: bytes, number: int, source: Address) -> None:
        try:
            token = read_canary_untrusted(data)
        except DecodeError:
            self.counters.invalid += 1
            return
        hairpin = self._hairpins.get(token)
        if hairpin is not None:
            hairpin.set()
            return
        if self._binding_helper.on_canary_untrusted(token, number, source):
            return
        probe = self._helps.match_canary(token, self._engine.now())
        waiting = self._waiting.get(token) if probe is not None else None
        if waiting is not None:
            self.counters.canaries_received += 1
            waiting.source = source
            waiting.event.set()

    # answering

    async def handle(self) -> None:
        """Handle the messages that come in, for ever."""
        messages = self._engine.open_handler(frames.SUBPROTOCOL_REFLEX)
        async with messages:
            async for control in messages:
                try:
                    message = decode_reflex_message_untrusted(control.payload)
                except DecodeError:
                    self._engine.counters.invalid_control += 1
                    continue
                if control.live.session.closed is not None:
                    continue
                if isinstance(message, ReflexRequest):
                    self._on_request(control, message)
                elif isinstance(message, ReflexAnswer):
                    self._on_answer(control, message)
                elif isinstance(message, HelpRequest):
                    await self._on_help(control, message)
                elif isinstance(message, HelpAnswer):
                    self._on_help_answer(control, message)
                else:
                    self._on_order(control, message)

    def _send(self, live: LiveSession, message: ReflexAnswer | HelpAnswer | CanaryOrder) -> None:
        self._engine.send_control(live, frames.SUBPROTOCOL_REFLEX, message.encode())

    def _on_request(self, control: Control, message: ReflexRequest) -> None:
        live = control.live
        if not self._budgets.may_answer(live.peer.peer_id, self._engine.now()):
            return
        address = control.path.address
        if address is not None:
            self.counters.answered += 1
            self._send(live, ReflexAnswer(address, message.token))
        elif message.token is not None:
            self._send(live, HelpAnswer(message.token, Help.REFLEX, False))

    def _on_answer(self, control: Control, message: ReflexAnswer) -> None:
        if self.bindings is not None and self.bindings.on_answer(control.live.peer.peer_id, message):
            return
        probe = self._probes.match(control.live.peer.peer_id, message.token, self._engine.now())
        waiting = self._waiting.get(probe.token) if probe is not None else None
        if waiting is not None:
            waiting.reflex = message.address
            waiting.event.set()

    async def _on_help(self, control: Control, message: HelpRequest) -> None:
        live = control.live
        address = control.path.address
        if address is None or not self._budgets.may_help(live.peer.peer_id, self._engine.now()):
            self.counters.declined += 1
            self._send(live, HelpAnswer(message.token, message.what, False))
            return
        if message.what in (Help.BINDING, Help.REVISIT):
            done = self._binding_helper.on_request(live, address, message)
            self.counters.declined += not done
            self._send(live, HelpAnswer(message.token, message.what, done))
            return
        if message.what is Help.OTHER_PORT:
            done = await self._send_from_other_port(control.path.key, message.token, address)
            self.counters.declined += not done
            self._send(live, HelpAnswer(message.token, message.what, done))
            return
        order = _Order(
            live, message.token, address, self._candidates(live, address), self._engine.now() + _ORDER_TIMEOUT
        )
        self._order_next(order)

    async def _send_from_other_port(self, key: PathKey, token: bytes, address: Address) -> bool:
        """A canary from a socket that is open for no longer than that; one at a time, as the only caller waits."""
        engine = self._engine
        if isinstance(key, bytes):
            return False
        try:
            socket = await engine.network.bind(engine.sockets[key[0]].address.host, 0)
        except BindError:
            return False
        try:
            packet = packets.canary(token)
            socket.send((packet,), len(packet), address)
        finally:
            socket.close()
        self.counters.canaries_sent += 1
        return True

    def _candidates(self, asker: LiveSession, address: Address) -> deque[PeerId]:
        """Neighbors to have a canary sent by, the best first: at another host, and not known to the asker.

        A canary from where the asker sends its own packets would get in anyway and prove nothing.
        """
        engine = self._engine
        if address.is_private or address.is_loopback or address.is_link_local:
            return deque()  # such an address means something else, or nothing, elsewhere
        own = self._store.get(asker.peer.peer_id)
        known = set(own.relays) if own is not None else set()
        known.add(asker.peer.peer_id)
        ours = {s.address.host for s in engine.sockets}
        found: list[tuple[bool, float, PeerId]] = []
        for peer_id in self._some_peers():
            live = engine.direct_session(peer_id)
            path = live.session.path if live is not None else None
            if (
                peer_id in known
                or path is None
                or path.suspect
                or path.address is None
                or path.address.family != address.family
            ):
                continue
            if path.address.host == address.host or path.address.host in ours:
                continue
            announcement = self._store.get(peer_id)
            if announcement is None or TAG_NAT_TRAVERSAL not in announcement.tags:
                continue
            rtt = path.rtt.smoothed if path.rtt.samples else 9.0
            found.append((NatType.of_tags(announcement.tags) is not NatType.OPEN, rtt, peer_id))
        found.sort()
        return deque(peer_id for _, _, peer_id in found[:_MAX_ORDERED])

    def _some_peers(self) -> list[PeerId]:
        """All peers, or if there are many some of them, others each time."""
        peers = list(self._engine.peers)
        if len(peers) <= _MAX_CONSIDERED:
            return peers
        start = int.from_bytes(self._engine.random_bytes(4), "big") % len(peers)
        return (peers[start:] + peers[:start])[:_MAX_CONSIDERED]

    def _order_next(self, order: _Order) -> None:
        """Ask the next candidate; without one, decline."""
        engine = self._engine
        now = engine.now()
        for key in [key for key, old in self._orders.items() if old.expires <= now]:
            del self._orders[key]
        while order.candidates:
            helper = order.candidates.popleft()
            live = engine.direct_session(helper)
            if live is not None and len(self._orders) < _MAX_ORDERS:
                self._orders[helper, order.token] = order
                self._send(live, CanaryOrder(order.token, order.address))
                return
        self.counters.declined += 1
        self._send(order.asker, HelpAnswer(order.token, Help.OTHER_PEER, False))

    def _on_order(self, control: Control, message: CanaryOrder) -> None:
        engine = self._engine
        address = message.address
        number = engine.socket_for(address)
        done = (
            number is not None
            and not address.is_private
            and not self._is_known(address.host)
            and self._budgets.may_follow(control.live.peer.peer_id, message, engine.now())
        )
        if done and number is not None:
            self.counters.canaries_sent += 1
            # it opens our own NAT towards there: what comes back from there proves nothing any more
            engine.canary_targets.pop(address, None)
            while len(engine.canary_targets) >= _MAX_ORDERS:
                del engine.canary_targets[next(iter(engine.canary_targets))]
            engine.canary_targets[address] = None
            engine.send_packet(packets.canary(message.token), (number, address), None)
        else:
            self.counters.declined += 1
        self._send(control.live, HelpAnswer(message.token, Help.ORDER, done))

    def _is_known(self, host: str) -> bool:
        """Whether a session of ours runs to that host: then a canary from here proves nothing to it."""
        return any(
            path.address is not None and path.address.host == host
            for live in self._engine.all_live()
            for path in live.session.paths.values()
        )

    def _on_help_answer(self, control: Control, message: HelpAnswer) -> None:
        peer_id = control.live.peer.peer_id
        now = self._engine.now()
        if message.what in (Help.BINDING, Help.REVISIT):
            if self.bindings is not None:
                self.bindings.on_answer(peer_id, message)
            return
        if message.what is Help.ORDER:
            order = self._orders.pop((peer_id, message.token), None)
            if order is None or order.expires <= now:
                return
            if message.done:
                self._send(order.asker, HelpAnswer(message.token, Help.OTHER_PEER, True))
            else:
                self._order_next(order)
            return
        probes = self._probes if message.what is Help.REFLEX else self._helps
        probe = probes.match(peer_id, message.token, now, keep=True)
        waiting = self._waiting.get(probe.token) if probe is not None else None
        if waiting is None:
            return
        if message.what is Help.REFLEX:
            waiting.declined = True
        else:
            waiting.done = message.done
        waiting.event.set()
