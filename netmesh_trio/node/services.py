"""Services by name: who listens for streams, and who reads datagrams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

import trio

from ..errors import AddressError, ServiceInUseError
from ..events import Event, EventsLost
from ..identity import PeerId
from ..wire.hello import service_tag
from .leaving import closed_error

if TYPE_CHECKING:
    from .streams import Stream

__all__ = ["MAX_SERVICE_NAME", "Datagram", "Listener", "Services", "encode_service"]

MAX_SERVICE_NAME = 64
# Datagrams of one service that wait to be read, and their bytes: one batch of packets may hold thousands of small ones.
_MAX_WAITING = 16384
_MAX_WAITING_BYTES = 4 << 20
_OVERHEAD = 64
_SHOWN = 32  # bytes of a datagram in its repr


@lru_cache(maxsize=256)
def encode_service(service: str) -> bytes:
    """The bytes of a service name.  Raises AddressError unless it has 1 to 64 bytes of UTF-8."""
    if not isinstance(service, str):
        raise TypeError(f"a service is named by text, not {type(service).__name__}")
    try:
        name = service.encode()
    except UnicodeEncodeError:
        raise AddressError(f"service name {service!r} is not text that UTF-8 can carry") from None
    if not 1 <= len(name) <= MAX_SERVICE_NAME:
        raise AddressError(f"service name {service!r} has {len(name)} bytes; use 1 to {MAX_SERVICE_NAME}")
    return name


class Datagram(NamedTuple):
    """An unreliable datagram that came in; also a pair of its two fields."""

    #: Who sent it; authenticated.
    peer_id: PeerId
    #: What :meth:`Peer.send_datagram` was given.
    payload: bytes

    def __repr__(self) -> str:
        shown = repr(self.payload[:_SHOWN]) + ("..." if len(self.payload) > _SHOWN else "")
        return f"<Datagram from {self.peer_id.short}, {len(self.payload)} bytes: {shown}>"


class Listener(trio.abc.Listener["Stream"]):
    """Accepts the streams that peers open for one service; fits :func:`trio.serve_listeners`."""

    def __init__(self, service: str, backlog: int, on_close: Callable[[], None]) -> None:
        #: The name served.
        self.service = service
        self._on_close = on_close
        self._node_closed = False
        self._send, self._receive = trio.open_memory_channel["Stream"](backlog)

    def __repr__(self) -> str:
        return f"<Listener for {self.service!r}>"

    async def accept(self) -> Stream:
        """The next stream.

        Raises ClosedResourceError once the listener is closed: NodeClosedError, which is one, if the node was.
        """
        try:
            return await self._receive.receive()
        except trio.ClosedResourceError:
            if self._node_closed:
                raise closed_error() from None
            raise trio.ClosedResourceError(f"this listener for {self.service!r} was closed") from None

    async def aclose(self) -> None:
        """Serve the name no longer; streams that nobody accepted are reset."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint."""
        self._on_close()
        while True:
            try:
                self._receive.receive_nowait().reset()
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                break
        self._receive.close()
        self._send.close()

    def end(self) -> None:
        """The node is closing.  (For the node.)"""
        self._node_closed = True
        self.close()

    def offer(self, stream: Stream) -> bool:
        """Hand over a stream; False when the backlog is full."""
        try:
            self._send.send_nowait(stream)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True


class _DatagramQueue:
    """What waits to be read for one name, bounded in number and in bytes."""

    __slots__ = ("_bytes", "_channel", "_sizes")

    def __init__(self, channel: trio.MemorySendChannel[Datagram]) -> None:
        self._channel: trio.MemorySendChannel[Datagram] = channel
        self._sizes: deque[int] = deque()
        self._bytes: int = 0

    @property
    def in_use(self) -> bool:
        """Whether somebody may still read."""
        return self._channel.statistics().open_receive_channels > 0

    def put(self, datagram: Datagram) -> bool:
        """False if there is no room."""
        size = len(datagram.payload) + _OVERHEAD
        if self._bytes + size > _MAX_WAITING_BYTES:
            # what was read meanwhile went out at the front
            waiting = self._channel.statistics().current_buffer_used
            while len(self._sizes) > waiting:
                self._bytes -= self._sizes.popleft()
            if self._bytes + size > _MAX_WAITING_BYTES:
                return False
        try:
            self._channel.send_nowait(datagram)
        except trio.WouldBlock:
            return False
        self._sizes.append(size)
        self._bytes += size
        return True

    def close(self) -> None:
        """Nothing more comes."""
        self._channel.close()


