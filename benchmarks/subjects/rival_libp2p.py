"""py-libp2p: Noise and Yamux over TCP, in Python on trio."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF, StreamError, StreamReset
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from benchmarks.loops import OnTrio
from benchmarks.streams import StreamChannel, answer, open_echo, open_sink
from benchmarks.subject import Endpoint, Link

_PROTOCOL = TProtocol("/bench/1")


class Subject(OnTrio):
    """One host a process, as ``new_host()`` makes it."""

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        host = new_host(key_pair=create_new_key_pair())
        host.set_stream_handler(_PROTOCOL, _answer)
        async with host.run([Multiaddr(f"/ip4/{self.bind}/tcp/0")]):
            ready(str(host.get_addrs()[0]))
            await trio.sleep_forever()

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        host = new_host(key_pair=create_new_key_pair())
        async with host.run([]):
            yield _Endpoint(host)


class _Stream:
    """A stream of libp2p as a :class:`benchmarks.streams.ByteStream`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.send_all = stream.write
        self.send_eof = stream.close_write
        self.aclose = stream.close

    async def receive_some(self, max_bytes: int) -> bytes:
        try:
            data: bytes = await self._stream.read(max_bytes)
        except StreamEOF:
            return b""
        return data


async def _answer(stream: Any) -> None:
    with suppress(StreamReset, StreamError):  # the other end has gone
        await answer(_Stream(stream))


class _Endpoint(Endpoint):
    def __init__(self, host: Any) -> None:
        self._host = host

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        info = info_from_p2p_addr(Multiaddr(where))
        await self._host.connect(info)
        yield _Link(self._host, info.peer_id)
        await self._host.disconnect(info.peer_id)


class _Link(Link):
    def __init__(self, host: Any, peer_id: Any) -> None:
        self._host = host
        self._peer_id = peer_id

    async def _open(self) -> _Stream:
        return _Stream(await self._host.new_stream(self._peer_id, [_PROTOCOL]))

    async def sink(self) -> StreamChannel:
        return await open_sink(await self._open())

    async def echo(self) -> StreamChannel:
        return await open_echo(await self._open())
