"""The node, its peers, listeners, datagrams and events for anyio programs, on both backends."""

from __future__ import annotations

import anyio
import anyio.abc
import pytest

import netmesh_trio
import netmesh_trio.anyio
from netmesh_trio import (
    AddressError,
    BindError,
    ConfigError,
    DatagramTooLargeError,
    Identity,
    NatType,
    NodeClosedError,
    NodeConfig,
    PathKind,
    PeerConnected,
    PeerDisconnected,
    PeerUnreachableError,
    ServiceInUseError,
)
from netmesh_trio.anyio import MeshAttribute, open_node
from netmesh_trio.node import services
from netmesh_trio.traversal import TraversalError
from tests.anyio.backends import LOOPBACK, asyncio_only, both_backends, echo, receive_all, two_nodes


@pytest.mark.parametrize(
    ("ours", "theirs", "others"),
    [
        (netmesh_trio.anyio.Node, netmesh_trio.Node, ""),
        (netmesh_trio.anyio.Peer, netmesh_trio.Peer, "announced choose failure live report sessions wait_change wake"),
    ],
    ids=["Node", "Peer"],
)
def test_it_has_what_the_node_has(ours: type, theirs: type, others: str) -> None:
    """Under the same names; but for what is there for the node itself."""
    missing = {name for name in dir(theirs) if not name.startswith("_")} - set(others.split()) - set(dir(ours))
    assert missing == set(), f"write it for netmesh_trio.anyio.{ours.__name__}, too"


@both_backends
async def test_what_a_node_tells() -> None:
    async with two_nodes() as (a, b, peer):
        assert a.peer_id != b.peer_id
        assert a.config == NodeConfig()
        assert str(a.addresses[0]).startswith(f"netmesh://{a.peer_id}@127.0.0.1:")
        assert a.peers() == [peer]
        assert a.nat_type is NatType.UNKNOWN
        assert a.nat_report.nat_type is NatType.UNKNOWN
        assert a.reflex_addr is None
        assert a.peer_nat_type(b.peer_id) is NatType.UNKNOWN
        assert a.statistics().sessions == 1
        assert a.traversal_stats().punches_attempted == 0
        assert repr(a).startswith(f"<Node {a.peer_id.short} at 127.0.0.1:")
        assert peer.connected
        assert peer.peer_id == b.peer_id
        assert peer.why_not_direct is None
        assert [path.kind for path in peer.paths()] == [PathKind.DIRECT]
        assert peer.path == peer.paths()[0]
        assert peer.max_datagram_size > 1000
        assert peer.statistics().sessions == 1
        await a.wait_connected()
        assert (await peer.wait_direct()).kind is PathKind.DIRECT
        assert (await a.connect_direct(b.peer_id)).kind is PathKind.DIRECT
        assert (await a.probe_reflex(b.peer_id)).port == a.addresses[0].address.port  # type: ignore[union-attr]
        await a.set_reflex_override("203.0.113.7:4650")
        assert str(a.reflex_addr) == "203.0.113.7:4650"
        await a.clear_reflex_override()
        assert isinstance(await a.reclassify_nat(), NatType)


@both_backends
async def test_errors_of_calls_come_as_they_are() -> None:
    async with two_nodes(NodeConfig(connect_timeout=0.3)) as (a, b, peer):
        stranger = Identity.generate().peer_id
        with pytest.raises(PeerUnreachableError):
            await a.connect(stranger)
        with pytest.raises(AddressError):
            await a.connect("netmesh://nonsense")
        with pytest.raises(TypeError):
            await a.connect(5)  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            await a.set_reflex_override("nonsense")
        with pytest.raises(TraversalError):
            await a.probe_reflex(stranger)
        with pytest.raises(ValueError, match="priority"):
            await peer.open_stream("x", priority=9)
        with pytest.raises(DatagramTooLargeError):
            await peer.send_datagram("x", bytes(20_000))
        async with b.listen("x"):
            with pytest.raises(ServiceInUseError):
                async with b.listen("x"):
                    pass
        async with b.datagrams("x"):
            with pytest.raises(ServiceInUseError):
                async with b.datagrams("x"):
                    pass
        await peer.aclose()
        with pytest.raises(PeerUnreachableError):
            await peer.send_datagram("x", b"x")


