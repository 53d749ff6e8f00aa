"""iroh: QUIC in Rust, called from asyncio."""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import iroh

from benchmarks.loops import OnAsyncio
from benchmarks.streams import StreamChannel, Tally, answer, ask_tally, open_echo, open_sink
from benchmarks.subject import Datagrams, Endpoint, Link, NotOffered

_ALPN = b"bench"
_GAP = 0.1


class Subject(OnAsyncio):
    """One endpoint a process, without relays and discovery: it is told the address."""

    async def _bind(self) -> Any:
        if self.relay_at is not None:
            raise NotOffered("its relay server is not in the package")
        builder = iroh.EndpointBuilder()
        builder.apply_minimal()
        builder.bind_addr(f"{self.bind}:0")
        builder.alpns([_ALPN])
        builder.relay_mode(iroh.RelayMode.disabled())
        return await builder.bind()

    async def relay(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.relay`."""
        raise NotOffered("its relay server is not in the package")

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        endpoint = await self._bind()
        addresses = [a for a in endpoint.bound_sockets() if a.startswith(self.bind)]
        ready(json.dumps([str(endpoint.id()), addresses]))
        tasks = set()
        while (incoming := await endpoint.accept_next()) is not None:
            tasks.add(asyncio.create_task(_Served().run(incoming)))

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        endpoint = await self._bind()
        yield _Endpoint(endpoint)
        await endpoint.close()


class _Stream:
    """A stream of iroh as a :class:`benchmarks.streams.ByteStream`."""

    def __init__(self, both: Any) -> None:
        self._send = both.send()
        self._receive = both.recv()
        self.send_all = self._send.write_all
        self.receive_some = self._receive.read

    async def send_eof(self) -> None:
        await self._send.finish()

    async def aclose(self) -> None:
        pass


class _Served:
    """The serving end of one connection."""

    def __init__(self) -> None:
        self._tally = Tally()

    async def run(self, incoming: Any) -> None:
        with suppress(iroh.IrohError):
            connection = await (await incoming.accept()).connect()
            tasks = [asyncio.create_task(self._datagrams(connection))]
            while True:
                stream = _Stream(await connection.accept_bi())
                tasks.append(asyncio.create_task(self._stream(stream)))

    async def _stream(self, stream: _Stream) -> None:
        with suppress(iroh.IrohError):
            await answer(stream, self._tally)

    async def _datagrams(self, connection: Any) -> None:
        with suppress(iroh.IrohError):
            while True:
                self._tally.add(await connection.read_datagram())


class _Endpoint(Endpoint):
    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        name, addresses = json.loads(where)
        address = iroh.EndpointAddr(iroh.EndpointId.from_string(name), None, addresses)
        connection = await self._endpoint.connect(address, _ALPN)
        yield _Link(connection)
        connection.close(0, b"")


class _Link(Link):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def sink(self) -> StreamChannel:
        return await open_sink(_Stream(await self._connection.open_bi()))

    async def echo(self) -> StreamChannel:
        return await open_echo(_Stream(await self._connection.open_bi()))

    async def datagrams(self) -> Datagrams:
        return _Datagrams(self._connection)


class _Datagrams(Datagrams):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def send(self, message: bytes, count: int) -> None:
        for _ in range(count):
            await self._connection.send_datagram_wait(message)

    async def finish(self) -> tuple[int, float]:
        await asyncio.sleep(_GAP)  # what is under way comes in, or never
        return await ask_tally(_Stream(await self._connection.open_bi()))
