"""What type checkers see of the public interface.

Nothing here runs: mypy and pyright read it, and each ``assert_type`` is a test.  A line with ``type: ignore`` is wrong
on purpose; if it no longer was, mypy would say that the comment is not needed.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio.abc
import trio
from typing_extensions import assert_never, assert_type

import netmesh_trio
import netmesh_trio.anyio
from netmesh_trio import (
    Address,
    Datagram,
    Event,
    EventsLost,
    Identity,
    KeyInUse,
    Listener,
    MeshUri,
    NatChanged,
    NatReport,
    NatType,
    Node,
    NodeConfig,
    NodeStats,
    PathChanged,
    PathKind,
    PathReport,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerId,
    PeerUnreachableError,
    PortMapChanged,
    Stream,
    TraversalConfig,
    TraversalError,
    open_node,
)
from netmesh_trio.testing import Host, Mesh, VirtualInternet, open_mesh
from netmesh_trio.traversal import PunchFailedError, TraversalStatsSnapshot


async def opening(identity: Identity) -> None:
    async with open_node(identity) as node:
        assert_type(node, Node)
    async with open_node(identity, ("0.0.0.0", 0), ["netmesh://..."], NodeConfig(relay="off")) as node:
        assert_type(node.peer_id, PeerId)
    async with open_node(identity, [("0.0.0.0", 0), ("::", 0)], [MeshUri.parse("netmesh://...")]) as node:
        assert_type(node.addresses, list[MeshUri])
    open_node("key")  # type: ignore[arg-type]
    open_node(identity, network="eth0")  # type: ignore[arg-type]
    NodeConfig(relay="everybody")  # type: ignore[arg-type]
    NodeConfig(keep_alive="5 s")  # type: ignore[arg-type]
    TraversalConfig(enabled=False, reflex_timeout=1.5, reflex_override="203.0.113.7:4650")
    with_node(open_node)
    context(open_node(identity))


def with_node(opener: Callable[[Identity], AbstractAsyncContextManager[Node]]) -> None: ...


def context(manager: AbstractAsyncContextManager[Node]) -> None: ...


async def talking(node: Node) -> None:
    peer = await node.connect("peer id or netmesh:// URI")
    assert_type(peer, Peer)
    assert_type(await peer.open_stream("echo", priority=1), Stream)
    assert_type(await node.connect_direct(peer.peer_id), PathReport)
    assert_type(await node.wait_connected(), None)
    assert_type(node.peers(), list[Peer])
    peer.send_datagram("echo", b"...")
    peer.send_datagram("echo", "...")  # type: ignore[arg-type]
    await node.connect(7)  # type: ignore[arg-type]
    async with node.datagrams("echo") as channel:
        async for datagram in channel:
            assert_type(datagram, Datagram)
            assert_type(datagram.payload, bytes)
            assert_type(datagram.peer_id, PeerId)


async def streams_are_trios(stream: Stream) -> None:
    takes_stream(stream)
    assert_type(await stream.receive_some(), bytes)
    await stream.send_all(bytearray(3))
    await stream.send_all(memoryview(b""))
    await stream.send_all("text")  # type: ignore[arg-type]
    assert_type(stream.peer, Peer)
    tls: trio.SSLStream[Stream] = trio.SSLStream(stream, ssl.create_default_context(), server_side=True)
    assert_type(tls.transport_stream, Stream)
    stapled: trio.StapledStream[Stream, Stream] = trio.StapledStream(stream, stream)
    takes_stream(stapled)


async def listeners_are_trios(node: Node) -> None:
    async with node.listen("echo") as listener:
        assert_type(listener, Listener)
        takes_listener(listener)
        assert_type(await listener.accept(), Stream)
        await trio.serve_listeners(handler, [listener])
        await trio.serve_listeners(handler_of_any_stream, [listener])


async def in_nurseries(node: Node, nursery: trio.Nursery) -> None:
    listener = node.listen("echo")
    nursery.start_soon(trio.serve_listeners, handler, [listener])
    nursery.start_soon(node.connect, node.peer_id)
    callbacks: Callable[[PeerId], Awaitable[Peer]] = node.connect
    await callbacks(node.peer_id)


async def handler(stream: Stream) -> None: ...


async def handler_of_any_stream(stream: trio.abc.Stream) -> None: ...


def takes_stream(stream: trio.abc.HalfCloseableStream) -> None: ...


def takes_listener(listener: trio.abc.Listener[Stream]) -> None: ...


async def watching(node: Node) -> None:
    assert_type(node.events(), AsyncIterator[Event])
    async for event in node.events():
        if isinstance(event, PathChanged):
            assert_type(event.path, PathReport)
        elif isinstance(event, (PeerConnected, PeerDisconnected)):
            assert_type(event.peer_id, PeerId)
        elif isinstance(event, NatChanged):
            assert_type(event.nat_type, NatType)
        elif isinstance(event, PortMapChanged):
            assert_type(event.external, Address | None)
        elif isinstance(event, KeyInUse):
            assert_type(event.addr, Address | None)
            assert_type(event.relays, tuple[PeerId, ...])
        elif isinstance(event, EventsLost):
            assert_type(event.count, int)
        else:
            assert_never(event)


async def paths(node: Node, peer: Peer) -> None:
    assert_type(peer.path, PathReport | None)
    assert_type(peer.paths(), list[PathReport])
    assert_type(peer.why_not_direct, TraversalError | None)
    report = await peer.wait_direct()
    assert_type(report, PathReport)
    assert_type(report.kind, PathKind)
    assert_type(report.addr, Address | None)
    assert_type(report.rtt, float | None)
    assert_type(node.nat_type, NatType)
    assert_type(node.reflex_addr, Address | None)
    assert_type(node.nat_report, NatReport)
    assert_type(node.traversal_stats(), TraversalStatsSnapshot)
    assert_type(node.statistics(), NodeStats)
    node.statistics().sessions = 3  # type: ignore[misc]
    node.peer_id = peer.peer_id  # type: ignore[misc]


def errors(error: PeerUnreachableError, failed: PunchFailedError) -> None:
    netmesh: netmesh_trio.NetmeshError = error
    traversal: TraversalError = failed
    assert_type(netmesh.kind, str)
    assert_type(traversal.kind, str)


async def testing(identity: Identity) -> None:
    async with VirtualInternet(seed=1, delay=0.01) as net:
        assert_type(net, VirtualInternet)
        host = net.host("a", behind="symmetric")
        assert_type(host, Host)
        async with open_node(identity, network=host) as node:
            assert_type(node, Node)
    async with open_mesh("symmetric", bob=None, loss=0.1) as mesh:
        assert_type(mesh, Mesh)
        assert_type(mesh.alice, Node)
        async with mesh.node("carol") as carol:
            assert_type(carol, Node)
            assert_type(mesh.host(carol), Host)
    open_mesh(seed=1.5)  # type: ignore[arg-type]


async def a_generator_as_in_a_fixture() -> AsyncGenerator[Mesh, None]:
    async with open_mesh() as mesh:
        yield mesh


async def on_anyio(identity: Identity) -> None:
    async with netmesh_trio.anyio.open_node(identity, network=None) as node:
        assert_type(node, netmesh_trio.anyio.Node)
        peer = await node.connect("...")
        assert_type(peer, netmesh_trio.anyio.Peer)
        stream = await peer.open_stream("echo")
        takes_byte_stream(stream)
        assert_type(await stream.receive(), bytes)
        assert_type(stream.extra(netmesh_trio.anyio.MeshAttribute.peer_id), PeerId)
        async with node.listen("echo") as listener:
            assert_type(listener, netmesh_trio.anyio.Listener)
            takes_anyio_listener(listener)
        async with node.events() as events:
            async for event in events:
                assert_type(event, Event)


def takes_byte_stream(stream: anyio.abc.ByteStream) -> None: ...


def takes_anyio_listener(listener: anyio.abc.Listener[netmesh_trio.anyio.Stream]) -> None: ...
