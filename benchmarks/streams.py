"""Sinks and echoes over byte streams, for all subjects that have such.

The first byte says which it is to be.  A sink answers the end of the stream with the number of bytes, 8 of them,
big-endian.
"""

from __future__ import annotations

from typing import Protocol

from benchmarks.subject import Channel

__all__ = ["ByteStream", "StreamChannel", "answer", "open_echo", "open_sink"]

_SINK = b"s"
_ECHO = b"e"
_READ = 256 * 1024


class ByteStream(Protocol):
    """As :class:`trio.abc.HalfCloseableStream`."""

    async def send_all(self, data: bytes) -> None:
        """Write."""

    async def send_eof(self) -> None:
        """End the writing half."""

    async def receive_some(self, max_bytes: int) -> bytes:
        """Read something; nothing at the end."""
        ...

    async def aclose(self) -> None:
        """Close."""


async def answer(stream: ByteStream) -> None:
    """The serving end of one stream."""
    first = await stream.receive_some(_READ)
    kind, data = first[:1], first[1:]
    if kind == _ECHO:
        if data:
            await stream.send_all(data)
        while data := await stream.receive_some(_READ):
            await stream.send_all(data)
    elif kind == _SINK:
        total = len(data)
        while data := await stream.receive_some(_READ):
            total += len(data)
        await stream.send_all(total.to_bytes(8, "big"))
    await stream.send_eof()
    await stream.aclose()


class StreamChannel(Channel):
    """The measuring end of one stream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """As :meth:`Channel.send`."""
        await self._stream.send_all(data)

    async def finish(self) -> int:
        """As :meth:`Channel.finish`."""
        await self._stream.send_eof()
        return int.from_bytes(await self._receive_exactly(8), "big")

    async def exchange(self, data: bytes) -> None:
        """As :meth:`Channel.exchange`."""
        await self._stream.send_all(data)
        left = len(data)
        while left:
            got = len(await self._stream.receive_some(left))
            if not got:
                raise EOFError("the echo ended")
            left -= got

    async def aclose(self) -> None:
        """As :meth:`Channel.aclose`."""
        await self._stream.aclose()

    async def _receive_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self._stream.receive_some(count - len(data))
            if not more:
                raise EOFError("the stream ended without an answer")
            data += more
        return data


async def open_sink(stream: ByteStream) -> StreamChannel:
    """Make a stream a sink."""
    await stream.send_all(_SINK)
    return StreamChannel(stream)


async def open_echo(stream: ByteStream) -> StreamChannel:
    """Make a stream an echo."""
    await stream.send_all(_ECHO)
    return StreamChannel(stream)
