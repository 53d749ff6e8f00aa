"""Ways to a peer: dialing it, keeping bootstrap sessions up, and finding another path when one fails."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import attrs
import trio

from ..addresses import Address, HostPort, MeshUri
from ..buckets import TokenBucket
from ..errors import AddressError, NodeClosedError, PeerUnreachableError
from ..identity import PeerId
from ..paths.path import Path, PathKey, PathKind
from ..routing.circuits import MAX_HOPS, CloseCircuit, OpenCircuit, RefusalReason
from ..routing.routes import RouteFinder
from ..routing.store import AnnouncementStore
from ..session.session import Session
from ..wire import frames
from .engine import Engine
from .handshakes import Dial
from .live import LiveSession

__all__ = ["Dialer"]

# Seconds between repetitions of an INIT: the first few close together, for they cost little and a loss costs much.
_RETRY = (0.25, 0.5, 1.0, 2.0)
_MAX_RELAYS = 3
# A node with more peers than this is a hub, and knows who leads where.
_FEW = 64
# Sessions for which another path is sought at once.  When a relay falters all of its sessions do.  After some rounds
# they take turns in fewer places: a peer that acknowledges nothing is sought for as long as it likes.
_MAX_SEARCHES = 64
_MAX_LATE_SEARCHES = 32
_LATE = 3
# Circuits that searches ask one relay for: somewhat less than it grants, so that dials have some left.  Late rounds
# leave half of that to first ones.
_SEARCHES_PER_SECOND = 6.0
_SEARCHES_BURST = 48.0
_BOOTSTRAP_DELAY = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_FAILOVER_RETRY = (0.3, 0.5, 1.0, 2.0)
# After so many rounds without an answer on any way, the peer may have restarted.
_PATIENCE = 3
_SILENCE = 1.0
_REDIAL_INTERVAL = 1.0
# The same while another program runs with our key: each handshake of ours ends its sessions, and it does likewise.
_QUARREL_INTERVAL = 30.0
_REGAIN = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, *(30.0,) * 60)


@attrs.frozen
class _Way:
    """What a caller knows about where a peer is."""

    addresses: tuple[HostPort, ...] = ()
    via: tuple[MeshUri, ...] = ()


class Dialer:
    """Opens sessions, over every way at once; the first answer wins."""

    def __init__(self, engine: Engine, store: AnnouncementStore, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._store = store
        self._routes = RouteFinder(store.graph, engine.peer_id)
        self._nursery = nursery
        self._ways: dict[PeerId, _Way] = {}
        self._searching: set[LiveSession] = set()
        self._searches = trio.Semaphore(_MAX_SEARCHES)
        # direct paths that were left and are asked again, each by one task
        self._regaining: dict[tuple[LiveSession, PathKey], trio.CancelScope] = {}
        self._late_searches = trio.Semaphore(_MAX_LATE_SEARCHES)
        self._search_budgets: dict[PeerId, TokenBucket] = {}
        self._redialed: dict[PeerId, float] = {}
        #: Nodes that we dial to have them relay.
        self._relaying: set[PeerId] = set()
        self.bootstrap_connected: trio.Event = trio.Event()
        engine.connect = self.connect
        engine.on_path_needed = self._need_path
        engine.on_lost_direct = self._lost_direct
        engine.on_circuit_unused = self._give_back
        engine.on_stranger = self._on_stranger

    # connecting

    async def connect(self, target: PeerId | MeshUri) -> None:
        """Have a session with the peer.  Raises PeerUnreachableError after ``connect_timeout``."""
        engine = self._engine
        peer_id = target if isinstance(target, PeerId) else target.peer_id
        learned = isinstance(target, MeshUri) and self._learn(target)
        peer = engine.peer(peer_id)
        engine.places.keep(peer)
        if peer.live is not None:
            return
        dial = engine.handshakes.dialing.get(peer_id)
        if dial is None:
            dial = self._start(peer_id)
        elif learned:
            dial.wake.set()
        await dial.done.wait()
        if peer.live is None:
            if engine.closing:
                raise NodeClosedError("the node was closed")
            why = f"{dial.address_error}, and {dial.error}" if dial.address_error else dial.error
            raise PeerUnreachableError(f"peer {peer_id.short} is not reachable now: {why}")

    def _learn(self, uri: MeshUri) -> bool:
        """Keep what a URI says; True if that is new."""
        before = self._ways.get(uri.peer_id)
        known = self._ways.pop(uri.peer_id, _Way())
        addresses = tuple(dict.fromkeys((*known.addresses, *((uri.address,) if uri.address else ()))))[-4:]
        via = tuple(dict.fromkeys((*known.via, *uri.via)))[-8:]
        while len(self._ways) >= 4096:
            del self._ways[next(iter(self._ways))]
        way = self._ways[uri.peer_id] = _Way(addresses, via)
        return way != before

    def _start(self, peer_id: PeerId) -> Dial:
        dial = self._engine.handshakes.start_dial(peer_id)
        self._nursery.start_soon(self._dial, dial)
        return dial

    async def _dial(self, dial: Dial) -> None:
        """One attempt: an INIT over every way, repeated until an answer or the deadline ends it."""
        engine = self._engine
        circuits: dict[PeerId, bytes] = {}
        try:
            with trio.move_on_after(engine.config.connect_timeout):
                await self._try_ways(dial, circuits)
        finally:
            engine.handshakes.drop_dial(dial)
            self._close_unused(circuits)

    async def _try_ways(self, dial: Dial, circuits: dict[PeerId, bytes]) -> None:
        engine = self._engine
        way = _Way()
        addresses: list[Address] = []
        refused: set[PeerId] = set()
        attempt = 0
        while not dial.done.is_set():
            dial.wake = trio.Event()
            known = self._ways.get(dial.peer_id, way)
            if known != way:
                addresses = await self._resolve(dial, known.addresses)
                for uri in known.via:
                    if uri.address is not None and uri not in way.via and engine.peer(uri.peer_id).live is None:
                        self._nursery.start_soon(self._meet_relay, uri, dial)
                way = known
                if dial.done.is_set():
                    return
            refused |= {relay for relay, circuit in circuits.items() if circuit not in engine.endpoints}
            for relay in refused:
                circuits.pop(relay, None)
            self._send_init(dial, addresses if attempt else self._first(dial, addresses), circuits, refused)
            with trio.move_on_after(_RETRY[min(attempt, len(_RETRY) - 1)]) as waited:
                await dial.wake.wait()
            if waited.cancelled_caught:
                attempt += 1
                relays = self._relays(dial.peer_id, set())
                if relays and not addresses and dial.denied.issuperset(relays):
                    return  # all of them know the way, none of them goes it for us
                refused.clear()  # a node that was not there a moment ago may be now

    def _close_unused(self, circuits: dict[PeerId, bytes]) -> None:
        """Give back the circuits that no session runs on."""
        engine = self._engine
        for relay, circuit in circuits.items():
            if circuit not in engine.riders and engine.endpoints.get(circuit) == relay:
                del engine.endpoints[circuit]
                self._give_back(circuit, relay)

    def _give_back(self, circuit: bytes, relay: PeerId) -> None:
        self._engine.note_closed(circuit, relay)
        live = self._engine.direct_session(relay)
        if live is not None:
            self._engine.send_control(live, frames.SUBPROTOCOL_CIRCUIT, CloseCircuit(circuit).encode())

    async def _resolve(self, dial: Dial, hosts: tuple[HostPort, ...]) -> list[Address]:
        found: list[Address] = []
        for host in hosts:
            if host.address is not None:
                found.append(host.address)
                continue
            try:
                found += await self._engine.network.resolve(host.host, host.port)
            except AddressError as error:
                dial.address_error = str(error)
        return found[:8]

    def _first(self, dial: Dial, addresses: list[Address]) -> list[Address]:
        """The addresses to begin with.  Of a node that relays those of IPv4, if it has any and we do: over them it sees
        what our NAT does.  Sessions with most others need no NAT where they have IPv6 at both ends."""
        if dial.peer_id not in self._relaying:
            return addresses
        old = [a for a in addresses if a.family == 4 and self._engine.socket_for(a) is not None]
        return old or addresses

    async def _meet_relay(self, uri: MeshUri, dial: Dial) -> None:
        self._relaying.add(uri.peer_id)
        try:
            await self.connect(uri)
        except NodeClosedError:
            return
        except PeerUnreachableError as error:
            dial.error = f"the relay {uri.peer_id.short} that its address names does not answer ({error})"
        dial.wake.set()

    def _send_init(
        self, dial: Dial, addresses: list[Address], circuits: dict[PeerId, bytes], refused: set[PeerId]
    ) -> None:
        engine = self._engine
        now = engine.now()
        relays = self._relays(dial.peer_id, refused)[:_MAX_RELAYS]
        if relays and not engine.config.direct and dial.peer_id not in self._relaying:
            addresses = []  # the program wants to stay on the relay
        silent = untried = ""
        for address in addresses:
            number = engine.socket_for(address)
            if number is None:
                wildcard = "[::]:0" if address.family == 6 else "0.0.0.0:0"
                untried = (
                    f"this node has no IPv{address.family} socket that could reach {address} (bind {wildcard}, too)"
                )
            else:
                key = (number, address)
                engine.send_packet(engine.handshakes.init_for(dial, key, now), key, None)
                silent = f"nobody answers at {address}"
        if silent or (untried and not dial.asked):
            dial.address_error = ", and ".join(filter(None, (silent, untried)))
        for relay in relays:
            circuit = circuits.get(relay)
            if circuit is None:
                circuit = circuits[relay] = engine.random_bytes(8)
            self._open_circuit(circuit, relay, dial.peer_id, engine.handshakes.init_for(dial, circuit, now))

    def _relays(self, target: PeerId, exclude: set[PeerId]) -> list[PeerId]:
        engine = self._engine
        hints = [uri.peer_id for uri in self._ways.get(target, _Way()).via]
        neighbors = self.neighbors_toward(target, hints)
        neighbors.pop(target, None)
        hops = self._routes.next_hops(target, neighbors, engine.now(), exclude=exclude | {target}, hints=hints)
        # to ask them is to ask the map: hubs know who is where, and any may have a session that nobody was told of yet
        hubs = self._store.graph.hubs
        rest = [p for p in neighbors if p not in hops and p not in exclude]
        rest.sort(key=lambda p: (p not in hubs, neighbors[p] or 9.0))
        return [h for h in hops if h != target] + rest

    def neighbors_toward(self, target: PeerId, hints: Iterable[PeerId] = ()) -> dict[PeerId, float | None]:
        """The neighbors that may lead to a peer, with the round-trip time to each: all while there are few; of many
        those that are hubs, or that the peer or the caller names.  The others are leaves of this very node."""
        engine = self._engine
        if len(engine.peers) <= _FEW:
            return engine.neighbors()
        announced = self._store.get(target)
        named = announced.relays if announced is not None else ()
        hubs = self._store.graph.hubs.keys() & engine.peers.keys()  # looks at as many as the smaller of the two has
        return engine.neighbors((*hints, *named, *hubs))

    def _open_circuit(self, circuit_id: bytes, relay: PeerId, target: PeerId, packet: bytes) -> None:
        engine = self._engine
        live = engine.direct_session(relay)
        if live is None:
            return
        engine.endpoints[circuit_id] = relay
        message = OpenCircuit(circuit_id, target, MAX_HOPS, packet)
        engine.send_control(live, frames.SUBPROTOCOL_CIRCUIT, message.encode())

    def circuit_refused(self, circuit_id: bytes, reason: str) -> None:
        """A circuit that we asked for leads nowhere."""
        engine = self._engine
        relay = engine.endpoints.get(circuit_id)
        if reason == RefusalReason.UNKNOWN_SESSION.value:
            for live in engine.riders.get(circuit_id, ()):
                self._redial(live.peer.peer_id)
        for dial in engine.handshakes.dialing.values():
            if circuit_id in dial.asked:
                if reason == RefusalReason.POLICY.value and relay is not None:
                    dial.denied.add(relay)
                dial.error = {
                    "not-here": "no connected node leads to it",
                    "policy": "the nodes that lead to it do not relay for us",
                    "budget": "the relay has no room for another circuit now",
                }.get(reason, f"the relay refused ({reason})")
                dial.wake.set()
        engine.circuit_closed(circuit_id)

    # other paths

    def _need_path(self, live: LiveSession) -> None:
        if live not in self._searching:
            self._searching.add(live)
            self._nursery.start_soon(self._search, live)

    async def _search(self, live: LiveSession) -> None:
        """Until the session has a path that answers, or is over: circuits over other relays, with a challenge of the
        running session as the first packet."""
        circuits: dict[PeerId, bytes] = {}
        attempt = 0
        try:
            while not self._has_path(live.session):
                # a place is for one round: others need one, too
                async with self._searches if attempt < _LATE else self._late_searches:
                    await self._search_round(live, attempt, circuits)
                attempt += 1
        finally:
            self._searching.discard(live)

    @staticmethod
    def _has_path(session: Session) -> bool:
        """Whether there is nothing to look for."""
        path = session.path
        if session.closed is not None:
            return True
        return path is not None and path.usable and not path.suspect and not path.pto_count

    async def _search_round(self, live: LiveSession, attempt: int, circuits: dict[PeerId, bytes]) -> None:
        engine = self._engine
        session = live.session
        target = session.peer_id
        asked = set() if attempt else self._challenge_others(live)
        due = self._retry_at(session, attempt)
        while not self._has_path(session):
            silent = {p.via for p in session.paths.values() if p.via is not None and (p.suspect or p.pto_count)}
            refused = {relay for relay, circuit in circuits.items() if circuit not in engine.endpoints}
            relays = self._relays(target, silent | (refused if attempt < 2 else set()))
            if not relays or attempt >= 2:
                relays += [r for r in self._relays(target, set()) if r not in relays]
            for relay in relays[:_MAX_RELAYS]:
                if relay not in asked:
                    asked.add(relay)
                    if self._may_ask(relay, late=attempt >= _LATE):
                        self._try_circuit(live, relay, circuits)
            if attempt >= _PATIENCE or (circuits and refused.issuperset(circuits)):
                self._redial_silent(live)
            with trio.move_on_at(due):
                await live.peer.wait_change()
                continue
            return

    def _may_ask(self, relay: PeerId, *, late: bool) -> bool:
        """Whether a search may ask a relay for one more circuit."""
        now = self._engine.now()
        budget = self._search_budgets.get(relay)
        if budget is None:
            for other in [r for r, b in self._search_budgets.items() if b.is_full(now)]:
                del self._search_budgets[other]
            budget = self._search_budgets[relay] = TokenBucket(_SEARCHES_PER_SECOND, _SEARCHES_BURST)
        if late and budget.available(now) < _SEARCHES_BURST / 2:
            return False
        return budget.take(now)

    def _retry_at(self, session: Session, attempt: int) -> float:
        delay = _FAILOVER_RETRY[min(attempt, len(_FAILOVER_RETRY) - 1)]
        if session.path is not None:
            delay = max(delay, 1.5 * session.path.rtt.smoothed)
        return self._engine.now() + delay

    def _challenge_others(self, live: LiveSession) -> set[PeerId]:
        """Ask on the paths that the session already has beside the present one; return the relays on them."""
        session = live.session
        asked: set[PeerId] = set()
        for path in session.paths.values():
            if path is not session.path and path.usable:
                session.queue_challenge(path, self._engine.now())
                if path.via is not None:
                    asked.add(path.via)
        live.drive()
        return asked

    def _lost_direct(self, live: LiveSession, path: Path) -> None:
        scope = trio.CancelScope()
        former = self._regaining.pop((live, path.key), None)
        if former is not None:
            former.cancel()
        self._regaining[live, path.key] = scope
        self._nursery.start_soon(self._regain, live, path, scope)

    async def _regain(self, live: LiveSession, path: Path, scope: trio.CancelScope) -> None:
        """Ask on a direct path that was left, now and then: what was in its way may pass.  A session on the way over
        others makes a node no neighbor, and such a relay carries nothing."""
        try:
            with scope:
                for delay in _REGAIN:
                    with trio.move_on_after(delay):
                        while self._misses(live, path):
                            await live.peer.wait_change()
                    if not self._misses(live, path):
                        return
                    live.session.queue_challenge(path, self._engine.now())
                    live.drive()
        finally:
            if self._regaining.get((live, path.key)) is scope:
                del self._regaining[live, path.key]

    @staticmethod
    def _misses(live: LiveSession, path: Path) -> bool:
        """Whether a session could use a direct path that it left: it has no other."""
        session = live.session
        if session.closed is not None or session.paths.get(path.key) is not path:
            return False
        present = session.path
        return present is None or present.kind is not PathKind.DIRECT or present.suspect

    def _try_circuit(self, live: LiveSession, relay: PeerId, circuits: dict[PeerId, bytes]) -> None:
        engine = self._engine
        session = live.session
        circuit = circuits.get(relay)
        if circuit is None or circuit not in engine.endpoints:
            circuit = circuits[relay] = engine.random_bytes(8)
        now = engine.now()
        path = engine.add_path(live, circuit, relay, now)
        self._open_circuit(circuit, relay, session.peer_id, session.challenge(path, now))
        live.drive()

    def _on_stranger(self, live: LiveSession) -> None:
        """Somebody says that the peer does not know a session.  Anybody can say so: shake hands, and ask in the session
        itself.  Only if the handshake is answered and the question is not, its end must have got lost."""
        session = live.session
        newest = live.peer.live
        if newest is None or newest is live or session.last_received >= newest.session.created:
            self._redial(live.peer.peer_id)
            return
        if session.path is not None and session.path.pto_count:
            session.end("closed", "its end got lost")
        else:
            session.ping()
        live.drive()

    def _redial_silent(self, live: LiveSession) -> None:
        session = live.session
        rtt = session.path.rtt.smoothed if session.path is not None else 0.0
        if self._engine.now() - session.last_received > max(_SILENCE, 3 * rtt):
            self._redial(session.peer_id)

    def _redial(self, peer_id: PeerId) -> None:
        """Shake hands anew beside a session that may be dead: if the peer restarted, this is how it is noticed."""
        engine = self._engine
        now = engine.now()
        interval = _QUARREL_INTERVAL if engine.key_in_use() else _REDIAL_INTERVAL
        if peer_id in engine.handshakes.dialing or now < self._redialed.get(peer_id, -interval) + interval:
            return
        if len(self._redialed) > 1024:
            self._redialed.clear()
        self._redialed[peer_id] = now
        for live in engine.peer(peer_id).sessions:
            path = live.session.path
            if path is not None and path.address is not None:
                self._learn(MeshUri(peer_id, HostPort(*path.address)))
        with suppress(PeerUnreachableError):  # no room for another session now
            self._start(peer_id)

    # bootstrap

    async def keep_bootstrap(self, uri: MeshUri) -> None:
        """Keep a session with a bootstrap node, for as long as the node runs."""
        engine = self._engine
        self._relaying.add(uri.peer_id)
        peer = engine.peer(uri.peer_id)
        failures = 0
        while True:
            try:
                await self.connect(uri)
            except NodeClosedError:
                return
            except PeerUnreachableError as error:
                if not failures:
                    engine.log.warning(
                        "bootstrap node %s cannot be reached, trying on: %s", uri.peer_id.short, error, peer=uri.peer_id
                    )
                delay = _BOOTSTRAP_DELAY[min(failures, len(_BOOTSTRAP_DELAY) - 1)]
                failures += 1
                await trio.sleep(delay)
                continue
            failures = 0
            self.bootstrap_connected.set()
            while peer.live is not None:
                await peer.wait_change()
            if engine.key_in_use():
                await trio.sleep(_QUARREL_INTERVAL)
