"""aioice: the connectivity checks of WebRTC, in Python on asyncio; for the time to a direct path only.

It has neither relayed data nor signaling of its own: the host of the relay runs a STUN server and passes on, over TCP,
what the ends tell each other.  Both have asked for their addresses before the clock starts, as nodes have.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aioice
from aioice import stun

from benchmarks.loops import OnAsyncio
from benchmarks.subject import Channel, Endpoint, Link, NotOffered

_STUN_PORT = 3478
_SIGNAL_PORT = 3479


class _Stun(asyncio.DatagramProtocol):
    """Answers where it saw a request come from."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asked = stun.parse_message(data)
        told = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, asked.transaction_id)
        told.attributes["XOR-MAPPED-ADDRESS"] = addr[:2]
        self._transport.sendto(bytes(told), addr)


class Subject(OnAsyncio):
    """One connection a process."""

    async def relay(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.relay`."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(_Stun, local_addr=(self.bind, _STUN_PORT))
        waiting: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def signal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not waiting:
                waiting.append((reader, writer))
                return
            other = waiting.pop()
            await asyncio.gather(_copy(reader, other[1]), _copy(other[0], writer))

        server = await asyncio.start_server(signal, self.bind, _SIGNAL_PORT)
        ready(self.bind)
        await server.serve_forever()

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        connection = await self._gathered(controlling=False)
        reader, writer = await self._signaling()
        ready("")
        await _take(connection, reader)
        await _tell(connection, writer)
        await connection.connect()
        while True:
            await connection.send(await connection.recv())

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        connection = await self._gathered(controlling=True)
        yield _Endpoint(connection, await self._signaling())
        await connection.close()

    async def _gathered(self, *, controlling: bool) -> Any:
        if self.relay_at is None:
            raise NotOffered("it makes paths only")
        server = (self.relay_at, _STUN_PORT)
        connection = aioice.Connection(ice_controlling=controlling, stun_server=server)
        await connection.gather_candidates()
        return connection

    async def _signaling(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.relay_at, _SIGNAL_PORT)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)


async def _tell(connection: Any, writer: asyncio.StreamWriter) -> None:
    candidates = [candidate.to_sdp() for candidate in connection.local_candidates]
    writer.write(json.dumps([connection.local_username, connection.local_password, candidates]).encode() + b"\n")


async def _take(connection: Any, reader: asyncio.StreamReader) -> None:
    connection.remote_username, connection.remote_password, candidates = json.loads(await reader.readline())
    for candidate in candidates:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(candidate))
    await connection.add_remote_candidate(None)


class _Endpoint(Endpoint):
    def __init__(self, connection: Any, signaling: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._connection = connection
        self._reader, self._writer = signaling

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        await _tell(self._connection, self._writer)
        await _take(self._connection, self._reader)
        await self._connection.connect()
        yield _Link(self._connection)


class _Link(Link):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def sink(self) -> Channel:
        raise NotOffered("it makes paths only")

    async def echo(self) -> Channel:
        return _Channel(self._connection)

    async def wait_direct(self) -> None:
        pass  # it knows no other paths


class _Channel(Channel):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def exchange(self, data: bytes) -> None:
        await self._connection.send(data)
        await self._connection.recv()
