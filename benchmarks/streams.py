"""Sinks and echoes over byte streams, for all subjects that have such.

The first byte says which it is to be.  A sink answers the end of the stream with the number of bytes, 8 of them,
big-endian.  A third kind of stream asks for the tally of the datagrams that came.
"""

from __future__ import annotations

import json
import time
from typing import Protocol

from benchmarks.subject import Channel

__all__ = ["ByteStream", "StreamChannel", "Tally", "answer", "ask_tally", "open_echo", "open_sink"]

_SINK = b"s"
_ECHO = b"e"
_TALLY = b"t"
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


class Tally:
    """How many messages came, and in which time."""

    def __init__(self) -> None:
        self.bytes = self.count = 0
        self._first = self._last = 0.0

    def add(self, message: bytes) -> None:
        """One came."""
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self.count += 1
        self.bytes += len(message)

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return self._last - self._first


async def answer(stream: ByteStream, tally: Tally | None = None) -> None:
    """The serving end of one stream; ``tally`` is that of the datagrams."""
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
    elif kind == _TALLY and tally is not None:
        await stream.send_all(json.dumps([tally.count, tally.seconds]).encode())
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


async def ask_tally(stream: ByteStream) -> tuple[int, float]:
    """Ask for the tally of the datagrams."""
    await stream.send_all(_TALLY)
    text = b""
    while more := await stream.receive_some(_READ):
        text += more
    await stream.aclose()
    count, seconds = json.loads(text)
    return count, seconds
