"""aiortc: WebRTC data channels (SCTP over DTLS over ICE), in Python on asyncio."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from benchmarks.loops import OnAsyncio
from benchmarks.streams import Tally
from benchmarks.subject import Channel, Datagrams, Endpoint, Link

_MESSAGE = 1 << 16  # the largest that all implementations take
_HIGH = 1 << 20
_LOW = 1 << 18
_GAP = 0.1


def _connection() -> Any:
    # no STUN servers: the other end is here
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def _pack(description: Any) -> bytes:
    return json.dumps([description.sdp, description.type]).encode() + b"\n"


def _unpack(line: bytes) -> Any:
    sdp, kind = json.loads(line)
    return RTCSessionDescription(sdp, kind)


class Subject(OnAsyncio):
    """A peer connection for each connection; offer and answer travel over TCP."""

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        server = await asyncio.start_server(_answer, self.bind, 0, limit=1 << 20)
        host, port = server.sockets[0].getsockname()[:2]
        ready(f"{host}:{port}")
        await server.serve_forever()

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        yield _Endpoint()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = _connection()
    connection.on("datachannel", _serve_channel)
    await connection.setRemoteDescription(_unpack(await reader.readline()))
    await connection.setLocalDescription(await connection.createAnswer())
    writer.write(_pack(connection.localDescription))
    await reader.read()  # until the other end closes it
    await connection.close()


def _serve_channel(channel: Any) -> None:
    tally = Tally()

    def take(message: bytes | str) -> None:
        if isinstance(message, str):
            channel.send(json.dumps([tally.bytes, tally.count, tally.seconds]))
        else:
            tally.add(message)

    channel.on("message", channel.send if channel.label == "echo" else take)


class _Endpoint(Endpoint):
    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        host, _, port = where.rpartition(":")
        connection = _connection()
        # the offer has to name a channel; more may follow without another
        first = connection.createDataChannel("echo")
        await connection.setLocalDescription(await connection.createOffer())
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        writer.write(_pack(connection.localDescription))
        await connection.setRemoteDescription(_unpack(await reader.readline()))
        await _opened(first)
        yield _Link(connection, first)
        writer.close()
        await connection.close()


async def _opened(channel: Any) -> None:
    if channel.readyState != "open":
        event = asyncio.Event()
        channel.once("open", event.set)
        await event.wait()


class _Link(Link):
    def __init__(self, connection: Any, first: Any) -> None:
        self._connection = connection
        self._first = first

    async def _open(self, label: str, **options: Any) -> Any:
        channel = self._connection.createDataChannel(label, **options)
        await _opened(channel)
        return channel

    async def sink(self) -> Channel:
        return _Channel(await self._open("sink"))

    async def echo(self) -> Channel:
        return _Channel(self._first)

    async def datagrams(self) -> Datagrams:
        return _Datagrams(_Channel(await self._open("sink", ordered=False, maxRetransmits=0)))


class _Channel(Channel):
    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._low = asyncio.Event()
        channel.bufferedAmountLowThreshold = _LOW
        channel.on("message", self._answers.put_nowait)
        channel.on("bufferedamountlow", self._low.set)

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), _MESSAGE):
            self._channel.send(data[at : at + _MESSAGE])
            if self._channel.bufferedAmount > _HIGH:
                self._low.clear()
                await self._low.wait()

    async def send_batch(self, messages: Any) -> None:
        for message in messages:
            await self.send(message)

    async def finish(self) -> int:
        total, _, _ = await self.tally()
        return total

    async def tally(self) -> tuple[int, int, float]:
        self._channel.send("?")
        total, count, seconds = json.loads(await self._answers.get())
        return total, count, seconds

    async def exchange(self, data: bytes) -> None:
        self._channel.send(data)
        await self._answers.get()


class _Datagrams(Datagrams):
    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    async def send(self, message: bytes, count: int) -> None:
        for _ in range(count):
            await self._channel.send(message)

    async def finish(self) -> tuple[int, float]:
        await asyncio.sleep(_GAP)
        _, count, seconds = await self._channel.tally()
        return count, seconds
