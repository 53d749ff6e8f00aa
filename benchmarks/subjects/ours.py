"""The library itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import attrs
import trio

import netmesh_trio
from benchmarks.loops import OnTrio
from benchmarks.streams import StreamChannel, Tally, answer, ask_tally, open_echo, open_sink
from benchmarks.subject import Datagrams, Endpoint, Link

_SERVICE = "bench"


class Subject(OnTrio):
    """One node a process."""

    def _node(self, *, direct: bool = True) -> AbstractAsyncContextManager[netmesh_trio.Node]:
        config = netmesh_trio.NodeConfig(direct=direct)
        if self.datagram is not None:
            config = attrs.evolve(config, max_datagram_size=self.datagram)
        return netmesh_trio.open_node(
            netmesh_trio.Identity.generate(),
            (self.bind, 0),
            [] if self.relay_at is None else [self.relay_at],
            config,
        )

    async def _settle(self, node: netmesh_trio.Node) -> None:
        """Wait until the node is what one that has run for a while is: connected, and seen from outside."""
        if self.relay_at is not None:
            await node.wait_connected()
            while self.direct and node.reflex_addr is None:  # noqa: ASYNC110 - it is before the clock starts
                await trio.sleep(0.01)

    async def relay(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.relay`."""
        async with self._node() as node:
            ready(str(node.addresses[0]))
            await trio.sleep_forever()

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        async with self._node(direct=self.direct) as node:
            tally = Tally()

            async def count() -> None:
                channel = node.datagrams(_SERVICE)
                async for datagram in channel:
                    tally.add(datagram.payload)
                    with suppress(trio.WouldBlock):
                        while True:  # all that is there, in one go
                            tally.add(channel.receive_nowait().payload)

            async def handle(stream: netmesh_trio.Stream) -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await answer(stream, tally)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                nursery.start_soon(trio.serve_listeners, handle, [node.listen(_SERVICE)])
                await self._settle(node)
                ready(str(node.addresses[0]) if self.relay_at is None else str(node.peer_id))

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        async with self._node(direct=self.direct) as node:
            await self._settle(node)
            yield _Endpoint(node)


class _Endpoint(Endpoint):
    def __init__(self, node: netmesh_trio.Node) -> None:
        self._node = node

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        peer = await self._node.connect(where)
        yield _Link(peer)
        await peer.aclose()


class _Link(Link):
    def __init__(self, peer: netmesh_trio.Peer) -> None:
        self._peer = peer

    async def sink(self) -> StreamChannel:
        return await open_sink(await self._peer.open_stream(_SERVICE))

    async def echo(self) -> StreamChannel:
        return await open_echo(await self._peer.open_stream(_SERVICE))

    async def datagrams(self) -> Datagrams:
        return _Datagrams(self._peer)

    async def wait_direct(self) -> None:
        await self._peer.wait_direct()


class _Datagrams(Datagrams):
    def __init__(self, peer: netmesh_trio.Peer) -> None:
        self._peer = peer

    async def send(self, message: bytes, count: int) -> None:
        send = self._peer.send_datagram
        for _ in range(count):
            send(_SERVICE, message)
        await trio.lowlevel.checkpoint()

    async def finish(self) -> tuple[int, float]:
        await trio.sleep(0.1)  # what is under way comes in, or never
        return await ask_tally(await self._peer.open_stream(_SERVICE))
