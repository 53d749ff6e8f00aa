"""The library for anyio programs, at both ends on asyncio: what the bridge between two loops costs, twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import anyio

import netmesh_trio
import netmesh_trio.anyio
from benchmarks.loops import OnAsyncio
from benchmarks.streams import StreamChannel, answer, open_echo, open_sink
from benchmarks.subject import Endpoint, Link

_SERVICE = "bench"


class _Stream:
    """As :class:`benchmarks.streams.ByteStream`."""

    def __init__(self, stream: netmesh_trio.anyio.Stream) -> None:
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose
        self._stream = stream

    async def send_all(self, data: bytes) -> None:
        await self._stream.send(data)

    async def receive_some(self, max_bytes: int) -> bytes:
        with suppress(anyio.EndOfStream):
            return await self._stream.receive(max_bytes)
        return b""


class Subject(OnAsyncio):
    """One node a process."""

    def _node(self) -> AbstractAsyncContextManager[netmesh_trio.anyio.Node]:
        return netmesh_trio.anyio.open_node(netmesh_trio.Identity.generate(), (self.bind, 0))

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""

        async def handle(stream: netmesh_trio.anyio.Stream) -> None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await answer(_Stream(stream))

        async with self._node() as node, node.listen(_SERVICE) as listener:
            serving = asyncio.create_task(listener.serve(handle))
            ready(str(node.addresses[0]))
            await serving

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        async with self._node() as node:
            yield _Endpoint(node)


class _Endpoint(Endpoint):
    def __init__(self, node: netmesh_trio.anyio.Node) -> None:
        self._node = node

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        peer = await self._node.connect(where)
        yield _Link(peer)
        await peer.aclose()


class _Link(Link):
    def __init__(self, peer: netmesh_trio.anyio.Peer) -> None:
        self._peer = peer

    async def sink(self) -> StreamChannel:
        return await open_sink(_Stream(await self._peer.open_stream(_SERVICE)))

    async def echo(self) -> StreamChannel:
        return await open_echo(_Stream(await self._peer.open_stream(_SERVICE)))
