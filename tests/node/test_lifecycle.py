"""Opening and leaving nodes: what is delivered, what comes out, what is left behind."""

from __future__ import annotations

import sys

import anyio
import pytest
import trio
import trio.testing

from netmesh_trio import (
    AddressError,
    BindError,
    ConfigError,
    Identity,
    NodeClosedError,
    NodeConfig,
    PeerUnreachableError,
    SessionClosedError,
    open_node,
)
from netmesh_trio.testing import VirtualInternet
from tests.node.mesh import (
    Mesh,
    assert_no_streams,
    connect,
    echoing,
    engine,
    make_pair,
    no_leaks,
    open_mesh,
    round_trip,
    settle,
)

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

ONE, TWO = "203.0.113.1", "203.0.113.2"


# leaving


async def test_leaving_delivers_what_was_written(autojump_clock: trio.testing.MockClock) -> None:
    data = bytes(range(256)) * 4000
    got = bytearray()
    async with VirtualInternet(seed=1) as net, trio.open_nursery() as nursery:
        for name, address in ("a", ONE), ("b", TWO):
            net.host(name, address, link=None).link.loss = 0.02
        async with open_node(Identity.generate(), (TWO, 1), network=net.hosts["b"]) as b:
            listener = b.listen("take")

            async def take() -> None:
                stream = await listener.accept()
                while part := await stream.receive_some():
                    got.extend(part)

            nursery.start_soon(take)
            # at this loss a megabyte takes about as long as the usual patience
            config = NodeConfig(close_timeout=20)
            async with open_node(Identity.generate(), (ONE, 1), config=config, network=net.hosts["a"]) as a:
                stream = await (await a.connect(b.addresses[0])).open_stream("take")
                await stream.send_all(data[: len(data) // 2])
                await stream.send_all(data[len(data) // 2 :])
                await stream.send_eof()
                assert len(got) < len(data)
            assert bytes(got) == data


async def test_leaving_does_not_wait_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    config = NodeConfig(stream_window=1 << 14, close_timeout=3.0)
    async with VirtualInternet(seed=1) as net:
        async with open_node(Identity.generate(), (TWO, 1), network=net.host("b", TWO), config=config) as b:
            async with open_node(Identity.generate(), (ONE, 1), network=net.host("a", ONE), config=config) as a:
                near, _ = await make_pair(a, b)
                await near.send_all(bytes(100_000))  # nobody reads
                start = trio.current_time()
            assert trio.current_time() - start == pytest.approx(3.0)
            # a cancelled program does not wait, but still says goodbye
            async with open_node(Identity.generate(), (ONE, 1), network=net.hosts["a"], config=config) as a:
                near, _ = await make_pair(a, b)
                with trio.move_on_after(1):
                    await near.send_all(bytes(10_000_000))
                start = trio.current_time()
                near.reset()
            assert trio.current_time() - start < 1


async def test_cancelled_while_delivering_still_says_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    config = NodeConfig(stream_window=1 << 14, close_timeout=30.0)
    async with VirtualInternet(seed=1) as net:
        async with open_node(Identity.generate(), (TWO, 1), network=net.host("b", TWO), config=config) as b:
            with trio.move_on_after(1) as scope:
                async with open_node(Identity.generate(), (ONE, 1), network=net.host("a", ONE), config=config) as a:
                    near, _ = await make_pair(a, b)
                    await near.send_all(bytes(100_000))
            assert scope.cancelled_caught
            await settle(0.1)
            assert b.peers() == []


async def test_the_other_side_notices_at_once(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    relay = mesh.relay
    async with open_node(
        Identity.generate(), bootstrap=[mesh.uri], network=mesh.net.host("c", behind="symmetric")
    ) as c:
        near, far = await make_pair(mesh.a, c)
        await c.wait_connected()
        await settle(1)
        assert len(relay.peers()) == 3
        assert c.peer_id in engine(relay).neighbors()
        assert c.peer_id in mesh.a._store.graph.live
        start = trio.current_time()
    left = trio.current_time()
    with pytest.raises(SessionClosedError, match="closed the session") as info:
        await near.receive_some()
    assert info.value.reason == "closed"
    assert trio.current_time() - left < 0.1
    assert trio.current_time() - start < 0.1
    await settle(0.1)
    assert len(relay.peers()) == 2
    assert len(engine(mesh.a).all_live()) == 1
    # it also withdrew what it had announced
    assert c.peer_id not in relay._store.graph.live
    assert c.peer_id not in mesh.a._store.graph.live
    with pytest.raises(SessionClosedError):
        await far.receive_some()


async def test_who_waits_when_the_node_is_left(autojump_clock: trio.testing.MockClock) -> None:
    """Tasks of an outer nursery that wait for something of the node are told, not left."""
    ended: list[str] = []

    async def expect(name: str, kind: type[BaseException], call: object, *args: object) -> None:
        with pytest.raises(kind):
            await call(*args)  # type: ignore[operator]
        ended.append(name)

    async with VirtualInternet(seed=1) as net, trio.open_nursery() as nursery:
        async with open_node(Identity.generate(), (TWO, 1), network=net.host("b", TWO)) as b:
            async with b.listen("never"):
                uri = f"netmesh://{Identity.generate().peer_id}@203.0.113.9:9"
                async with open_node(Identity.generate(), (ONE, 1), bootstrap=[uri], network=net.host("a", ONE)) as a:
                    peer = await a.connect(b.addresses[0])
                    stream = await peer.open_stream("never")
                    full = await peer.open_stream("never")
                    listener = a.listen("x")
                    datagrams = a.datagrams("x")
                    nursery.start_soon(expect, "read", SessionClosedError, stream.receive_some)
                    nursery.start_soon(expect, "write", SessionClosedError, full.send_all, bytes(50_000_000))
                    nursery.start_soon(expect, "accept", NodeClosedError, listener.accept)
                    nursery.start_soon(expect, "datagrams", trio.EndOfChannel, datagrams.receive)
                    nursery.start_soon(expect, "connect", NodeClosedError, a.connect, Identity.generate().peer_id)
                    nursery.start_soon(expect, "wait", NodeClosedError, a.wait_connected)
                    await settle(0.1)
                await settle(0.1)
                assert sorted(ended) == ["accept", "connect", "datagrams", "read", "wait", "write"]
                with pytest.raises(NodeClosedError):
                    await a.connect(b.peer_id)
                with pytest.raises(NodeClosedError):
                    await a.wait_connected()
                with pytest.raises(NodeClosedError):
                    a.listen("y")
                with pytest.raises(NodeClosedError):
                    a.datagrams("y")
                with pytest.raises(NodeClosedError):
                    await peer.open_stream("never")
                with pytest.raises(NodeClosedError):
                    peer.send_datagram("never", b"")
                await stream.aclose()
                assert a.peers() == []
                assert "Node" in repr(a)
                a.statistics()


# what comes out


class Mine(Exception):
    pass


@pytest.mark.parametrize("kind", [Mine, KeyboardInterrupt, SystemExit])
async def test_an_exception_comes_out_as_it_is(
    autojump_clock: trio.testing.MockClock, kind: type[BaseException]
) -> None:
    async with VirtualInternet() as net:
        cause = ValueError("why")
        mine = kind("mine")
        with pytest.raises(kind) as info:
            async with open_node(Identity.generate(), network=net.host("a")):
                raise mine from cause
        assert info.value is mine
        assert info.value.__cause__ is cause
        assert info.value.__context__ is None or info.value.__context__ is cause


async def test_a_group_comes_out_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net:
        mine = ExceptionGroup("mine", [Mine()])
        with pytest.raises(ExceptionGroup) as info:
            async with open_node(Identity.generate(), network=net.host("a")):
                raise mine
        assert info.value is mine


async def test_nested_nodes_and_an_exception(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net:
        with no_leaks(net), pytest.raises(Mine):  # noqa: PT012
            async with open_node(Identity.generate(), network=net.host("a")):
                async with open_node(Identity.generate(), network=net.host("b")):
                    async with open_node(Identity.generate(), network=net.hosts["a"]):
                        raise Mine


async def test_a_task_of_the_node_fails(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is a bug of ours; it is not hidden, and not in a group of one."""
    async with VirtualInternet() as net:
        host = net.host("a", ONE)

        async def run(of_ours: type[BaseException] | BaseException, of_block: type[BaseException] | None) -> None:
            async with open_node(Identity.generate(), (ONE, 1), network=host) as a:

                def fail(*args: object) -> int:
                    raise of_ours

                monkeypatch.setattr(engine(a), "on_datagrams", fail)
                engine(a).sockets[0].send((b"x",), 1, engine(a).sockets[0].address)
                try:
                    await trio.sleep_forever()
                finally:
                    if of_block is not None:
                        raise of_block

        for kind in (Mine, KeyboardInterrupt):
            with no_leaks(net), pytest.raises(kind):
                await run(kind, None)
        # nor is that in one of a nursery in a nursery, as when a Ctrl-C comes there
        for kind in (Mine, KeyboardInterrupt):
            with no_leaks(net), pytest.raises(kind):
                await run(BaseExceptionGroup("of a nursery", [kind()]), None)
        # while the program fails, too: its exception comes out
        with no_leaks(net), pytest.raises(Mine):
            await run(RuntimeError, Mine)


async def test_a_cancelled_block(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net:
        with no_leaks(net), trio.move_on_after(5) as scope:
            async with open_node(Identity.generate(), network=net.host("a")):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        # a group of ours with a cancellation in it
        with pytest.raises(BaseExceptionGroup) as info:  # noqa: PT012
            with trio.CancelScope() as scope:
                async with open_node(Identity.generate(), network=net.hosts["a"]):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(trio.sleep_forever)
                        scope.cancel()
                        raise Mine
        assert info.group_contains(Mine)
        assert not info.group_contains(trio.Cancelled)


# binding


async def test_bind_errors(autojump_clock: trio.testing.MockClock) -> None:
    identity = Identity.generate()
    async with VirtualInternet() as net:
        host = net.host("a", ONE)
        async with open_node(identity, (ONE, 1), network=host):
            for bind in ((ONE, 1), [(ONE, 2), (ONE, 1)], (TWO, 1), ("localhost", 1)):
                with no_leaks(net), pytest.raises(BindError):
                    async with open_node(identity, bind, network=host):
                        raise AssertionError
        for bad in ([], ("x", "y"), [(ONE, 65536)], ["ab"], None, 0, "127.0.0.1:0", "ab", [(1, 2)], {ONE: 1}):
            with no_leaks(net), pytest.raises(ConfigError, match="bind"):
                async with open_node(identity, bad, network=host):  # type: ignore[arg-type]
                    raise AssertionError
        with pytest.raises(ConfigError):
            async with open_node(identity, bootstrap="netmesh://x", network=host):
                raise AssertionError
        for wrong in (None, 3, [5], [identity.peer_id], [None]):
            with no_leaks(net), pytest.raises(ConfigError, match="bootstrap"):
                async with open_node(identity, bootstrap=wrong, network=host):  # type: ignore[arg-type]
                    raise AssertionError
        for other in (None, "me.key", identity.peer_id):
            with no_leaks(net), pytest.raises(ConfigError, match="load_or_create"):
                async with open_node(other, network=host):  # type: ignore[arg-type]
                    raise AssertionError
        with no_leaks(net), pytest.raises(ConfigError, match="NodeConfig"):
            async with open_node(identity, config={}, network=host):  # type: ignore[arg-type]
                raise AssertionError
        with pytest.raises(AddressError):
            async with open_node(identity, bootstrap=["netmesh://x"], network=host):
                raise AssertionError


async def test_bind_errors_of_the_system() -> None:
    identity = Identity.generate()
    async with open_node(identity, ("127.0.0.1", 0)) as node:
        port = engine(node).sockets[0].address.port
        with pytest.raises(BindError, match=f"{port}.*another program has it"):
            async with open_node(identity, ("127.0.0.1", port)):
                raise AssertionError
        with pytest.raises(BindError, match="not an address of this host"):
            async with open_node(identity, ("192.0.2.1", 0)):
                raise AssertionError
    with no_leaks():
        async with open_node(identity, ("127.0.0.1", port)):
            pass


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "localhost"])
async def test_loopback(host: str) -> None:
    with no_leaks():
        async with open_node(Identity.generate(), (host, 0)) as b, open_node(Identity.generate(), (host, 0)) as a:
            async with echoing(b):
                await round_trip(await a.connect(b.addresses[0]), bytes(100_000))


async def test_ipv6_on_a_virtual_host(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net:
        b_host = net.host("b", "2001:db8::2", TWO)
        async with open_node(Identity.generate(), [("::", 7), ("0.0.0.0", 7)], network=b_host) as b:
            for name, address in ("six", "2001:db8::6"), ("four", "203.0.113.4"):
                host = net.host(name, address)
                async with open_node(Identity.generate(), (address, 7), network=host) as a:
                    async with echoing(b):
                        uri = next(u for u in b.addresses if u.address and (":" in u.address.host) == (name == "six"))
                        peer = await a.connect(str(uri))
                        await round_trip(peer)
                        assert peer.path is not None
                        assert peer.path.addr is not None
                        assert peer.path.addr.family == (6 if name == "six" else 4)


async def test_what_others_cannot_dial_is_not_listed(autojump_clock: trio.testing.MockClock) -> None:
    """Of IPv6: a link-local address takes the name of the link.  One of IPv4 is all that two hosts on a cable have."""
    async with VirtualInternet() as net:
        host = net.host("a", "fe80::5", "2001:db8::5", "169.254.0.5")
        async with open_node(Identity.generate(), [("0.0.0.0", 7), ("::", 7)], network=host) as node:
            assert {str(uri.address) for uri in node.addresses} == {"[2001:db8::5]:7", "169.254.0.5:7"}


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_relay_of_both_families_is_asked_over_ipv4_first(
    autojump_clock: trio.testing.MockClock, quiet: bool
) -> None:
    """Over IPv6 it would not see the NAT.  One that does not answer there is not waited for."""
    async with VirtualInternet() as net:
        net.dns["relay.example"] = ["2001:db8::1", ONE]
        relay_host = net.host("r", "2001:db8::1", ONE)
        home = net.nat("home", "port-restricted")
        a_host = home.host("a")
        a_host.interfaces[0].attach(home.realm, "2001:db8::a")
        binds = [("::", 7)] if quiet else [("::", 7), ("0.0.0.0", 7)]
        async with (
            open_node(Identity.generate(), binds, network=relay_host) as relay,
            open_node(
                Identity.generate(),
                [("0.0.0.0", 0), ("::", 0)],
                [f"netmesh://{relay.peer_id}@relay.example:7"],
                network=a_host,
            ) as a,
        ):
            start = trio.current_time()
            await a.wait_connected()
            assert trio.current_time() - start < 0.5
            path = (await a.connect(relay.peer_id)).path
            assert path is not None
            assert path.addr is not None
            assert path.addr.family == (6 if quiet else 4)


async def test_peers_of_other_families_meet_over_a_relay(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net:
        relay_host = net.host("r", "2001:db8::1", ONE)
        async with open_node(Identity.generate(), [("::", 7), ("0.0.0.0", 7)], network=relay_host) as relay:
            id_ = relay.peer_id
            a_host, b_host = net.host("a", "2001:db8::a"), net.host("b", behind="port-restricted")
            async with (
                open_node(Identity.generate(), ("::", 0), [f"netmesh://{id_}@[2001:db8::1]:7"], network=a_host) as a,
                open_node(Identity.generate(), ("0.0.0.0", 0), [f"netmesh://{id_}@{ONE}:7"], network=b_host) as b,
            ):
                await a.wait_connected()
                await b.wait_connected()
                async with echoing(b):
                    await round_trip(await a.connect(b.peer_id), bytes(50_000))


@pytest.mark.parametrize("hosts", [(ONE, "2001:db8::1"), ("2001:db8::1", ONE)])
async def test_addresses_of_a_name_that_no_socket_reaches_are_said(
    hosts: tuple[str, str], autojump_clock: trio.testing.MockClock
) -> None:
    """A node without IPv6 says that it did not try that, and not only that nobody answers by IPv4."""
    async with VirtualInternet() as net:
        net.dns["relay.example"] = list(hosts)
        async with open_node(Identity.generate(), ("0.0.0.0", 0), network=net.host("a", TWO)) as a:
            with pytest.raises(PeerUnreachableError) as caught:
                await a.connect(f"netmesh://{Identity.generate().peer_id}@relay.example:7")
    said = str(caught.value)
    assert f"nobody answers at {ONE}:7" in said
    assert "no IPv6 socket that could reach [2001:db8::1]:7 (bind [::]:0, too)" in said


# what is left


async def test_nothing_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net:
        net.host("a", ONE)
        net.host("b", TWO)
        with no_leaks(net):
            for _ in range(3):
                async with (
                    open_node(Identity.generate(), (TWO, 1), network=net.hosts["b"]) as b,
                    open_node(Identity.generate(), (ONE, 1), network=net.hosts["a"]) as a,
                ):
                    async with echoing(b):
                        await round_trip(await connect(a, b), bytes(10_000))
                for core in engine(a), engine(b):
                    assert not core.sessions
                    assert not core.peers
                    assert not core.handshakes.dials
                    assert not core.endpoints


def test_anyio() -> None:
    async def main() -> None:
        async with (
            open_node(Identity.generate(), ("127.0.0.1", 0)) as b,
            open_node(Identity.generate(), ("127.0.0.1", 0)) as a,
        ):
            async with b.listen("x") as listener, anyio.create_task_group() as group:

                async def serve() -> None:
                    async with await listener.accept() as stream:
                        await stream.send_all(await stream.receive_some())

                group.start_soon(serve)
                with anyio.fail_after(10):
                    async with await (await a.connect(b.addresses[0])).open_stream("x") as stream:
                        await stream.send_all(b"hello")
                        assert await stream.receive_some() == b"hello"

    anyio.run(main, backend="trio")


def test_elsewhere_than_under_trio() -> None:
    async def main() -> None:
        async with open_node(Identity.generate(), ("127.0.0.1", 0)):
            raise AssertionError

    with pytest.raises(RuntimeError, match=r"for asyncio and anyio, netmesh_trio\.anyio has another"):
        anyio.run(main, backend="asyncio")


async def test_idle(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        peer = await connect(mesh.a, mesh.b)
        async with echoing(mesh.b):
            await round_trip(peer)
            await settle(5)
            nodes = (mesh.relay, mesh.a, mesh.b)
            before = [node.statistics() for node in nodes]
            live = [core.all_live() for core in map(engine, nodes)]
            await trio.sleep(600)
            assert [core.all_live() for core in map(engine, nodes)] == live
            for node, was in zip(nodes, before, strict=True):
                now = node.statistics()
                per_minute = (now.packets_sent - was.packets_sent) / 10 / len(live[nodes.index(node)])
                assert per_minute < 12, node
            start = trio.current_time()
            await round_trip(peer)
            assert trio.current_time() - start < 0.2
            await settle()
            assert_no_streams(*nodes)
