"""The socket loop of a node: who gets which packet, what goes out where, which sessions there are.

Synchronous throughout: datagrams, timers and calls of the program come in, packets go out, and what takes time is
left to tasks that read memory channels.  The loop never waits for a handler.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from weakref import WeakValueDictionary

import attrs
import trio

from ..addresses import Address
from ..config import NodeConfig
from ..errors import PeerUnreachableError
from ..events import PathChanged, PathKind, PeerConnected, PeerDisconnected
from ..identity import Identity, PeerId
from ..paths.path import DirectKey, Path, PathKey
from ..session.events import ControlReceived, PathActive
from ..session.outgoing import Transmit
from ..session.session import CLOSE_NORMAL, Session, SessionTimes
from ..session.workspace import Workspace
from ..traversal.classify import Classifier, LocalAddresses, NatState
from ..traversal.stats import TraversalStats
from ..wire import packets
from .bursts import Bursts
from .controls import Control, ControlQueue
from .endpoints import Endpoints
from .handshakes import Handshakes
from .households import household
from .live import LiveSession
from .log import NodeLog
from .network import Network, UdpSocket
from .peer import Peer
from .places import SessionPlaces
from .services import Broadcast, Services
from .timers import Timers

__all__ = ["COURTESY", "Control", "Counters", "Engine"]

#: Seconds that a node waits with what it tells and asks a new neighbor on its own account: the program speaks first.
COURTESY = 0.002

_READS = 16  # batches taken from a socket before other tasks get a turn
# Seconds without anything to read after which a datagram of fewer bytes is taken to have come alone.
_PAUSE = 2e-5
_SMALL = 1000
# Turns of the event loop that a program has to answer before its session is looked after.  Tasks run in any order in
# a turn, so its task, woken in this one, has run before the second is over.
_ANSWER_TURNS = 2
_CONTROL_BUFFER = 256
_OBSERVED_INTERVALS = 3.0  # for so long what peers saw of our NAT counts
_MAX_CLOSED = 1024
_SPARE_SESSIONS = 3
_MAX_SPARE_SESSIONS = 15
#: Seconds that a session which another replaced stays, for streams that the peer opens on it meanwhile.
_OVERLAP = 10.0

_unpack_index = struct.Struct("<I").unpack_from


@attrs.define
class Counters:
    """What a node counts beside what its sessions count."""

    dropped_unknown: int = 0
    dropped_handshake: int = 0
    dropped_control: int = 0
    unknown_subprotocol: int = 0
    invalid_control: int = 0
    internal_errors: int = 0
    key_conflicts: int = 0
    # of sessions that are over
    packets_received: int = 0
    packets_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    dropped_forged: int = 0
    dropped_replayed: int = 0
    dropped_invalid: int = 0
    control_dropped: int = 0
    datagrams_dropped: int = 0


#: Counters of sessions that a node sums up.
_SUMMED = (
    *("packets_received", "packets_sent", "bytes_received", "bytes_sent"),
    *("dropped_forged", "dropped_replayed", "dropped_invalid", "control_dropped", "datagrams_dropped"),
)


async def _nobody(peer_id: PeerId) -> None:
    raise PeerUnreachableError(f"this node does not dial {peer_id.short}")


def _why_changed(before: LiveSession, old: Path, live: LiveSession) -> str:
    """Why data left the path ``old`` of one session for a path of ``live``; as in :class:`PathChanged`."""
    if old.failed or before.session.closed is not None:
        return "gone"
    if old.suspect:
        return "silent"
    if before is not live:
        return "session"
    # the side that opened a session chooses among paths that work
    return "better" if live.session.initiator else "followed"


class Engine:
    """State and loops of one node."""

    def __init__(self, identity: Identity, config: NodeConfig, network: Network) -> None:
        self.identity = identity
        self.peer_id: PeerId = identity.peer_id
        self.log: NodeLog = NodeLog(identity.peer_id)
        self.config = config
        self.network = network
        #: The time of the trio clock; asked for several times a packet, so without the way through the run's context.
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.random_bytes: Callable[[int], bytes] = os.urandom
        self.network_key: bytes = bytes(config.network_key) if config.network_key is not None else bytes(32)
        self.boot_id: bytes = self.random_bytes(8)
        self.sockets: list[UdpSocket] = []
        self.counters: Counters = Counters()
        self.services: Services = Services(config.backlog, self._services_changed)
        self.events: Broadcast = Broadcast()
        self.timers: Timers[LiveSession] = Timers(self._on_timer)
        self.bursts: Bursts = Bursts()
        self.sessions: dict[int, LiveSession] = {}
        #: Sessions so far, those that are over included.
        self.sessions_had: int = 0
        self.by_remote: dict[int, LiveSession] = {}
        #: Peers with a session.
        self.peers: dict[PeerId, Peer] = {}
        # all that anybody still holds: a peer that comes back is the same object
        self._known_peers: WeakValueDictionary[PeerId, Peer] = WeakValueDictionary()
        #: Circuits that end at this node: id to the neighbor that carries it.
        self.endpoints: Endpoints = Endpoints()
        #: The sessions that run, or ran, on each of them; usually one.
        self.riders: dict[bytes, list[LiveSession]] = {}
        #: Circuits that ended lately: messages about them may still come, and their ids are not used again.
        self.closed_circuits: dict[bytes, PeerId] = {}
        self.handlers: dict[int, ControlQueue] = {}
        self.times: SessionTimes = SessionTimes(
            keep_alive=config.keep_alive,
            dead_peer=config.dead_peer_timeout,
            rekey=config.rekey_interval,
        )
        #: Seconds between keep-alives: the program's, or fewer if the NAT forgets sooner.
        self.keep_alive: float = config.keep_alive
        self.closing = False
        #: Where sessions make their batches.
        self.workspace: Workspace = Workspace()
        self.traversal: TraversalStats = TraversalStats()
        #: What peers see of the NAT that this node is behind, gathered by :mod:`netmesh_trio.node.classifying`.
        self.classifier: Classifier = Classifier(
            LocalAddresses(()),
            lifetime=_OBSERVED_INTERVALS * max(config.traversal.classify_interval, 30.0),
            override=config.traversal.reflex_override,
        )
        #: What is announced of it.
        self.nat_state: NatState = self.classifier.state
        #: Where canaries for others went, oldest first.
        self.canary_targets: dict[Address, None] = {}
        #: Handshakes under way, in both directions.
        self.handshakes: Handshakes = Handshakes(self)
        #: Whose the sessions are that peers opened.
        self.places: SessionPlaces = SessionPlaces(self)
        self._touched: list[LiveSession] = []
        # what other rooms of the node do; set by them
        self.relay: Callable[[int, memoryview, int], None] = lambda *_: None
        self.carries: Callable[[PeerId], bool] = lambda _: False
        self.on_neighbors_changed: Callable[[], None] = lambda: None
        self.on_new_session: Callable[[LiveSession], None] = lambda _: None
        self.on_new_neighbor: Callable[[LiveSession], None] = lambda _: None
        self.on_neighbor_gone: Callable[[PeerId], None] = lambda _: None
        self.on_path_needed: Callable[[LiveSession], None] = lambda _: None
        self.on_lost_direct: Callable[[LiveSession, Path], None] = lambda *_: None
        self.on_circuit_unused: Callable[[bytes, PeerId], None] = lambda *_: None
        self.on_stranger: Callable[[LiveSession], None] = lambda _: None
        self.on_turned_direct: Callable[[LiveSession], None] = lambda _: None
        self.on_path_changed: Callable[[LiveSession, Path], None] = lambda *_: None
        self.on_network_changed: Callable[[], None] = lambda: None
        self.on_peer_moved: Callable[[PeerId], None] = lambda _: None
        self.on_leave: Callable[[], None] = lambda: None
        self.on_canary_untrusted: Callable[[bytes, int, Address], None] = lambda *_: None
        self.connect: Callable[[PeerId], Awaitable[object]] = _nobody
        #: Whether another program is known to run with our key now.
        self.key_in_use: Callable[[], bool] = lambda: False

    # loops

    async def receive_loop(self, number: int) -> None:
        """Read one socket for ever."""
        socket = self.sockets[number]
        while True:
            since = self.now()
            await socket.wait_readable()
            paused = self.now() - since > _PAUSE
            for _ in range(_READS):
                received = socket.receive_nowait()
                if received is None:
                    break
                self.on_datagrams(number, *received)
                if paused and len(received[0]) < _SMALL:
                    # most likely it came alone, and to see that there is nothing else takes time
                    await self._let_answer()
                    break
            self.drive_touched()

    async def _let_answer(self) -> None:
        """What came in waits for a program only: let that go first.  If it answers, the answer drives the session."""
        for live in self._touched:
            if not live.wake_readers_first():
                return
        turns = _ANSWER_TURNS
        while turns and any(live.touched for live in self._touched):
            turns -= 1
            await trio.lowlevel.cancel_shielded_checkpoint()

    def drive_touched(self) -> None:
        """Drive every session that got something, and was not driven since."""
        touched = self._touched
        self._touched = []
        for live in touched:
            if live.touched:
                live.drive()

    def touch(self, live: LiveSession) -> None:
        """Drive the session at the end of this turn of the socket loop."""
        if not live.touched:
            live.touched = True
            self._touched.append(live)

    def _on_timer(self, live: LiveSession, now: float) -> None:
        if live.session.closed is None:
            live.drive(now, timeout=True)

    # receiving

    def on_datagrams(self, number: int, data: memoryview, stride: int, source: Address) -> None:
        """A batch of datagrams from one source came in on socket ``number``."""
        while data and not self.closing:
            used = self._on_batch_untrusted(number, data, stride, source)
            if used >= len(data):
                return
            data = data[used:]

    def _on_batch_untrusted(self, number: int, data: memoryview, stride: int, source: Address) -> int:
        """Handle the packets at the front that belong together; return how many bytes that was."""
        kind = data[0]
        size = min(stride, len(data))
        if kind == packets.DATA:
            if size <= packets.DATA_OVERHEAD:
                self.counters.dropped_unknown += 1
                return size
            return self._on_data(data, 0, stride, (number, source), None)
        if kind == packets.CIRCUIT:
            if size <= packets.CIRCUIT_HEADER_SIZE:
                self.counters.dropped_unknown += 1
                return size
            return self._on_circuit(number, data, stride)
        self.handshakes.receive_untrusted(kind, bytes(data[:size]), (number, source), None)
        return size

    def _on_circuit(self, number: int, data: memoryview, stride: int) -> int:
        circuit_id = bytes(data[4:12])
        via = self.endpoints.find(circuit_id)
        if via is None:
            run = stride
            total = len(data)
            while run < total and data[run + 4 : run + 12] == circuit_id and data[run] == packets.CIRCUIT:
                run += stride
            run = min(run, total)
            self.relay(number, data[:run], stride)
            return run
        size = min(stride, len(data))
        if data[12] == packets.DATA and size > packets.CIRCUIT_HEADER_SIZE + packets.DATA_OVERHEAD:
            return self._on_data(data, packets.CIRCUIT_HEADER_SIZE, stride, circuit_id, via)
        self.handshakes.receive_untrusted(data[12], bytes(data[12:size]), circuit_id, via)
        return size

    def _on_data(self, data: memoryview, skip: int, stride: int, key: PathKey, via: PeerId | None) -> int:
        index = _unpack_index(data, skip + 4)[0]
        live = self.sessions.get(index)
        now = self.now()
        if live is None:
            live = self.handshakes.confirm(index, data, skip, stride, key, via, now)
            if live is None:
                return min(stride, len(data))
        session = live.session
        path = session.paths.get(key)
        if path is None:
            path = self._new_path(live, data, skip, stride, key, via, now)
            if path is None:
                return min(stride, len(data))
        try:
            used = session.receive(data, skip, stride, path, now)
        except Exception:  # noqa: BLE001 - a fault, whatever it is, that must not end other sessions
            self.contain(live)
            return min(stride, len(data))
        if not live.touched:
            live.touched = True
            self._touched.append(live)
        return used or min(stride, len(data))

    def _new_path(
        self, live: LiveSession, data: memoryview, skip: int, stride: int, key: PathKey, via: PeerId | None, now: float
    ) -> Path | None:
        """A packet came on a path that the session does not know: it gets one if the packet is authentic."""
        if not live.session.authentic(data[skip : min(stride, len(data))]):
            live.session.stats.dropped_forged += 1
            return None
        return self.add_path(live, key, via, now, unasked=True)

    # sessions

    def peer(self, peer_id: PeerId) -> Peer:
        """The object that stands for a peer."""
        peer = self.peers.get(peer_id) or self._known_peers.get(peer_id)
        if peer is None:
            peer = self._known_peers[peer_id] = Peer(self, peer_id)
        return peer

    def wake_peers(self) -> None:
        """Wake all who wait for a change of any peer."""
        for peer in list(self._known_peers.values()):
            peer.wake()

    def adopt(self, session: Session) -> LiveSession:
        """A session is up.  Decides which of several with one peer is the one for new streams."""
        peer = self.peer(session.peer_id)
        session.keep_alive = self.keep_alive
        live = LiveSession(self, session, peer)
        self.sessions[session.local_index] = live
        self.sessions_had += 1
        # the peer chose the index: it must not be able to take the place of another's, so the first one stays
        self.by_remote.setdefault(session.remote_index, live)
        for key in session.paths:
            self._ride(live, key)
        for other in list(peer.sessions):
            if other.session.remote.boot_id != session.remote.boot_id:
                other.why_closed = "restarted"
                other.session.close(CLOSE_NORMAL, "", self.now())
                other.session.out.abandon()
                self.session_closed(other)
            else:
                other.session.encourage(self.now())
                other.drive_later()
        peer.sessions.append(live)
        self.places.enter(live)
        self.peers[peer.peer_id] = peer
        peer.choose()
        self._limit_sessions(peer)
        live.tell_services()
        self.tell_path(peer)
        peer.wake()
        dial = self.handshakes.dialing.get(peer.peer_id)
        if dial is not None:
            self.handshakes.drop_dial(dial)
        return live

    def _limit_sessions(self, peer: Peer) -> None:
        """A peer keeps a few sessions beside the one for new streams, and more only while streams are on them."""
        spare = [other for other in peer.sessions if other is not peer.live]
        idle = [other for other in spare if not other.session.streams.sending]
        surplus = idle[: max(0, len(spare) - _SPARE_SESSIONS)]
        for other in surplus or spare[: max(0, len(spare) - _MAX_SPARE_SESSIONS)]:
            self.end_session(other, "too many sessions")

    def end_session(self, live: LiveSession, detail: str) -> None:
        """End a session on this node's own account, and tell the peer."""
        live.why_closed = "ended"
        live.session.close(CLOSE_NORMAL, detail, self.now())
        live.drive()
        self.session_closed(live)

    def prefers(self, a: Session, b: Session) -> bool:
        """Whether ``a`` rather than ``b`` is the session for new streams; both ends come to the same answer."""
        newer = (a.local.ordinal + a.remote.ordinal) - (b.local.ordinal + b.remote.ordinal)
        if newer:
            return newer > 0
        if a.initiator == b.initiator:
            return a.created > b.created
        opener = self.peer_id if a.initiator else a.peer_id
        return opener == max(self.peer_id, a.peer_id)

    def end_retired(self, live: LiveSession) -> None:
        """A session that another replaced has no streams; it ends when the peer's are sure to be on the other, too."""
        successor = live.peer.live
        end = _OVERLAP + (successor.session.created if successor is not None else live.session.created)
        if self.now() > end:
            live.session.close(CLOSE_NORMAL, "", self.now())
            live.drive()
        else:
            self.timers.set(live, end + 0.001)

    def session_closed(self, live: LiveSession) -> None:
        """A session is over: forget it and tell everybody who waits for it."""
        session = live.session
        if self.sessions.pop(session.local_index, None) is None:
            return
        if self.by_remote.get(session.remote_index) is live:
            del self.by_remote[session.remote_index]
        self.handshakes.responder.forget(session.local_index)
        self.timers.forget(live)
        self.bursts.over(live)
        self.places.leave(live)
        for name in _SUMMED:
            setattr(self.counters, name, getattr(self.counters, name) + getattr(session.stats, name))
        peer = live.peer
        was = peer.live
        peer.sessions.remove(live)
        peer.choose()
        live.wake_all()
        unused = []
        for circuit_id in live.circuits:
            riders = self.riders[circuit_id]
            riders.remove(live)
            if not riders:
                del self.riders[circuit_id]
                unused.append(circuit_id)
        live.circuits.clear()
        # last: it drives sessions with relays, one of which may end over it and close circuits in turn
        for circuit_id in unused:
            relay = self.endpoints.pop(circuit_id, None)
            if relay is not None:
                self.on_circuit_unused(circuit_id, relay)
        if peer.live is not None:
            self.tell_path(peer)
        elif was is live:
            if peer.told is not None:
                peer.told = None
                reason = live.reason
                self.log.info("%s is disconnected: %s", peer.peer_id.short, reason, peer=peer.peer_id)
                self.events.emit(PeerDisconnected(peer_id=peer.peer_id, reason=reason))
            self.on_neighbor_gone(peer.peer_id)
        if not peer.sessions:
            self.peers.pop(peer.peer_id, None)
        peer.wake()
        self.on_neighbors_changed()

    def contain(self, live: LiveSession) -> None:
        """A session raised what nobody foresaw, which is a fault of this library: it ends, and all others go on.  To be
        called while the exception is handled."""
        self.counters.internal_errors += 1
        peer_id = live.peer.peer_id
        self.log.exception("the session with %s ends by a fault in netmesh_trio", peer_id.short, peer=peer_id)
        live.why_closed = "fault"
        live.session.end("fault", "")
        live.session.events.clear()
        self.session_closed(live)

    # paths

    def add_path(
        self, live: LiveSession, key: PathKey, via: PeerId | None, now: float, *, unasked: bool = False
    ) -> Path:
        """The path of that key of a session, made if need be; see :meth:`Session.add_path`."""
        self._ride(live, key)
        return live.session.add_path(key, via, now, unasked=unasked)

    def _ride(self, live: LiveSession, key: PathKey) -> None:
        if isinstance(key, bytes) and key not in live.circuits:
            live.circuits[key] = None
            self.riders.setdefault(key, []).append(live)

    def path_active(self, live: LiveSession, event: PathActive) -> None:
        """A session's data takes another path."""
        path, old = event
        if old is not None and (old.suspect or old.failed):
            self.traversal.record_path_failover()
        self.places.enter(live)
        turned_direct = path.kind is PathKind.DIRECT and (old is None or old.kind is PathKind.RELAYED)
        if turned_direct:
            self.on_turned_direct(live)
        if live.peer.live is live:
            self.tell_path(live.peer)
        if old is not None and old.kind is PathKind.DIRECT and path.kind is PathKind.RELAYED:
            self.on_lost_direct(live, old)
        if old is None and path.kind is PathKind.RELAYED:
            self.on_new_session(live)
        if turned_direct:
            self.on_new_neighbor(live)
        self.on_neighbors_changed()
        live.peer.wake()

    def tell_path(self, peer: Peer) -> None:
        """Another session with a peer, or another path of it, is the present one: tell the program if its data takes
        another way than it was last told, whichever of the two brought that about."""
        live = peer.live
        path = live.session.path if live is not None else None
        if live is None or path is None or self.closing:
            return  # the next path is compared with what was told
        told = peer.told
        peer.told = live, path
        self.on_path_changed(live, path)
        report = peer.report(path)
        if told is None:
            self.log.info("%s is connected, %s", peer.peer_id.short, report, peer=peer.peer_id, path=report)
            self.events.emit(PeerConnected(peer_id=peer.peer_id, path=report))
            return
        before, old = told
        if before is not live and (path.address, path.via) == (old.address, old.via):
            return  # two sessions on one way
        if path is not old:
            reason = _why_changed(before, old, live)
            self.log.info("%s is now %s (%s)", peer.peer_id.short, report, reason, peer=peer.peer_id, path=report)
            self.events.emit(PathChanged(peer_id=peer.peer_id, path=report, reason=reason))

    def path_validated(self, live: LiveSession, path: Path) -> None:
        """The peer answered on a path."""
        live.peer.wake()

    def path_suspect(self, live: LiveSession, path: Path) -> None:
        """The path of a session does not answer: find another."""
        if path.kind is PathKind.DIRECT and not path.suspect and not path.failed:
            self._ask_relays(live)
            return
        if live.session.closed is None:
            self.on_path_needed(live)
        # whatever else runs over the same relay is likely to be in the same trouble
        self._ask_relay(path)

    def path_quiet(self, live: LiveSession, path: Path) -> None:
        """A flow to us stopped: perhaps because our address is another now, which peer and relays have yet to learn."""
        if path.kind is PathKind.DIRECT:
            self._ask_relays(live)
        else:
            self._ask_relay(path)

    def _ask_relay(self, path: Path) -> None:
        """Ask the relay of a path for a sign of life."""
        relay = self.direct_session(path.via) if path.via is not None else None
        if relay is not None:
            relay.session.ping()
            relay.drive_later()

    def _ask_relays(self, live: LiveSession) -> None:
        """A direct path was silent once: ask on the circuits beside it.  Their relays are asked, too, for if our NAT
        gave us another address they have to learn it before they can pass on anything."""
        session = live.session
        for path in session.paths.values():
            if path.via is not None and path.usable:
                session.queue_challenge(path, self.now())
                self._ask_relay(path)
        live.drive_later()

    def note_closed(self, circuit_id: bytes, neighbor: PeerId) -> None:
        """A circuit over a neighbor is over, whoever ended it."""
        while len(self.closed_circuits) >= _MAX_CLOSED:
            del self.closed_circuits[next(iter(self.closed_circuits))]
        self.closed_circuits[circuit_id] = neighbor

    def circuit_closed(self, circuit_id: bytes) -> None:
        """A relay says that a circuit which ends here is no more."""
        via = self.endpoints.pop(circuit_id, None)
        if via is None:
            return
        now = self.now()
        riders = self.riders.pop(circuit_id, [])
        for live in riders:
            del live.circuits[circuit_id]
        for live in riders:
            path = live.session.paths.get(circuit_id)
            if path is not None:
                live.session.remove_path(path, now)
                live.drive()

    def neighbors(self, among: Iterable[PeerId] | None = None) -> dict[PeerId, float | None]:
        """Peers with a session on a direct path that answers, and the round-trip time to each; all, or those *among*
        the given ones."""
        peers = self.peers if among is None else [peer_id for peer_id in among if peer_id in self.peers]
        found: dict[PeerId, float | None] = {}
        for peer_id in peers:
            live = self.peers[peer_id].live
            if live is not None:
                path = live.session.path
                if path is not None and path.kind is PathKind.DIRECT and not path.suspect:
                    found[peer_id] = path.rtt.smoothed if path.rtt.samples else None
        return found

    def household(self, peer_id: PeerId, path: Path) -> Hashable:
        """Whom to take a peer on that path for one with."""
        return self.household_at(peer_id, path.key, path.via, proven=path.validated)

    def household_at(self, who: Hashable, key: PathKey, via: PeerId | None, *, proven: bool) -> Hashable:
        """The same for a path that belongs to no session yet; see :mod:`netmesh_trio.node.households`."""
        carrier = self.carrier(via)
        return household(who, key, via, None if carrier is None else carrier[1], proven=proven)

    def direct_session(self, peer_id: PeerId) -> LiveSession | None:
        """The session with a neighbor, if it runs on a direct path."""
        peer = self.peers.get(peer_id)
        live = peer.live if peer is not None else None
        if live is None:
            return None
        path = live.session.path
        return live if path is not None and path.kind is PathKind.DIRECT else None

    # sending

    def carrier(self, neighbor: PeerId | None) -> DirectKey | None:
        """Where packets on a circuit with a neighbor go: the direct path of the session with it.

        While that session itself prefers a relay, the direct path that was heard last: it may be slow, not dead, and
        circuits have no other.
        """
        peer = self.peers.get(neighbor) if neighbor is not None else None
        live = peer.live if peer is not None else None
        if live is None:
            return None
        path = live.session.path
        if path is None:
            return None
        if not isinstance(path.key, bytes):
            return path.key
        paths = live.session.paths.values()
        left = {p.last_received: p.key for p in paths if not isinstance(p.key, bytes) and p.usable}
        return left[max(left)] if left else None

    def send(self, batch: Transmit) -> None:
        """Put a session's datagrams on their path."""
        path, pieces, size, _ = batch
        key = self.carrier(path.via) if isinstance(path.key, bytes) else path.key
        if key is not None:  # otherwise lost, as on any network; the session notices
            self.sockets[key[0]].send(pieces, size, key[1])

    def send_packet(self, packet: bytes, key: PathKey, via: PeerId | None) -> None:
        """Send one packet that belongs to no session."""
        if isinstance(key, bytes):
            packet = packets.circuit_header(key) + packet
            carrier = self.carrier(via)
        else:
            carrier = key
        if carrier is not None:
            self.sockets[carrier[0]].send((packet,), len(packet), carrier[1])

    def socket_for(self, address: Address) -> int | None:
        """Which socket reaches an address: the first of its family."""
        for number, socket in enumerate(self.sockets):
            if socket.address.family == address.family:
                return number
        return None

    # control

    def open_handler(self, subprotocol: int) -> ControlQueue:
        """A bounded queue of the messages of one subprotocol, for the task that handles them."""
        queue = self.handlers[subprotocol] = ControlQueue(_CONTROL_BUFFER)
        return queue

    def dispatch_control(self, live: LiveSession, event: ControlReceived) -> None:
        """Give a control message to its handler; a full queue drops and counts."""
        queue = self.handlers.get(event.subprotocol)
        if queue is None:
            self.counters.unknown_subprotocol += 1
            live.session.stats.unknown_controls += 1
        elif not queue.put_nowait(Control(live, event.payload, event.path)):
            self.counters.dropped_control += 1

    def send_control(self, live: LiveSession, subprotocol: int, payload: bytes) -> bool:
        """Send a control message and drive."""
        if live.session.closed is not None or not live.session.send_control(subprotocol, payload):
            return False
        live.drive()
        return True

    def _services_changed(self) -> None:
        for live in list(self.sessions.values()):
            live.tell_services()
            live.drive()

    def all_live(self) -> Sequence[LiveSession]:
        """Every session."""
        return list(self.sessions.values())
