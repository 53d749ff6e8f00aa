"""A peer as a program sees it.

What only reads may be called from another thread (:mod:`netmesh_trio.anyio` does): it looks at each attribute once, and
copies a container, in one step, before it goes through it.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import trio

from ..errors import DatagramTooLargeError, NodeClosedError, PeerUnreachableError
from ..events import PathKind, PathReport
from ..identity import PeerId
from ..octets import octets
from ..paths.path import Path
from ..session.streams import DEFAULT_PRIORITY
from ..stats import PeerStats
from ..traversal.errors import TraversalError, UnsupportedError
from ..wire.hello import service_tag
from .services import encode_service

if TYPE_CHECKING:
    from .engine import Engine
    from .live import LiveSession
    from .streams import Stream

__all__ = ["Peer"]


class Peer:
    """Another node, known by its key.  The object lasts: when a session ends, the next use opens another."""

    def __init__(self, engine: Engine, peer_id: PeerId) -> None:
        self._engine = engine
        #: Its identity.
        self.peer_id = peer_id
        #: Its sessions, newest last; usually one.  (For the node.)
        self.sessions: list[LiveSession] = []
        #: The session for new streams.  (For the node.)
        self.live: LiveSession | None = None
        #: Whether this node asked for a session with it, rather than the peer alone.  (For the node.)
        self.wanted: bool = False
        #: Why the last attempt at a direct path failed.  (For the node.)
        self.failure: TraversalError | None = None
        #: What the program was last told of where its data goes: session and path.  (For the node.)
        self.told: tuple[LiveSession, Path] | None = None
        config = engine.config
        told_to_stay = not (config.direct and config.traversal.enabled)
        self._stays = UnsupportedError("this node was told to stay on the relay") if told_to_stay else None
        self._changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        path = self.path
        if path is None:
            return f"<Peer {self.peer_id.short}, not connected>"
        return f"<Peer {self.peer_id.short}, {path}>"

    # for the program

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self.live is not None

    @property
    def path(self) -> PathReport | None:
        """The path that data takes now; None without a session."""
        live = self.live
        path = live.session.path if live is not None else None
        return None if path is None else self.report(path)

    @property
    def why_not_direct(self) -> TraversalError | None:
        """Why data takes a relay, as far as that is known: the failure of a mere optimization.

        None on a direct path, without a session, and while nothing has failed yet in the networks that the two are in.
        """
        live = self.live
        path = live.session.path if live is not None else None
        if path is None or path.kind is PathKind.DIRECT:
            return None
        return self.failure or self._stays

    async def wait_direct(self) -> PathReport:
        """Wait until data takes a direct path; it may take for ever, and data flows over the relay meanwhile."""
        await trio.lowlevel.checkpoint()
        while True:
            report = self.path
            if report is not None and report.kind is PathKind.DIRECT:
                return report
            if self._engine.closing:
                raise NodeClosedError("the node was closed")
            await self.wait_change()

    def paths(self) -> list[PathReport]:
        """All paths that are known to work, the present one first."""
        live = self.live
        if live is None:
            return []
        session = live.session
        known = sorted(session.paths.values(), key=lambda p: p is not session.path)
        return [self.report(p) for p in known if p.usable and not p.suspect]

    async def open_stream(self, service: str, *, priority: int = DEFAULT_PRIORITY) -> Stream:
        """Open a stream to a service of the peer, over whatever path there is.

        It returns at once when the peer is known to serve the name; otherwise the peer is asked first, which takes
        a round trip.  ``priority`` 0 to 7 shares out the session's bandwidth; no stream waits for ever.

        Raises ServiceNotFoundError, PeerUnreachableError, SessionClosedError, NodeClosedError.
        """
        name = encode_service(service)
        priority = operator.index(priority)
        if not 0 <= priority <= 7:
            raise ValueError(f"priority is {priority}; give 0 (last) to 7 (first)")
        await trio.lowlevel.checkpoint()
        live = await self._connected()
        stream_id = live.session.open_stream(priority)
        while stream_id is None:
            await self.wait_change()
            live = await self._connected()
            stream_id = live.session.open_stream(priority)
        stream = live.add_stream(stream_id, service)
        live.session.write(stream_id, bytes((len(name),)) + name)
        if service_tag(service) in live.remote_services:
            live.drive_later()  # so that the name and what the program writes first share a packet
            return stream
        live.drive()
        try:
            while not stream.accepted:
                if self._engine.closing:
                    raise NodeClosedError("the node was closed")
                if live.session.closed is not None or stream_id not in live.session.streams.sending:
                    raise stream.broken()
                if live.session.streams.sending[stream_id].stop_code is not None:
                    raise stream.broken()
                await self.wait_change()
        except BaseException:  # also when cancelled: nobody else has the stream
            stream.reset()
            raise
        return stream

    def send_datagram(self, service: str, data: bytes | bytearray | memoryview) -> None:
        """Send an unreliable datagram to a service of the peer: at most once, in any order, never waiting.

        Raises DatagramTooLargeError if it does not fit into one packet, PeerUnreachableError without a session,
        NodeClosedError.
        """
        name = encode_service(service)
        live = self.live
        if live is None:
            if self._engine.closing:
                raise NodeClosedError("the node was closed")
            raise PeerUnreachableError(f"no session with {self.peer_id.short}; connect first")
        data = octets(data)
        room = live.session.max_datagram_payload - len(name)
        if len(data) > room:
            raise DatagramTooLargeError(f"a datagram of {len(data)} bytes; {room} fit on the present path")
        live.session.send_datagram(name, bytes(data))
        live.drive_message(0)

    @property
    def max_datagram_size(self) -> int:
        """Bytes that a datagram to a service with a short name may have on the present path; 0 without a session."""
        live = self.live
        return 0 if live is None else max(0, live.session.max_datagram_payload - 16)

    def statistics(self) -> PeerStats:
        """A frozen snapshot of the counters of the present sessions."""
        sessions = [live.session for live in self.sessions]
        stats = [session.stats for session in sessions]
        return PeerStats(
            sessions=len(sessions),
            streams=sum(len(session.streams.sending.keys() | session.streams.receiving.keys()) for session in sessions),
            packets_received=sum(s.packets_received for s in stats),
            packets_sent=sum(s.packets_sent for s in stats),
            packets_lost=sum(s.packets_lost for s in stats),
            bytes_received=sum(s.bytes_received for s in stats),
            bytes_sent=sum(s.bytes_sent for s in stats),
            dropped_forged=sum(s.dropped_forged for s in stats),
            dropped_replayed=sum(s.dropped_replayed for s in stats),
            dropped_invalid=sum(s.dropped_invalid for s in stats),
            unsent_control=sum(s.control_dropped for s in stats),
            unsent_datagrams=sum(s.datagrams_dropped for s in stats),
        )

    async def aclose(self) -> None:
        """End the sessions with the peer; its streams break on both sides."""
        for live in sorted(self.sessions, key=lambda live: live is self.live):  # or another would take over first
            live.why_closed = "ended"
            live.session.close(0, "", self._engine.now())
            live.drive()
        await trio.lowlevel.checkpoint()

    # for the node

    def report(self, path: Path) -> PathReport:
        """A path as a program sees it; with the present one, why it is not direct."""
        live = self.live
        present = live is not None and live.session.path is path
        return PathReport(
            kind=path.kind,
            addr=path.address,
            via=path.via,
            rtt=path.rtt.smoothed if path.rtt.samples else None,
            error=self.why_not_direct if present else None,
        )

    def choose(self) -> None:
        """Decide which session new streams use."""
        best: LiveSession | None = None
        for live in self.sessions:
            if best is None or self._engine.prefers(live.session, best.session):
                best = live
        for live in self.sessions:
            live.retired = live is not best
            if live.retired:
                live.drive_later()  # it ends in a while, if nothing keeps it
        self.live = best

    async def _connected(self) -> LiveSession:
        if self.live is not None:
            return self.live
        if self._engine.closing:
            raise NodeClosedError("the node was closed")
        await self._engine.connect(self.peer_id)
        live = self.live
        if live is None:
            raise PeerUnreachableError(f"the session with {self.peer_id.short} ended as it began; try again")
        return live

    async def wait_change(self) -> None:
        """Wait for the next change: a session, a path, a stream that was accepted.  (For the node.)"""
        await self._changed.park()

    def wake(self) -> None:
        """Something about the peer changed: a session, a path, a stream that was accepted."""
        if self._changed:
            self._changed.unpark_all()