class Services:
    """The names that a node serves."""

    def __init__(self, backlog: int, on_change: Callable[[], None]) -> None:
        self._backlog = backlog
        self._on_change = on_change
        self._listeners: dict[bytes, Listener] = {}
        self._datagrams: dict[bytes, _DatagramQueue] = {}
        self._closed = False
        self.dropped_datagrams: int = 0
        self.refused_streams = 0
        self.version: int = 0

    def tags(self) -> tuple[bytes, ...]:
        """The :func:`service_tag` of every name that streams may be opened for."""
        return tuple(service_tag(name.decode()) for name in self._listeners)

    def listen(self, service: str) -> Listener:
        """Serve a name."""
        if self._closed:
            raise closed_error()
        name = encode_service(service)
        if name in self._listeners:
            raise ServiceInUseError(f"this node already listens for {service!r}; close that listener first")

        def on_close() -> None:
            if self._listeners.get(name) is listener:
                del self._listeners[name]
                self._changed()

        listener = Listener(service, self._backlog, on_close)
        self._listeners[name] = listener
        self._changed()
        return listener

    def _changed(self) -> None:
        self.version += 1
        self._on_change()

    def listener(self, name: bytes) -> Listener | None:
        """Who serves a name."""
        return self._listeners.get(name)

    def datagrams(self, service: str) -> trio.MemoryReceiveChannel[Datagram]:
        """Read the datagrams for a name."""
        if self._closed:
            raise closed_error()
        name = encode_service(service)
        known = self._datagrams.get(name)
        if known is not None and known.in_use:
            raise ServiceInUseError(f"this node already reads datagrams for {service!r}; close that channel first")
        send, receive = trio.open_memory_channel[Datagram](_MAX_WAITING)
        self._datagrams[name] = _DatagramQueue(send)
        return receive

    def deliver(self, peer_id: PeerId, name: bytes, payload: bytes) -> None:
        """A datagram came in."""
        queue = self._datagrams.get(name)
        if queue is not None:
            try:
                if queue.put(Datagram(peer_id, payload)):
                    return
            except trio.BrokenResourceError:
                del self._datagrams[name]
        self.dropped_datagrams += 1

    def close(self) -> None:
        """The node is closing.  What still comes in while it says goodbye is refused, or dropped and counted."""
        self._closed = True
        for listener in list(self._listeners.values()):
            listener.end()
        for queue in self._datagrams.values():
            queue.close()
        self._datagrams.clear()


class Broadcast:
    """Events to any number of readers, each with a bounded buffer of its own that loses its oldest."""

    def __init__(self) -> None:
        # weak, so that a reader that somebody dropped costs nothing
        self._readers: WeakSet[EventReader] = WeakSet()
        self._ended = False

    def emit(self, event: Event) -> None:
        """Give an event to every reader."""
        for reader in self._readers:
            reader.put(event)

    def open(self, capacity: int = 256) -> EventReader:
        """A reader of the events from now on."""
        reader = EventReader(capacity)
        if self._ended:
            reader.end()
        self._readers.add(reader)
        return reader

    def close(self) -> None:
        """No more events."""
        self._ended = True
        for reader in list(self._readers):
            reader.end()


class EventReader:
    """An async iterator of events.  A reader that is too slow loses the oldest and is told how many."""

    def __init__(self, capacity: int) -> None:
        self._buffer: deque[Event] = deque()
        self._capacity = capacity
        self._lost = 0
        self._ended = False
        self._wake = trio.Event()

    def put(self, event: Event) -> None:
        """Add an event."""
        if len(self._buffer) >= self._capacity:
            self._buffer.popleft()
            self._lost += 1
        self._buffer.append(event)
        self._wake.set()

    def end(self) -> None:
        """No more events come."""
        self._ended = True
        self._wake.set()

    def __aiter__(self) -> EventReader:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._buffer and not self._ended:
            if self._wake.is_set():  # else another task waits for it, too
                self._wake = trio.Event()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(count=lost)
        if not self._buffer:
            raise StopAsyncIteration
        return self._buffer.popleft()
