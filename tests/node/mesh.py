"""A small mesh in virtual time: a public relay and two nodes behind NATs; and what tests ask of nodes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio

from netmesh_trio import Identity, Node, NodeConfig, Peer, Stream, open_node
from netmesh_trio.node.engine import Engine
from netmesh_trio.testing import Host, VirtualInternet


@attrs.frozen
class Mesh:
    """``a`` and ``b`` reach each other over ``relay``."""

    net: VirtualInternet
    relay: Node
    a: Node
    b: Node
    uri: str

    def host(self, node: Node) -> Host:
        return self.net.hosts["rab"[(self.relay, self.a, self.b).index(node)]]


@asynccontextmanager
async def open_mesh(
    *,
    seed: int = 1,
    behind: str | None = "symmetric",
    config: NodeConfig | None = None,
    a_config: NodeConfig | None = None,
    b_config: NodeConfig | None = None,
    relay_config: NodeConfig | None = None,
    delay: float = 0.005,
    lan_delay: float = 0.0005,
) -> AsyncGenerator[Mesh, None]:
    """All three, connected to the relay, where they stay: nobody looks for shorter paths."""
    config = _relayed(config or NodeConfig())
    a_config, b_config = _relayed(a_config or config), _relayed(b_config or config)
    async with VirtualInternet(seed=seed, delay=delay, lan_delay=lan_delay) as net:
        host = net.host("r", "203.0.113.7")
        hosts = [net.host(name, behind=behind) for name in "ab"]
        async with open_node(
            Identity.generate(), ("0.0.0.0", 4650), config=_relayed(relay_config or config), network=host
        ) as relay:
            uri = f"netmesh://{relay.peer_id}@203.0.113.7:4650"
            async with (
                open_node(Identity.generate(), bootstrap=[uri], config=a_config, network=hosts[0]) as a,
                open_node(Identity.generate(), bootstrap=[uri], config=b_config, network=hosts[1]) as b,
            ):
                await a.wait_connected()
                await b.wait_connected()
                await settle(1.0)
                yield Mesh(net, relay, a, b, uri)


def _relayed(config: NodeConfig) -> NodeConfig:
    return attrs.evolve(config, traversal=attrs.evolve(config.traversal, enabled=False))


async def settle(seconds: float = 0.2) -> None:
    """Let what is under way arrive (virtual time)."""
    await trio.sleep(seconds)


@asynccontextmanager
async def stream_pair(a: Node, b: Node, service: str = "pair") -> AsyncGenerator[tuple[Stream, Stream], None]:
    """A stream from ``a`` to ``b``, both ends of it."""
    near, far = await make_pair(a, b, service)
    async with near, far:
        yield near, far


async def make_pair(a: Node, b: Node, service: str = "pair") -> tuple[Stream, Stream]:
    peer = await connect(a, b)
    async with b.listen(service) as listener:
        near = await peer.open_stream(service)
        far = await listener.accept()
    return near, far


async def connect(a: Node, b: Node) -> Peer:
    """The peer ``b`` of ``a``: on the virtual internet over the relay, else by its address."""
    try:
        return next(p for p in a.peers() if p.peer_id == b.peer_id)
    except StopIteration:
        return await a.connect(b.addresses[0] if b.addresses[0].address and not b.addresses[0].via else b.peer_id)


@asynccontextmanager
async def echoing(node: Node, service: str = "echo") -> AsyncGenerator[None, None]:
    """Serve echo."""
    async with node.listen(service) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        yield
        nursery.cancel_scope.cancel()


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    async with stream:
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass


async def round_trip(peer: Peer, data: bytes = b"hello", service: str = "echo") -> None:
    """A whole exchange over a stream of its own."""
    with trio.fail_after(60):
        stream = await peer.open_stream(service)
        async with stream:
            got = bytearray()
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    await stream.send_all(data)
                    await stream.send_eof()

                nursery.start_soon(send)
                while part := await stream.receive_some():
                    got += part
            assert bytes(got) == data


def engine(node: Node) -> Engine:
    return node._engine


def assert_no_streams(*nodes: Node) -> None:
    """No session of theirs knows a stream."""
    for node in nodes:
        for live in engine(node).all_live():
            table = live.session.streams
            assert not table.sending, (node, table.sending.keys())
            assert not table.receiving, (node, table.receiving.keys())
            assert not live.streams, (node, live.streams)
            assert not live._unnamed, node
            assert table.peer_open == 0, node


def assert_nothing_pending(*nodes: Node) -> None:
    """No attempts, half-open handshakes or circuits of nobody."""
    for node in nodes:
        core = engine(node)
        assert not core.handshakes.dials, node
        assert not core.handshakes.dialing, node
        used = {key for live in core.all_live() for key in live.session.paths if isinstance(key, bytes)}
        assert set(core.endpoints) <= used, (node, len(core.endpoints), len(used))
        for peer_id, peer in core.peers.items():
            assert peer.sessions, (node, peer_id)


@contextmanager
def no_leaks(net: VirtualInternet | None = None) -> Iterator[None]:
    """No task and no virtual socket more after the block than before."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    sockets = sum(len(h._sockets) for h in net.hosts.values()) if net else 0
    yield
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert (sum(len(h._sockets) for h in net.hosts.values()) if net else 0) == sockets
