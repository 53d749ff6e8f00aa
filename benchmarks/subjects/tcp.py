"""Kernel TCP through trio's sockets, not encrypted: what most programs use today."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import trio

from benchmarks.loops import OnTrio
from benchmarks.streams import ByteStream, StreamChannel, answer, open_echo, open_sink
from benchmarks.subject import Endpoint, Link


class Subject(OnTrio):
    """One connection a stream."""

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        listeners = await trio.open_tcp_listeners(0, host=self.bind)
        host, port = listeners[0].socket.getsockname()[:2]
        # over the relay, the relay's port stands for this one
        ready(f"{host}:{port}" if self.relay_at is None else await _tell(self.relay_at, f"{host}:{port}"))
        await trio.serve_listeners(_answer, listeners)

    async def relay(self, ready: Callable[[str], None]) -> None:
        """Forward, between two sockets, what the first connection says is wanted."""
        listeners = await trio.open_tcp_listeners(0, host=self.bind)
        host, port = listeners[0].socket.getsockname()[:2]
        target = ""

        async def handle(stream: trio.SocketStream) -> None:
            nonlocal target
            async with stream:
                if not target:
                    target = (await stream.receive_some(100)).decode()
                    return
                async with await _connect(target) as onward, trio.open_nursery() as nursery:
                    nursery.start_soon(_pump, stream, onward)
                    nursery.start_soon(_pump, onward, stream)

        ready(f"{host}:{port}")
        await trio.serve_listeners(handle, listeners)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        yield _Endpoint()


async def _connect(where: str) -> trio.SocketStream:
    host, _, port = where.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def _tell(relay: str, target: str) -> str:
    async with await _connect(relay) as stream:
        await stream.send_all(target.encode())
        await stream.send_eof()
        await stream.receive_some()
    return relay


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    try:
        while data := await source.receive_some(256 * 1024):
            await sink.send_all(data)
        await sink.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _answer(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await answer(cast("ByteStream", stream))


class _Endpoint(Endpoint):
    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        yield _Link(where)


class _Link(Link):
    def __init__(self, where: str) -> None:
        self._where = where

    async def sink(self) -> StreamChannel:
        return await open_sink(cast("ByteStream", await _connect(self._where)))

    async def echo(self) -> StreamChannel:
        return await open_echo(cast("ByteStream", await _connect(self._where)))
