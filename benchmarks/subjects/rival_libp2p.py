"""py-libp2p: Noise and Yamux over TCP, in Python on trio; relayed by its circuit relay v2, with the limits put away."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF, StreamError, StreamReset
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from benchmarks.loops import OnTrio
from benchmarks.streams import StreamChannel, answer, open_echo, open_sink
from benchmarks.subject import Endpoint, Link, NotOffered

_PROTOCOL = TProtocol("/bench/1")
_LIMITS = RelayLimits(duration=3600, data=1 << 40, max_circuit_conns=100, max_reservations=100)


class Subject(OnTrio):
    """One host a process, as ``new_host()`` makes it."""

    async def relay(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.relay`."""
        host = new_host(key_pair=create_new_key_pair())
        async with host.run([Multiaddr(f"/ip4/{self.bind}/tcp/0")]), _circuits(host, hop=True):
            ready(str(host.get_addrs()[0]))
            await trio.sleep_forever()

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        host = new_host(key_pair=create_new_key_pair())
        host.set_stream_handler(_PROTOCOL, _answer)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(host.run([Multiaddr(f"/ip4/{self.bind}/tcp/0")]))
            where = host.get_addrs()[0]
            if self.relay_at is not None:
                nursery = await stack.enter_async_context(trio.open_nursery())
                transport = await stack.enter_async_context(_circuits(host, hop=False))
                relay = info_from_p2p_addr(Multiaddr(self.relay_at))
                await host.connect(relay)
                asking = await host.new_stream(relay.peer_id, [PROTOCOL_ID])
                if not await transport.reserve(asking, relay.peer_id, nursery):
                    raise NotOffered("its relay gave no reservation")
                where = f"{self.relay_at}/p2p-circuit/p2p/{host.get_id()}"
            ready(str(where))
            await trio.sleep_forever()

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        host = new_host(key_pair=create_new_key_pair())
        if self.relay_at is None:
            async with host.run([]):
                yield _Endpoint(host, None)
            return
        async with host.run([Multiaddr(f"/ip4/{self.bind}/tcp/0")]), _circuits(host, hop=False) as transport:
            await host.connect(info_from_p2p_addr(Multiaddr(self.relay_at)))
            yield _Endpoint(host, transport)


@asynccontextmanager
async def _circuits(host: Any, *, hop: bool) -> AsyncIterator[Any]:
    """Run the relay protocol on a host, as a relay or at either end; its transport."""
    protocol = CircuitV2Protocol(host, _LIMITS, allow_hop=hop)
    punching = DCUtRProtocol(host)
    async with background_trio_service(protocol), background_trio_service(punching):
        await protocol.event_started.wait()
        await punching.event_started.wait()
        yield CircuitV2Transport(host, protocol, RelayConfig(limits=_LIMITS))


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
    def __init__(self, host: Any, transport: Any) -> None:
        self._host = host
        self._transport = transport

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        info = info_from_p2p_addr(Multiaddr(where))
        if self._transport is None:
            await self._host.connect(info)
        else:
            await self._transport.dial(Multiaddr(where))
        yield _Link(self._host, info.peer_id)
        await self._host.disconnect(info.peer_id)


class _Link(Link):
    def __init__(self, host: Any, peer_id: Any) -> None:
        self._host = host
        self._peer_id = peer_id

    async def wait_direct(self) -> None:
        # what BasicHost notes when a DCUtRProtocol is made for it
        if not await self._host._dcutr_protocol.initiate_hole_punch(self._peer_id):
            raise NotOffered("its hole punch failed")

    async def _open(self) -> _Stream:
        return _Stream(await self._host.new_stream(self._peer_id, [_PROTOCOL]))

    async def sink(self) -> StreamChannel:
        return await open_sink(await self._open())

    async def echo(self) -> StreamChannel:
        return await open_echo(await self._open())
