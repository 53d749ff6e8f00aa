"""Whoever waits for something of a node that leaves is told, in one way; and what comes in meanwhile does no harm."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from netmesh_trio import (
    Identity,
    Listener,
    NetmeshError,
    Node,
    NodeClosedError,
    NodeConfig,
    Peer,
    SessionClosedError,
    Stream,
    open_node,
)
from netmesh_trio.node.leaving import Leaving
from netmesh_trio.testing import VirtualInternet
from netmesh_trio.traversal import Gateway
from tests.node.mesh import Mesh, echo, make_pair, settle

RELAY = "203.0.113.7"
NOBODY = "netmesh://{}@203.0.113.9:9"

# Each in a task of its own while the node leaves.  One returns, and sending raises: trio's contract.
PENDING: dict[str, type[BaseException] | None] = {
    "Node.check_router": NodeClosedError,
    "Node.connect": NodeClosedError,
    "Node.connect_direct": NodeClosedError,
    "Node.probe_reflex": NodeClosedError,
    "Node.reclassify_nat": NodeClosedError,
    "Node.wait_binding_lifetime": NodeClosedError,
    "Node.wait_connected": NodeClosedError,
    "Peer.open_stream": NodeClosedError,
    "Peer.wait_direct": NodeClosedError,
    "Listener.accept": NodeClosedError,
    "Stream.receive_some": SessionClosedError,
    "Stream.send_all": SessionClosedError,
    "Stream.wait_send_all_might_not_block": None,
    "datagrams": trio.EndOfChannel,
    "events": StopAsyncIteration,
}
# They wait for nothing that the node could end.
ENDINGS = {"Peer.aclose", "Listener.aclose", "Stream.aclose", "Stream.send_eof"}


def test_no_public_wait_is_left_out() -> None:
    found = {
        f"{kind.__name__}.{name}"
        for kind in (Node, Peer, Listener, Stream)
        for name, member in vars(kind).items()
        if inspect.iscoroutinefunction(member) and not name.startswith("_")
    }
    assert found - {"Peer.wait_change"} == {name for name in PENDING if "." in name} | ENDINGS


class World:
    """A node ``a`` that has a relayed peer ``b``, and whose every question stays without an answer."""

    def __init__(self, a: Node, b: Node, near: Stream, full: Stream) -> None:
        peer = near.peer
        events, datagrams = a.events(), a.datagrams("x")
        relay = a.peers()[0].peer_id
        self.listener = a.listen("x")
        stranger = NOBODY.format(Identity.generate().peer_id)

        async def open_stream() -> Stream:
            return await peer.open_stream("not known here")

        self.calls: dict[str, Callable[[], Awaitable[object]]] = {
            "Node.check_router": a.check_router,
            "Node.connect": lambda: a.connect(stranger),
            "Node.connect_direct": lambda: a.connect_direct(b.peer_id),
            "Node.probe_reflex": lambda: a.probe_reflex(relay),
            "Node.reclassify_nat": a.reclassify_nat,
            "Node.wait_binding_lifetime": a.wait_binding_lifetime,
            "Node.wait_connected": a.wait_connected,
            "Peer.open_stream": open_stream,
            "Peer.wait_direct": peer.wait_direct,
            "Listener.accept": self.listener.accept,
            "Stream.receive_some": near.receive_some,
            "Stream.send_all": lambda: near.send_all(bytes(50_000_000)),
            "Stream.wait_send_all_might_not_block": full.wait_send_all_might_not_block,
            "datagrams": datagrams.receive,
            "events": lambda: _drain(events.__anext__),
        }


async def _drain(next_event: Callable[[], Awaitable[object]]) -> None:
    while True:
        await next_event()


@pytest.mark.parametrize("crowded", [False, True])
async def test_every_wait_ends_when_the_node_leaves(autojump_clock: trio.testing.MockClock, crowded: bool) -> None:
    """Opening a stream waits in two places: for the peer to accept, and for room while too many are open."""
    ended: dict[str, type[BaseException] | None] = {}
    at: set[float] = set()

    async def run(name: str, call: Callable[[], Awaitable[object]]) -> None:
        ended.pop(name, None)
        try:
            await call()
            ended[name] = None
        except (NetmeshError, trio.EndOfChannel, StopAsyncIteration) as error:
            ended[name] = type(error)
            assert not isinstance(error, NodeClosedError) or "node was closed" in str(error), name
        at.add(trio.current_time())

    config = NodeConfig(close_timeout=0.1, connect_timeout=60, dead_peer_timeout=60)
    few = NodeConfig(close_timeout=0.1, max_streams=2 if crowded else 1024)
    async with VirtualInternet(seed=1, delay=0.005) as net, trio.open_nursery() as nursery:
        hosts = net.host("r", RELAY), net.host("a", behind="symmetric"), net.host("b", behind="symmetric")
        async with open_node(Identity.generate(), ("0.0.0.0", 4650), network=hosts[0]) as r:
            uri = f"netmesh://{r.peer_id}@{RELAY}:4650"
            async with open_node(Identity.generate(), bootstrap=[uri], config=few, network=hosts[2]) as b:
                await b.wait_connected()
                bootstrap = [NOBODY.format(Identity.generate().peer_id)]
                async with open_node(Identity.generate(), bootstrap=bootstrap, config=config, network=hosts[1]) as a:
                    await a.connect(uri)
                    near, _ = await make_pair(a, b, "near")
                    full, _ = await make_pair(a, b, "full")
                    await settle(2)
                    hosts[1].routers = [Gateway(host="10.0.0.1", interface=1, local=hosts[1].address)]
                    net.block(hosts[1], hosts[0])
                    with trio.move_on_after(0.1):
                        await full.send_all(bytes(50_000_000))
                    world = World(a, b, near, full)
                    assert world.calls.keys() == PENDING.keys()
                    for name, call in world.calls.items():
                        nursery.start_soon(run, name, call)
                    await settle(0.5)
                    assert not ended
                    leaving = trio.current_time()
                await settle(0.1)
                assert ended == PENDING
                assert at <= {leaving, leaving + 0.1}
                # and afterwards
                for name, call in world.calls.items():
                    await run(name, call)
                assert ended == PENDING
                with pytest.raises(StopAsyncIteration):
                    await a.events().__anext__()
                for register in (a.listen, a.datagrams):
                    with pytest.raises(NodeClosedError, match="node was closed"):
                        register("y")


async def test_a_listener_that_was_closed_says_so(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    listener = mesh.a.listen("one")

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError, match="this listener for 'one' was closed") as caught:
            await listener.accept()
        assert not isinstance(caught.value, NodeClosedError)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await settle()
        await listener.aclose()
    await accept()


async def test_serving_listeners_ends_with_the_error_of_the_node(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(listener: Listener) -> None:
        with pytest.raises(BaseException) as caught:
            await trio.serve_listeners(echo, [listener])
        assert caught.group_contains(NodeClosedError)

    async with VirtualInternet() as net, trio.open_nursery() as nursery:
        async with open_node(Identity.generate(), network=net.host("a")) as node:
            nursery.start_soon(serve, node.listen("one"))
            await settle()


async def test_what_comes_in_while_a_node_delivers_is_dropped_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = NodeConfig(stream_window=4096, session_window=4096, close_timeout=1.0)
    async with VirtualInternet(seed=1, delay=0.005) as net:
        hosts = net.host("b", RELAY), net.host("a", "203.0.113.8")
        async with open_node(Identity.generate(), ("0.0.0.0", 4650), config=config, network=hosts[0]) as b:

            async def flood() -> None:
                while True:
                    for peer in b.peers():
                        peer.send_datagram("x", b"hello")
                    await trio.sleep(0.01)

            async with trio.open_nursery() as nursery, b.listen("s"):
                async with open_node(Identity.generate(), config=config, network=hosts[1]) as a:
                    news = a.datagrams("x")
                    peer = await a.connect(f"netmesh://{b.peer_id}@{RELAY}:4650")
                    stream = await peer.open_stream("s")
                    await stream.send_all(bytes(100_000))  # nobody reads, so that leaving takes its time
                    nursery.start_soon(flood)
                    assert (await news.receive()).payload == b"hello"
                    dropped = a.statistics().dropped_datagrams
                assert a.statistics().dropped_datagrams >= dropped + 90
                nursery.cancel_scope.cancel()


async def test_a_list_of_bootstrap_nodes_may_name_the_node_itself(autojump_clock: trio.testing.MockClock) -> None:
    """As the one list of a whole fleet does."""
    identities = [Identity.generate() for _ in range(2)]
    hosts = "203.0.113.1", "203.0.113.2"
    fleet = [f"netmesh://{identity.peer_id}@{host}:4650" for identity, host in zip(identities, hosts, strict=True)]
    async with VirtualInternet() as net:
        first, second = net.host("a", hosts[0]), net.host("b", hosts[1])
        with trio.fail_after(1):
            async with open_node(identities[0], ("0.0.0.0", 4650), fleet[:1], network=first) as node:
                await node.wait_connected()
                assert node.peers() == []
        with trio.fail_after(10):
            async with (
                open_node(identities[0], ("0.0.0.0", 4650), fleet, network=first) as a,
                open_node(identities[1], ("0.0.0.0", 4650), fleet, network=second) as b,
            ):
                await a.wait_connected()
                await b.wait_connected()
                assert [uri.peer_id for uri in a.addresses[0].via] == [b.peer_id]


async def test_nothing_is_kept_of_who_waited() -> None:
    leaving = Leaving()
    for _ in range(3):
        with leaving.ends_waiting():
            await trio.lowlevel.checkpoint()
    assert not leaving._scopes
