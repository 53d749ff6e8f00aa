"""On anyio's trio backend: the node is on the same loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from ..node import streams
from .ports import anyio_errors

__all__ = ["NativePort"]

T = TypeVar("T")


class NativePort:
    """Calls the node directly."""

    async def call(self, function: Callable[[], Awaitable[T]], dispose: Callable[[T], object] | None = None) -> T:
        """See :class:`~netmesh_trio.anyio.ports.Port`."""
        with anyio_errors("using"):
            return await function()

    async def do(self, function: Callable[[], T], dispose: Callable[[T], object] | None = None) -> T:
        """See :class:`~netmesh_trio.anyio.ports.Port`."""
        await anyio.lowlevel.checkpoint()
        return function()

    def items(
        self,
        open_source: Callable[[], Callable[[], Awaitable[T]]],
        close: Callable[[], object],
        ended: type[Exception],
        dispose: Callable[[T], object] | None = None,
    ) -> NativeItems[T]:
        """See :class:`~netmesh_trio.anyio.ports.Port`."""
        return NativeItems(open_source(), close)

    def bytes(self, stream: streams.Stream) -> NativeBytes:
        """See :class:`~netmesh_trio.anyio.ports.Port`."""
        return NativeBytes(stream)


class NativeItems(Generic[T]):
    """Items straight from their source."""

    def __init__(self, receive: Callable[[], Awaitable[T]], close: Callable[[], object]) -> None:
        self._receive = receive
        self._close = close
        self._guard = anyio.ResourceGuard("receiving from")
        self._closed = False

    async def receive(self) -> T:
        """The next."""
        with self._guard:
            try:
                if not self._closed:
                    with anyio_errors("receiving from"):
                        return await self._receive()
            except anyio.EndOfStream:
                if not self._closed:
                    raise
            raise anyio.ClosedResourceError

    async def aclose(self) -> None:
        """Take no more."""
        self._closed = True
        self._close()
        await anyio.lowlevel.checkpoint()


class NativeBytes:
    """The bytes of a stream, by its own methods."""

    def __init__(self, stream: streams.Stream) -> None:
        self._stream = stream

    def reset(self, code: int) -> None:
        """End both directions at once."""
        self._stream.reset(code)

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes."""
        with anyio_errors("receiving from"):
            data = await self._stream.receive_some(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, data: bytes) -> None:
        """Send them."""
        with anyio_errors("sending to"):
            await self._stream.send_all(data)

    async def send_eof(self) -> None:
        """Nothing more comes."""
        with anyio_errors("sending to"):
            await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()
