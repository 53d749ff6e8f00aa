"""Services by name, datagrams, connecting, and what a node says of it."""

from __future__ import annotations

import array
import gc
from typing import Any

import pytest
import trio
import trio.testing

from netmesh_trio import (
    AddressError,
    DatagramTooLargeError,
    EventsLost,
    Identity,
    MeshUri,
    NodeConfig,
    PathChanged,
    PathKind,
    PeerConnected,
    PeerDisconnected,
    PeerUnreachableError,
    ServiceInUseError,
    ServiceNotFoundError,
    SessionClosedError,
    StreamResetError,
    open_node,
)
from netmesh_trio.addresses import HostPort
from netmesh_trio.node import services
from netmesh_trio.node.streams import CODE_BACKLOG_FULL
from netmesh_trio.testing import VirtualInternet
from tests.node.mesh import (
    Mesh,
    assert_no_streams,
    assert_nothing_pending,
    connect,
    echoing,
    engine,
    make_pair,
    open_mesh,
    round_trip,
    settle,
)

# finding a service


async def test_nobody_serves_it(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)
    for _ in range(3):
        with pytest.raises(ServiceNotFoundError, match="nobody") as info:
            await peer.open_stream("nobody")
        assert info.value.service == "nobody"
    assert mesh.b.statistics().refused_streams == 3
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_served_no_longer(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """The peer served the name when it last told us: the stream opens, and then says that nobody is there."""
    peer = await connect(mesh.a, mesh.b)
    async with mesh.b.listen("brief"):
        await settle()
    stream = await peer.open_stream("brief")
    await stream.send_all(b"anybody?")
    with pytest.raises(ServiceNotFoundError):
        await stream.receive_some()
    with pytest.raises(ServiceNotFoundError):
        await stream.send_all(b"x")
    await stream.wait_send_all_might_not_block()
    await stream.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)
    with pytest.raises(ServiceNotFoundError):
        await peer.open_stream("brief")


async def test_served_only_now(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)
    async with echoing(mesh.b, "late"):
        await round_trip(peer, b"x", "late")


async def test_more_services_than_a_hello_names(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)
    listeners = [mesh.b.listen(f"service {n}") for n in range(100)]
    await settle()
    for number, listener in enumerate(listeners):
        stream = await peer.open_stream(f"service {number}")
        await stream.send_all(b"x")
        other = await listener.accept()
        assert await other.receive_some() == b"x"
        await other.aclose()
        await stream.aclose()
        await listener.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_backlog(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh(config=NodeConfig(backlog=2)) as mesh:
        peer = await connect(mesh.a, mesh.b)
        async with mesh.b.listen("busy") as listener:
            await settle()
            streams = [await peer.open_stream("busy") for _ in range(3)]
            await settle()
            with pytest.raises(StreamResetError, match="too busy") as info:
                await streams[2].receive_some()
            assert info.value.code == CODE_BACKLOG_FULL
            assert mesh.b.statistics().refused_streams == 1
            async with await listener.accept():
                async with await peer.open_stream("busy"):
                    await settle()
        # what nobody accepted was reset when the listener closed
        await settle()
        with pytest.raises(StreamResetError):
            await streams[1].receive_some()
        for stream in streams:
            await stream.aclose()
        await settle()
        assert_no_streams(mesh.a, mesh.b)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        *((name, AddressError, "service name") for name in ("", "x" * 65, "\u00e9" * 33, "\udc80")),
        *((name, TypeError, "named by text") for name in (b"echo", None, 3)),
    ],
)
async def test_bad_names(
    mesh: Mesh, autojump_clock: trio.testing.MockClock, name: Any, error: type[Exception], words: str
) -> None:
    peer = await connect(mesh.a, mesh.b)
    with pytest.raises(error, match=words):
        await peer.open_stream(name)
    with pytest.raises(error, match=words):
        mesh.a.listen(name)
    with pytest.raises(error, match=words):
        mesh.a.datagrams(name)
    with pytest.raises(error, match=words):
        peer.send_datagram(name, b"")