@both_backends
async def test_a_node_that_cannot_open() -> None:
    async with open_node(Identity.generate(), LOOPBACK) as node:
        port = node.addresses[0].address.port  # type: ignore[union-attr]
        with pytest.raises(BindError):
            async with open_node(Identity.generate(), ("127.0.0.1", port)):
                raise AssertionError
    with pytest.raises(ConfigError, match="bind is empty"):
        async with open_node(Identity.generate(), []):
            raise AssertionError


@both_backends
async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_node(Identity.generate(), LOOPBACK):
            raise ZeroDivisionError


@both_backends
async def test_a_closed_node() -> None:
    async with open_node(Identity.generate(), LOOPBACK) as node:
        events = node.events()
    with pytest.raises(NodeClosedError):
        await node.connect(Identity.generate().peer_id)
    with pytest.raises(anyio.ClosedResourceError):
        async with node.listen("x"):
            raise AssertionError
    with pytest.raises(NodeClosedError):
        async with node.datagrams("x"):
            raise AssertionError
    with pytest.raises(anyio.EndOfStream):
        await events.receive()
    assert node.peers() == []
    assert node.statistics().sessions == 0


@both_backends
async def test_closing_ends_what_waits() -> None:
    """Calls, listeners, datagrams and events of tasks outside the block."""
    ended = []

    async with anyio.create_task_group() as tasks:
        async with open_node(Identity.generate(), LOOPBACK) as node:

            async def connect() -> None:
                with pytest.raises(NodeClosedError):
                    await node.connect(Identity.generate().peer_id)
                ended.append("connect")

            async def accept(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                async with node.listen("x") as listener:
                    task_status.started()
                    with pytest.raises(anyio.ClosedResourceError):
                        await listener.serve(echo)
                ended.append("accept")

            async def datagrams(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                async with node.datagrams("x") as stream:
                    task_status.started()
                    async for _ in stream:
                        raise AssertionError
                ended.append("datagrams")

            async def events(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                stream = node.events()
                task_status.started()
                async for _ in stream:
                    raise AssertionError
                ended.append("events")

            tasks.start_soon(connect)
            for task in (accept, datagrams, events):
                await tasks.start(task)
    assert sorted(ended) == ["accept", "connect", "datagrams", "events"]


@both_backends
async def test_what_was_written_is_delivered_after_the_block() -> None:
    async with open_node(Identity.generate(), LOOPBACK) as b, b.listen("last") as listener:
        async with open_node(Identity.generate(), LOOPBACK) as a:
            stream = await (await a.connect(b.addresses[0])).open_stream("last")
            await stream.send(bytes(600_000))
            await stream.send_eof()
            far = await listener.accept()
        assert len(await receive_all(far)) == 600_000


# listeners


@both_backends
async def test_serving() -> None:
    async with two_nodes() as (a, b, peer), b.listen("echo") as listener, anyio.create_task_group() as tasks:
        assert isinstance(listener, anyio.abc.Listener)
        assert listener.service == listener.extra(MeshAttribute.service) == "echo"
        assert listener.extra(MeshAttribute.local_peer_id) == b.peer_id
        assert repr(listener) == "<Listener for 'echo'>"
        tasks.start_soon(listener.serve, echo)

        async def ask(number: int) -> None:
            async with await peer.open_stream("echo") as stream:
                await stream.send(b"%d" % number)
                await stream.send_eof()
                assert await receive_all(stream) == b"%d" % number

        async with anyio.create_task_group() as clients:
            for number in range(20):
                clients.start_soon(ask, number)
        tasks.cancel_scope.cancel()
        assert a.statistics().sessions == 1


@both_backends
async def test_serving_in_a_task_group_of_the_programs() -> None:
    async with two_nodes() as (_, b, peer), b.listen("echo") as listener:
        async with anyio.create_task_group() as handlers:
            with anyio.CancelScope() as serving:

                async def first_client() -> None:
                    async with await peer.open_stream("echo") as stream:
                        await stream.send(b"x")
                        assert await stream.receive() == b"x"
                        serving.cancel()
                        # the handler outlives the serving
                        await stream.send(b"y")
                        assert await stream.receive() == b"y"

                handlers.start_soon(first_client)
                await listener.serve(echo, handlers)


@both_backends
async def test_closing_a_listener_ends_serving_without_a_group() -> None:
    async with two_nodes() as (_, b, _), b.listen("x") as listener, anyio.create_task_group() as tasks:

        async def serve() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await listener.serve(echo)

        tasks.start_soon(serve)
        await anyio.wait_all_tasks_blocked()
        await listener.aclose()
        await listener.aclose()
        # the name is free again
        async with b.listen("x"):
            pass


@both_backends
async def test_streams_that_nobody_accepted_are_reset() -> None:
    async with two_nodes() as (_, b, peer):
        async with b.listen("x"):
            streams = [await peer.open_stream("x") for _ in range(5)]
        for stream in streams:
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()


@both_backends
async def test_two_tasks_that_accept_collide() -> None:
    async with two_nodes() as (_, b, _), b.listen("x") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.accept)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await listener.accept()
        tasks.cancel_scope.cancel()


# datagrams and events


@both_backends
async def test_datagrams() -> None:
    async with two_nodes() as (a, b, peer), b.datagrams("news") as received:
        assert isinstance(received, anyio.abc.UnreliableObjectReceiveStream)
        assert received.extra(MeshAttribute.service) == "news"
        assert received.extra(MeshAttribute.local_peer_id) == b.peer_id
        async with peer.datagrams("news") as sender:
            assert isinstance(sender, anyio.abc.UnreliableObjectSendStream)
            assert sender.extra(MeshAttribute.service) == "news"
            assert sender.extra(MeshAttribute.peer_id) == b.peer_id
            for number in range(200):
                await sender.send(b"%d" % number)
                datagram = await received.receive()
                assert (datagram.peer_id, datagram.payload) == (a.peer_id, b"%d" % number)
        with pytest.raises(anyio.ClosedResourceError):
            await sender.send(b"x")
        await received.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await received.receive()
        assert "news" in repr(sender)
        assert "news" in repr(received)


@both_backends
async def test_datagrams_that_nobody_reads_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_MAX_WAITING", 1024)
    async with two_nodes() as (_, b, peer), b.datagrams("flood") as received:
        sent = 0
        while b.statistics().dropped_datagrams == 0:
            assert sent < 5000
            for _ in range(20):
                await peer.send_datagram("flood", b"x")
            sent += 20
        got = 0
        with anyio.move_on_after(0.2):
            while True:
                await received.receive()
                got += 1
        assert 1000 < got < sent


@both_backends
async def test_events() -> None:
    async with open_node(Identity.generate(), LOOPBACK) as a, open_node(Identity.generate(), LOOPBACK) as b:
        async with a.events() as events:
            assert isinstance(events, anyio.abc.ObjectReceiveStream)
            peer = await a.connect(b.addresses[0])
            event = await events.receive()
            assert isinstance(event, PeerConnected)
            assert event.peer_id == b.peer_id
            await peer.aclose()
            async for event in events:
                if isinstance(event, PeerDisconnected):
                    break
            assert repr(events) == "<EventStream>"
        with pytest.raises(anyio.ClosedResourceError):
            await events.receive()


@asyncio_only
async def test_a_virtual_network_needs_trio() -> None:
    from netmesh_trio.testing import VirtualInternet

    net = VirtualInternet(seed=1)
    with pytest.raises(ConfigError, match="trio backend"):
        async with open_node(Identity.generate(), network=net.host("a", "203.0.113.1")):
            raise AssertionError
