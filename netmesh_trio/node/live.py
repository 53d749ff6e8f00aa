"""A session in a running node: drives it, and hands what it reports to tasks, streams and handlers."""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import TYPE_CHECKING

from ..errors import SessionClosedError
from ..events import PathKind
from ..paths.rtt import MAX_ACK_DELAY
from ..session.events import (
    Closed,
    ControlReceived,
    DatagramReceived,
    PathActive,
    PathQuiet,
    PathSuspect,
    PathValidated,
    StreamArrived,
    StreamsAllowed,
    StreamStopped,
)
from ..session.session import Session
from ..wire import frames
from ..wire.hello import MAX_SERVICE_TAGS
from .bursts import ENOUGH, ENOUGH_DATAGRAMS, GAP
from .services import MAX_SERVICE_NAME
from .streams import CODE_BACKLOG_FULL, CODE_NO_SERVICE, Stream
from .timers import Scheduled

if TYPE_CHECKING:
    from .engine import Engine
    from .peer import Peer

__all__ = ["LiveSession"]

# Batches that a session sends before others get a turn.
_TURN = 8
_SERVICES = struct.Struct(">I")


class LiveSession(Scheduled):
    """One session and what hangs on it."""

    __slots__ = (
        "_driving",
        "_message_at",
        "_services_version",
        "_unnamed",
        "bursting",
        "circuits",
        "engine",
        "peer",
        "remote_services",
        "retired",
        "searched",
        "session",
        "streams",
        "touched",
        "why_closed",
    )

    def __init__(self, engine: Engine, session: Session, peer: Peer) -> None:
        super().__init__()
        self.engine: Engine = engine
        self.session: Session = session
        self.peer: Peer = peer
        self.streams: dict[int, Stream] = {}
        #: The circuits that it runs or ran on; see :attr:`Engine.riders`.
        self.circuits: dict[bytes, None] = {}
        #: Streams of the peer's whose service name has not wholly arrived.
        self._unnamed: dict[int, bytearray] = {}
        self.remote_services: set[bytes] = set(session.remote.service_tags)
        self._services_version = 0
        #: Another session with the peer took over; this one ends when its streams do.
        self.retired: bool = False
        #: A direct path was looked for, or there.
        self.searched: bool = False
        #: Something came in since it was driven.
        self.touched: bool = False
        #: Something waits in :class:`~netmesh_trio.node.bursts.Bursts`.
        self.bursting: bool = False
        self._driving = False
        self._message_at = float("-inf")
        #: Why it is over, if we know better than the session: ``restarted``, ``left`` (the node was closed), ``ended``
        #: (by this node, which goes on).
        self.why_closed: str | None = None

    def __repr__(self) -> str:
        return f"<LiveSession {self.session!r}>"

    @property
    def relayed(self) -> bool:
        """Whether its data takes a relay now."""
        path = self.session.path
        return path is not None and path.kind is PathKind.RELAYED

    @property
    def household(self) -> Hashable:
        """Whom to take the peer for one with, by the path that data takes now."""
        session = self.session
        path = session.path or next(iter(session.paths.values()), None)
        return self.peer.peer_id if path is None else self.engine.household(self.peer.peer_id, path)

    @property
    def reason(self) -> str:
        """Why it is over, as in :class:`~netmesh_trio.SessionClosedError`."""
        closed = self.session.closed
        why = self.why_closed or (closed.why if closed is not None else "closed")
        return "closed" if why in ("left", "ended") else why

    def closed_error(self) -> SessionClosedError:
        """What a stream of this session raises now that it is over."""
        closed = self.session.closed
        why = self.why_closed or (closed.why if closed else "closed")
        text = {
            "closed": f"peer {self.peer.peer_id.short} closed the session",
            "restarted": f"peer {self.peer.peer_id.short} restarted",
            "timeout": f"peer {self.peer.peer_id.short} does not answer",
            "protocol": f"the session with peer {self.peer.peer_id.short} broke the protocol",
            "left": "this node was closed",
            "fault": f"the session with peer {self.peer.peer_id.short} met a fault in netmesh_trio, see its log",
            "ended": f"this node closed the session with peer {self.peer.peer_id.short}",
        }[why]
        if closed is not None and closed.detail:
            text += f" ({closed.detail})"
        return SessionClosedError(text, self.reason)

    def drive(self, now: float | None = None, *, timeout: bool = False) -> None:
        """Send what may be sent, handle what was reported, and set the timer; ``now``, if the caller knows it.

        ``timeout``: a deadline may have passed.
        """
        if self._driving:
            self.drive_later()
            return
        self._driving = True
        self.touched = False
        engine = self.engine
        session = self.session
        if now is None:
            now = engine.now()
        if self.bursting:
            self.bursting = False
            self._message_at = now  # the last of them came a few turns ago at most
            engine.bursts.over(self)
        try:
            if timeout and session.next_deadline() <= now:
                session.on_timeout(now)
            for _ in range(_TURN):
                batch = session.transmit(now)
                if batch is None:
                    more = False
                    break
                engine.send(batch)
            else:
                more = True
            told = bool(session.events)
            while session.events:
                self._handle_events(now)
            if session.readable:
                self._wake_readers()
            if session.drained:
                for stream_id in session.drained:
                    stream = self.streams.get(stream_id)
                    if stream is not None:
                        stream.wake_writer()
                        if not stream.accepted:
                            self._maybe_accepted(stream_id, stream)
                session.drained.clear()
        except Exception:  # noqa: BLE001 - a fault, whatever it is, that must not end other sessions
            engine.contain(self)
            more, told = False, True
        finally:
            self._driving = False
        if session.closed is None:
            if more or session.events:
                engine.timers.set(self, now)
            elif told or timeout or self.deadline > now + MAX_ACK_DELAY or session.hurries:
                # otherwise what is new is due later than what the timer is set for, which looks again
                engine.timers.set(self, session.next_deadline())
            if self.retired and not self.streams and not self._unnamed:
                engine.end_retired(self)

    def drive_message(self, unsent: int) -> None:
        """The program sent a message, and ``unsent`` bytes are waiting now: drive, at once or after a burst of them."""
        engine = self.engine
        session = self.session
        little = unsent < ENOUGH and len(session.out.datagrams) < ENOUGH_DATAGRAMS
        if little and self.bursting:
            engine.bursts.add(self)
            return
        now = engine.now()
        follows = now < self._message_at + GAP
        self._message_at = now
        path = session.path
        if little and follows and path is not None and path.eliciting_in_flight:
            self.bursting = True
            engine.bursts.add(self)
        else:
            self.drive(now)

    def wake_readers_first(self) -> bool:
        """Wake the readers of what came in, if nothing else is to be done about it; False if there is.

        :meth:`drive` may then wait until they had their turn.
        """
        session = self.session
        if not session.readable or self._unnamed or not session.is_idle(self.engine.now()):
            return False
        try:
            self._wake_readers()
        except Exception:  # noqa: BLE001 - a fault, whatever it is, that must not end other sessions
            self.engine.contain(self)
        return True

    def _wake_readers(self) -> None:
        readable = self.session.readable
        while readable:
            stream_id = readable.pop()
            stream = self.streams.get(stream_id)
            if stream is not None:
                stream.wake_reader()
                if stream_id not in self.session.streams.receiving:
                    del self.streams[stream_id]
                    stream.wake_writer()
            elif stream_id in self._unnamed:
                self._read_name(stream_id)

    def _handle_events(self, now: float) -> None:
        session = self.session
        events = session.events
        session.events = []
        engine = self.engine
        for event in events:
            if isinstance(event, DatagramReceived):  # first: there may be very many
                engine.services.deliver(session.peer_id, event.service, event.payload)
            elif isinstance(event, ControlReceived):
                if event.subprotocol == frames.SUBPROTOCOL_SERVICES:
                    self._receive_services(event.payload)
                else:
                    engine.dispatch_control(self, event)
            elif isinstance(event, StreamArrived):
                self._unnamed[event.stream_id] = bytearray()
                session.readable.add(event.stream_id)
            elif isinstance(event, StreamStopped):
                stream = self.streams.get(event.stream_id)
                if stream is not None:
                    stream.refused(event.code)
                    self.peer.wake()
            elif isinstance(event, StreamsAllowed):
                self.peer.wake()
            elif isinstance(event, PathActive):
                engine.path_active(self, event)
            elif isinstance(event, PathValidated):
                engine.path_validated(self, event.path)
            elif isinstance(event, PathQuiet):
                engine.path_quiet(self, event.path)
            elif isinstance(event, PathSuspect):
                engine.path_suspect(self, event.path)
            elif isinstance(event, Closed):
                engine.session_closed(self)

    def _maybe_accepted(self, stream_id: int, stream: Stream) -> None:
        # the peer tells the window of a stream once it has found a taker
        if stream_id in self.session.streams.accepted:
            self.session.streams.accepted.discard(stream_id)
            stream.accepted = True
            self.peer.wake()

    # services

    def tell_services(self) -> None:
        """Tell the peer which services there are."""
        services = self.engine.services
        tags = services.tags()[:MAX_SERVICE_TAGS]
        payload = _SERVICES.pack(services.version) + b"".join(tags)
        self.session.send_control(frames.SUBPROTOCOL_SERVICES, payload)

    def _receive_services(self, payload: bytes) -> None:
        if len(payload) < 4 or (len(payload) - 4) % 8 or len(payload) > 4 + 8 * MAX_SERVICE_TAGS:
            self.engine.counters.invalid_control += 1
            return
        version = _SERVICES.unpack_from(payload)[0]
        # control messages may overtake each other
        if version >= self._services_version:
            self._services_version = version
            self.remote_services = {payload[at : at + 8] for at in range(4, len(payload), 8)}

    # streams

    def add_stream(self, stream_id: int, service: str) -> Stream:
        """The stream object for an open stream."""
        stream = Stream(self, stream_id, service)
        self.streams[stream_id] = stream
        return stream

    def _read_name(self, stream_id: int) -> None:
        """The peer's stream begins with the length of the service name and the name."""
        session = self.session
        name = self._unnamed[stream_id]
        receive = session.streams.receiving.get(stream_id)
        if receive is None or receive.reset_code is not None:
            self._refuse(stream_id, CODE_NO_SERVICE)
            return
        if not name:
            name += session.read(stream_id, 1)
            if not name:
                if receive.at_end:
                    self._refuse(stream_id, CODE_NO_SERVICE)
                return
            if not 1 <= name[0] <= MAX_SERVICE_NAME:
                self._refuse(stream_id, CODE_NO_SERVICE)
                return
        while len(name) <= name[0]:
            part = session.read(stream_id, 1 + name[0] - len(name))
            if not part:
                if receive.at_end:
                    self._refuse(stream_id, CODE_NO_SERVICE)
                return
            name += part
        if stream_id not in session.streams.receiving:
            del self._unnamed[stream_id]  # the peer reads no answer, and sends nothing but the name
            return
        service = bytes(name[1:])
        listener = self.engine.services.listener(service)
        if listener is None:
            self._refuse(stream_id, CODE_NO_SERVICE)
            return
        del self._unnamed[stream_id]
        if not listener.offer(self.add_stream(stream_id, listener.service)):
            del self.streams[stream_id]
            self._refuse(stream_id, CODE_BACKLOG_FULL)
            return
        session.accept_stream(stream_id)
        self.drive_later()

    def _refuse(self, stream_id: int, code: int) -> None:
        self._unnamed.pop(stream_id, None)
        self.engine.services.refused_streams += 1
        session = self.session
        receive = session.streams.receiving.get(stream_id)
        session.stop_stream(stream_id, code)
        session.reset_stream(stream_id, code)
        if receive is not None and receive.at_end:
            session.read(stream_id, 1)
        self.drive_later()

    def drive_later(self) -> None:
        """Drive again soon: something was queued while driving."""
        self.engine.timers.set(self, self.engine.now())

    def wake_all(self) -> None:
        """The session is over: every task waiting on a stream of it is to see that."""
        for stream in list(self.streams.values()):
            stream.wake_reader()
            stream.wake_writer()
        self.streams.clear()
        self._unnamed.clear()