async def test_longest_name(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    name = "\u00e9" * 32
    async with echoing(mesh.b, name):
        await round_trip(await connect(mesh.a, mesh.b), b"x", name)


async def test_bad_priority(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)
    with pytest.raises(ValueError, match="priority"):
        await peer.open_stream("echo", priority=8)
    for wrong in ("7", 1.5):
        with pytest.raises(TypeError, match="integer"):
            await peer.open_stream("echo", priority=wrong)  # type: ignore[arg-type]


async def test_name_in_use(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with mesh.a.listen("one") as listener:
        with pytest.raises(ServiceInUseError, match="'one'"):
            mesh.a.listen("one")
        await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
    async with mesh.a.listen("one"):
        pass
    channel = mesh.a.datagrams("one")
    with pytest.raises(ServiceInUseError, match="'one'"):
        mesh.a.datagrams("one")
    channel.close()
    mesh.a.datagrams("one").close()


async def test_closing_a_listener_wakes_who_accepts(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    listener = mesh.a.listen("one")

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await settle()
        await listener.aclose()


# connecting


async def test_bad_targets(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(AddressError, match="own peer id"):
        await mesh.a.connect(mesh.a.peer_id)
    with pytest.raises(AddressError, match="own peer id"):
        await mesh.a.connect(mesh.a.addresses[0])
    text = str(mesh.b.peer_id)
    with pytest.raises(AddressError):
        await mesh.a.connect(text[:-1] + ("a" if text[-1] != "a" else "b"))
    with pytest.raises(AddressError):
        await mesh.a.connect("netmesh://nonsense")
    with pytest.raises(AddressError, match=r"hexadecimal: PeerId\(bytes.fromhex"):
        await mesh.a.connect(bytes(mesh.b.peer_id).hex())
    peer = await mesh.a.connect(text)
    for target, words in (
        (7, "not int$"),
        (b"no key", "not bytes$"),
        (bytes(mesh.b.peer_id), r"not bytes; PeerId\(...\) makes one"),
        (peer, "not Peer; give the peer_id of the Peer"),
    ):
        for call in (mesh.a.connect, mesh.a.connect_direct, mesh.a.probe_reflex):
            with pytest.raises(TypeError, match=words):
                await call(target)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=words):
            mesh.a.peer_nat_type(target)  # type: ignore[arg-type]


async def test_unknown_peer(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    stranger = Identity.generate().peer_id
    start = trio.current_time()
    with pytest.raises(PeerUnreachableError, match=f"{stranger.short}.*no connected node leads to it"):
        await mesh.a.connect(stranger)
    assert trio.current_time() - start <= 10.0
    assert_nothing_pending(mesh.a, mesh.b, mesh.relay)
    # and by an address where nobody is
    with pytest.raises(PeerUnreachableError, match="nobody answers at 198.51.100.9:9"):
        await mesh.a.connect(MeshUri(stranger, HostPort("198.51.100.9", 9)))
    with pytest.raises(PeerUnreachableError, match="nowhere.example"):
        await mesh.a.connect(MeshUri(Identity.generate().peer_id, HostPort("nowhere.example", 9)))
    await settle()
    assert_nothing_pending(mesh.a, mesh.b, mesh.relay)
    gc.collect()
    assert not any(p.peer_id == stranger for p in engine(mesh.a)._known_peers.values())


async def test_better_address_while_dialing(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """A second caller knows where the peer is: the attempt that is under way learns it."""
    async with (
        open_node(Identity.generate(), ("203.0.113.99", 7), network=mesh.net.host("c", "203.0.113.99")) as c,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mesh.a.connect, c.peer_id)
        await settle(1.0)
        with trio.fail_after(1):
            await mesh.a.connect(c.addresses[0])


async def test_a_relay_that_the_address_names(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        async with open_node(Identity.generate(), network=mesh.net.host("c", behind="symmetric")) as c:
            assert mesh.b.addresses[0].via
            async with echoing(mesh.b):
                await round_trip(await c.connect(str(mesh.b.addresses[0])))


async def test_peer_object_lasts(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """The same object is good for the next session, and nodes forget those that nobody holds."""
    peer = await connect(mesh.a, mesh.b)
    async with echoing(mesh.b):
        await round_trip(peer)
        await peer.aclose()
        await settle()
        assert not peer.connected
        assert peer.path is None
        assert peer.paths() == []
        with pytest.raises(PeerUnreachableError):
            peer.send_datagram("x", b"")
        await round_trip(peer)
        assert peer.connected
        assert peer in mesh.a.peers()
        assert await mesh.a.connect(mesh.b.peer_id) is peer
        await peer.aclose()
        await settle()


# how many round trips

ONE_WAY = 0.1


async def test_round_trips(autojump_clock: trio.testing.MockClock) -> None:
    """Over a relay: connecting takes one round trip, and opening a stream for a known service none."""
    config = NodeConfig(direct=False)
    async with open_mesh(delay=ONE_WAY, lan_delay=0.0, behind=None, config=config) as mesh:
        async with echoing(mesh.b):
            await settle(5)
            start = trio.current_time()
            peer = await mesh.a.connect(mesh.b.peer_id)
            connected = trio.current_time() - start
            stream = await peer.open_stream("echo")
            opened = trio.current_time() - start
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            answered = trio.current_time() - start
            await stream.aclose()
            round_trip_time = 8 * ONE_WAY  # each host's link has the delay: a, relay, relay, b, and back
            assert connected == pytest.approx(round_trip_time, abs=0.001)
            assert opened == connected
            assert answered == pytest.approx(2 * round_trip_time, abs=0.001)
            # a service that the peer has not told us of takes one more
            start = trio.current_time()
            async with echoing(mesh.b, "new"):
                await peer.open_stream("new")
                assert trio.current_time() - start == pytest.approx(round_trip_time, abs=0.001)
                await settle(2)
                start = trio.current_time()
                again = await peer.open_stream("new")
                assert trio.current_time() == start
                await again.aclose()


# datagrams


async def test_datagrams(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)
    with mesh.b.datagrams("news") as channel:
        for number in range(20):
            peer.send_datagram("news", b"%d" % number)
        peer.send_datagram("news", b"")
        got = [await channel.receive() for _ in range(21)]
        assert {d.payload for d in got} == {b"%d" % n for n in range(20)} | {b""}
        assert {d.peer_id for d in got} == {mesh.a.peer_id}
        largest = bytes(peer.max_datagram_size)
        peer.send_datagram("news", largest)
        assert (await channel.receive()).payload == largest
        wide = array.array("i", range(100))
        peer.send_datagram("news", memoryview(wide))
        assert (await channel.receive()).payload == wide.tobytes()
        for large in (bytes(9000), memoryview(array.array("d", range(1000)))):
            with pytest.raises(DatagramTooLargeError, match="fit"):
                peer.send_datagram("news", large)
        for wrong in ("text", [1, 2]):
            with pytest.raises(TypeError, match="can be sent"):
                peer.send_datagram("news", wrong)  # type: ignore[arg-type]
    assert mesh.b.statistics().dropped_datagrams == 0


@pytest.mark.parametrize("limit", ["_MAX_WAITING", "_MAX_WAITING_BYTES"])
async def test_datagrams_that_nobody_reads(
    mesh: Mesh, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(services, limit, 1024 * (1 if limit == "_MAX_WAITING" else 65))
    peer = await connect(mesh.a, mesh.b)
    peer.send_datagram("nobody", b"x")
    await settle()
    assert mesh.b.statistics().dropped_datagrams == 1
    with mesh.b.datagrams("slow") as channel:
        for _ in range(13):
            for _ in range(100):
                peer.send_datagram("slow", b"x")
            await settle()
        assert channel.statistics().current_buffer_used == 1024
        assert mesh.b.statistics().dropped_datagrams == 1 + 1300 - 1024
        for _ in range(1024):  # what was read makes room again
            channel.receive_nowait()
        for _ in range(10):
            for _ in range(100):
                peer.send_datagram("slow", b"x")
            await settle()
        assert channel.statistics().current_buffer_used == 1000
    peer.send_datagram("slow", b"x")  # closed meanwhile
    await settle()
    assert mesh.b.statistics().dropped_datagrams == 2 + 1300 - 1024


# events


async def test_events_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet(seed=5) as net:
        hosts = [net.host(name) for name in ("r1", "r2")]
        async with (
            open_node(Identity.generate(), ("0.0.0.0", 1), network=hosts[0]) as r1,
            open_node(Identity.generate(), ("0.0.0.0", 1), network=hosts[1]) as r2,
        ):
            uris = [f"netmesh://{node.peer_id}@{host.address}:1" for node, host in zip((r1, r2), hosts, strict=True)]
            async with open_node(Identity.generate(), bootstrap=uris, network=net.host("a", behind="symmetric")) as a:
                events = a.events()
                async with open_node(
                    Identity.generate(), bootstrap=uris, network=net.host("b", behind="symmetric")
                ) as b:
                    await a.wait_connected()
                    await b.wait_connected()
                    await settle(2)
                    peer = await a.connect(b.peer_id)
                    assert peer.path is not None
                    first = hosts[0] if peer.path.via == r1.peer_id else hosts[1]
                    second = (r2 if peer.path.via == r1.peer_id else r1).peer_id
                    net.kill(first)
                    await trio.sleep(1)
                    async with b.listen("x"):
                        with trio.fail_after(5):
                            stream = await peer.open_stream("x")
                    stream.reset()
                    await settle()
                seen = []
                kinds = (PeerConnected, PathChanged, PeerDisconnected)
                with trio.move_on_after(1):
                    async for event in events:
                        if isinstance(event, kinds) and event.peer_id == b.peer_id:
                            seen.append(event)
                assert tuple(type(event) for event in seen) == kinds
                assert isinstance(seen[0], PeerConnected)
                assert seen[0].path.kind is PathKind.RELAYED
                assert isinstance(seen[1], PathChanged)
                assert seen[1].path.via == second
                assert seen[1].reason in ("silent", "gone")
                assert isinstance(seen[2], PeerDisconnected)
                assert seen[2].reason == "closed"


async def test_slow_reader_of_events(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    slow, gone = mesh.a.events(), mesh.a.events()
    peer = await connect(mesh.a, mesh.b)
    for _ in range(200):
        await peer.aclose()
        await settle(5)
        await mesh.a.connect(mesh.b.peer_id)
    first = await slow.__anext__()
    assert first == EventsLost(count=401 - 256)
    assert isinstance(await slow.__anext__(), (PeerConnected, PeerDisconnected))
    del gone
    gc.collect()
    assert len(engine(mesh.a).events._readers) == 1


async def test_sessions_that_the_program_ends(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """Words and reason say who did it; neither node was closed."""
    events, theirs = mesh.a.events(), mesh.b.events()
    near, far = await make_pair(mesh.a, mesh.b)
    await near.peer.aclose()
    with pytest.raises(SessionClosedError, match="^this node closed the session with peer ") as ours:
        await near.receive_some()
    with pytest.raises(SessionClosedError, match="^peer .* closed the session$") as other:
        await far.receive_some()
    assert ours.value.reason == other.value.reason == "closed"
    for reader, peer_id in ((events, mesh.b.peer_id), (theirs, mesh.a.peer_id)):
        assert isinstance(await reader.__anext__(), PeerConnected)
        assert await reader.__anext__() == PeerDisconnected(peer_id=peer_id, reason="closed")


async def test_a_node_that_is_closed_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        events = mesh.a.events()
        near, _ = await make_pair(mesh.a, mesh.b)
    with pytest.raises(SessionClosedError, match="^this node was closed$") as caught:
        await near.receive_some()
    assert caught.value.reason == "closed"
    reasons = [e.reason async for e in events if isinstance(e, PeerDisconnected)]
    assert reasons == ["closed"] * len(reasons)
    assert reasons


async def test_two_tasks_read_the_same_events(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """Each event comes to one of them, and none of them waits for ever."""
    events = mesh.a.events()
    peer = await connect(mesh.a, mesh.b)
    seen: list[object] = []

    async def take() -> None:
        seen.append(await events.__anext__())

    with trio.fail_after(60):
        await take()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            nursery.start_soon(take)
            await settle()
            await peer.aclose()
            await settle(5)
            await mesh.a.connect(mesh.b.peer_id)
    assert sorted(type(event).__name__ for event in seen) == ["PeerConnected", "PeerConnected", "PeerDisconnected"]


async def test_events_end_with_the_node(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet() as net, trio.open_nursery() as nursery:
        ended = []

        async def read(events: object) -> None:
            async for _ in events:  # type: ignore[attr-defined]
                pass
            ended.append(1)

        async with open_node(Identity.generate(), network=net.host("a")) as node:
            nursery.start_soon(read, node.events())
            await settle()
        await settle()
        assert ended == [1]
        async for _ in node.events():
            raise AssertionError
