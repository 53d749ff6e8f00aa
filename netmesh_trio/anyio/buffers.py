"""What crosses between a task on asyncio and the trio thread: bounded, in order, without a task or a wake-up for each.

Each queue has one side that appends and one that takes, and each number one side that writes it, so under the GIL
neither needs a lock.  A side that has to wait says so first, and looks once more before it waits; the other side
changes first and then looks whether somebody waits.  So no wake-up is lost, and none is sent to who does not wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
import anyio.lowlevel
import trio

from ..errors import NetmeshError, SessionClosedError
from ..node import streams
from ..octets import octets
from .ports import anyio_errors

if TYPE_CHECKING:
    from .bridge import Bridge

__all__ = ["BridgedBytes", "Feed", "Sink", "Waiter"]

T = TypeVar("T")

# Bytes between the two loops, each way and stream; and in one piece.  Pieces of 64 KiB take half as much time again.
_LIMIT = 512 * 1024
_PIECE = 256 * 1024
_CLOSED = "this node was closed"


class Waiter:
    """A task on asyncio, at most one, waits for the trio thread."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._future: asyncio.Future[None] | None = None
        self._waking = False

    async def wait(self, is_due: Callable[[], bool]) -> None:
        """(asyncio) Wait until woken, or not at all if it is due already."""
        self._future = self._bridge.loop.create_future()
        self._bridge.waiting.add(self)
        try:
            if not is_due():
                await self._future
        finally:
            self._bridge.waiting.discard(self)
            self._future = None

    def wake_from_trio(self) -> None:
        """(trio) Something changed."""
        if self._future is not None and not self._waking:
            self._waking = True
            self._bridge.tell(self.wake)

    def wake(self) -> None:
        """(asyncio) Something changed."""
        self._waking = False
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Feed(Generic[T]):
    """From trio to asyncio: a task on trio receives items, as long as there is room for them."""

    def __init__(
        self,
        bridge: Bridge,
        close: Callable[[], object],
        ended: type[Exception],
        dispose: Callable[[T], object] | None,
        limit: int,
    ) -> None:
        self._bridge = bridge
        self._close = close
        self._ended = ended
        self._dispose = dispose
        self._limit = limit
        self._queue: deque[T] = deque()
        self._end: Exception | None = None
        self._given = 0  # written by trio
        self._taken = 0  # written by asyncio
        self._full = False
        self._room = trio.lowlevel.ParkingLot()
        self._pumping: trio.CancelScope | None = None
        self._waiter = Waiter(bridge)
        self._receiving = False
        self._closed = False

    def weigh(self, item: T) -> int:
        """What an item counts of the limit."""
        return 1

    # trio

    def _start(self, open_source: Callable[[], Callable[[], Awaitable[T]]]) -> None:
        if not self._bridge.start(self._pump, open_source):
            self._end = self._ended(_CLOSED)
            self._waiter.wake_from_trio()

    async def _pump(self, open_source: Callable[[], Callable[[], Awaitable[T]]]) -> None:
        end = self._ended(_CLOSED)
        try:
            with trio.CancelScope() as self._pumping, anyio_errors("receiving from"):
                receive = open_source()
                if self._closed:
                    self._close()
                    self._pumping.cancel()
                while True:
                    item = await receive()
                    self._queue.append(item)
                    self._given += self.weigh(item)
                    self._waiter.wake_from_trio()
                    while self._given - self._taken >= self._limit:
                        self._full = True
                        if self._has_room:
                            break
                        await self._room.park()
        except (NetmeshError, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            end = error
        finally:
            self._end = end
            self._waiter.wake_from_trio()
            if self._closed:
                self._throw_away()

    def _stop(self) -> None:
        self._close()
        if self._pumping is not None:
            self._pumping.cancel()
        if self._end is not None:
            self._throw_away()

    def _throw_away(self) -> None:
        while self._queue:
            item = self._queue.popleft()
            if self._dispose is not None:
                self._dispose(item)

    # asyncio

    def start(self, open_source: Callable[[], Callable[[], Awaitable[T]]]) -> None:
        """Begin to receive."""
        if not self._bridge.post(lambda: self._start(open_source)):
            self._end = self._ended(_CLOSED)

    @property
    def _has_room(self) -> bool:
        return self._given - self._taken <= self._limit // 2

    async def wait(self) -> None:
        """Wait until there is an item.  Raises what ended the feed once there will be none."""
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        self._receiving = True
        try:
            if self._is_due():
                await anyio.lowlevel.checkpoint()
            while True:
                if self._closed:
                    raise anyio.ClosedResourceError
                end = self._end  # looked at before the queue: what came before the end is not missed
                if self._queue:
                    return
                if end is not None:
                    raise end.with_traceback(None)
                if self._bridge.ended.is_set():  # it broke down, and said no more
                    raise self._ended(_CLOSED)
                await self._waiter.wait(self._is_due)
        finally:
            self._receiving = False

    def _is_due(self) -> bool:
        return bool(self._queue) or self._end is not None or self._closed

    def first(self) -> T:
        """The item that :meth:`wait` waited for."""
        return self._queue[0]

    def take(self) -> T:
        """Take it."""
        item = self._queue.popleft()
        self._taken += self.weigh(item)
        if self._full and self._has_room:
            self._full = False
            self._bridge.post(self._room.unpark_all)
        return item

    async def receive(self) -> T:
        """The next item.  Cancelled, it has taken none."""
        await self.wait()
        return self.take()

    def close(self) -> None:
        """Take no more."""
        if not self._closed:
            self._closed = True
            self._bridge.post(self._stop)
            self._waiter.wake()

    async def aclose(self) -> None:
        """As :meth:`close`, with a checkpoint."""
        self.close()
        await anyio.lowlevel.checkpoint()


class _ByteFeed(Feed[bytes]):
    def weigh(self, item: bytes) -> int:
        return len(item)


_EOF: Final = "eof"


class Sink:
    """From asyncio to trio: the bytes of one stream.  What was taken over is sent, also after :meth:`close`."""

    def __init__(self, bridge: Bridge, stream: streams.Stream) -> None:
        self._bridge = bridge
        self._stream = stream
        self._queue: deque[bytes | str] = deque()
        self._given = 0  # written by asyncio
        self._taken = 0  # written by trio
        self._scheduled = False
        self._blocked = False
        self._waiter = Waiter(bridge)
        self._error: Exception | None = None
        self._sending = False
        self._eof = False
        self._closed = False

    # asyncio

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over; waits while too much was that the node did not take."""
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        self._sending = True
        try:
            await anyio.lowlevel.checkpoint()
            data = octets(data)
            size = len(data)
            if size <= _PIECE:
                await self._hand_over(bytes(data))
            else:
                view = memoryview(data)
                for at in range(0, size, _PIECE):
                    await self._hand_over(bytes(view[at : at + _PIECE]))
        finally:
            self._sending = False

    async def _hand_over(self, piece: bytes) -> None:
        while True:
            self._check()
            if self._given - self._taken < _LIMIT:
                break
            if self._bridge.ended.is_set():
                raise SessionClosedError(_CLOSED)
            await self._waiter.wait(self._is_due)
        self._given += len(piece)
        self._put(piece)

    def _is_due(self) -> bool:
        return self._has_room or self._error is not None or self._closed

    @property
    def _has_room(self) -> bool:
        return self._given - self._taken <= _LIMIT // 2

    def _check(self) -> None:
        if self._closed or self._eof:
            raise anyio.ClosedResourceError
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _put(self, item: bytes | str) -> None:
        self._queue.append(item)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if not self._bridge.post(self._drain_soon):
                self._error = SessionClosedError(_CLOSED)

    async def send_eof(self) -> None:
        """Nothing more comes."""
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise anyio.ClosedResourceError
        if not self._eof:
            if self._error is not None:
                raise self._error.with_traceback(None)
            self._eof = True
            self._put(_EOF)

    def close(self) -> None:
        """Close the stream once everything is handed over, which waits for nothing."""
        if not self._closed:
            self._closed = True
            self._schedule()
            self._waiter.wake()

    # trio

    def _drain_soon(self) -> None:
        self._scheduled = False
        if not self._blocked or self._closed:
            self._drain(at_least_one=False)

    def _drain(self, *, at_least_one: bool) -> None:
        closed = self._closed  # looked at before the queue: what came before the close is not missed
        while self._queue:
            if not (at_least_one or closed or self._stream.has_room):
                if not self._blocked:
                    self._blocked = self._bridge.start(self._wait_for_room)
                return
            at_least_one = False
            item = self._queue.popleft()
            try:
                with anyio_errors("sending to"):
                    if isinstance(item, str):
                        self._stream.push_eof()
                    else:
                        self._taken += len(item)
                        self._stream.push(item)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                self._error = error
            self._waiter.wake_from_trio()
        if closed:
            self._stream.close()

    async def _wait_for_room(self) -> None:
        self._bridge.blocked.add(self)
        try:
            while self._queue:
                await self._stream.wait_send_all_might_not_block()
                self._drain(at_least_one=True)  # which raises what broke the stream, if it did
        except trio.ClosedResourceError:
            pass
        finally:
            self._blocked = False
            self._bridge.blocked.discard(self)


class BridgedBytes:
    """The bytes of a stream of the trio thread."""

    def __init__(self, bridge: Bridge, stream: streams.Stream) -> None:
        self._bridge = bridge
        self._stream = stream
        self._feed = _ByteFeed(bridge, lambda: None, SessionClosedError, None, _LIMIT)
        self._sink = Sink(bridge, stream)
        self._at = 0
        self._started = False

    def _source(self) -> Callable[[], Awaitable[bytes]]:
        async def receive() -> bytes:
            data = await self._stream.receive_some(_LIMIT)
            if not data:
                raise anyio.EndOfStream
            return data

        return receive

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes."""
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if not self._started:
            self._started = True
            self._feed.start(self._source)
        await self._feed.wait()
        chunk = self._feed.first()
        data = chunk[self._at : self._at + max_bytes]
        self._at += len(data)
        if self._at == len(chunk):
            self._at = 0
            self._feed.take()
        return data

    async def send(self, data: bytes) -> None:
        """Send them."""
        await self._sink.send(data)

    async def send_eof(self) -> None:
        """Nothing more comes."""
        await self._sink.send_eof()

    async def aclose(self) -> None:
        """Close."""
        self._feed.close()
        self._sink.close()
        await anyio.lowlevel.checkpoint()

    def reset(self, code: int) -> None:
        """Give up."""
        if not 0 <= code <= 0xFFFF_FFFF:
            raise ValueError("a code is a number from 0 to 0xFFFFFFFF")
        self._bridge.post(lambda: self._stream.reset(code))
        self._feed.close()
        self._sink.close()
