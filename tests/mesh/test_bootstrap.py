"""Getting into the mesh, and out of it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from netmesh_trio import PeerConnected, PeerUnreachableError, TraversalConfig
from netmesh_trio.events import NatChanged
from netmesh_trio.node.live import LiveSession
from tests.mesh.world import Member, World


def knows(member: Member, other: Member) -> bool:
    return member.node._store.get(other.id) is not None


async def test_a_node_that_starts_before_its_relay_gets_there(world: World, autojump_clock: MockClock) -> None:
    host = world.net.host("r")
    identity = world.chance.identity()
    a = await world.start("a", [f"netmesh://{identity.peer_id}@{host.address}:4650"], wait=False)
    await trio.sleep(47)
    await world.start(host, identity=identity)
    with trio.fail_after(31):
        await a.node.wait_connected()


async def test_bootstrap_by_name(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    uri = f"netmesh://{relay.id}@relay.example:4650"
    a = await world.start("a", [uri], wait=False, connect_timeout=2.0)
    with pytest.raises(PeerUnreachableError, match="relay.example"):
        await a.node.connect(uri)
    world.net.dns["relay.example"] = ["203.0.113.250", relay.host.address]
    with trio.fail_after(31):
        await a.node.wait_connected()


async def test_another_peer_at_the_address_is_no_connection(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    other = world.chance.identity().peer_id
    uri = f"netmesh://{other}@{relay.host.address}:4650"
    a = await world.start("a", [uri], wait=False, connect_timeout=3.0)
    with pytest.raises(PeerUnreachableError, match=f"{other.short} is not reachable now: nobody answers at"):
        await a.node.connect(uri)
    with trio.move_on_after(100) as waited:
        await a.node.wait_connected()
    assert waited.cancelled_caught
    assert a.node.peers() == []
    assert relay.node.statistics().half_open == 0


async def test_one_dead_bootstrap_node_of_two_costs_nothing(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    dead = f"netmesh://{world.chance.identity().peer_id}@203.0.113.77:4650"
    start = trio.current_time()
    await world.start("a", [dead, relay])
    assert trio.current_time() - start < 0.05


async def test_who_leaves_is_forgotten_at_once(world: World, autojump_clock: MockClock) -> None:
    r1 = await world.start("r1")
    r2 = await world.start("r2", [r1])
    a, b = await world.start("a", [r1]), await world.start("b", [r2])
    await trio.sleep(5)
    assert not knows(b, a)  # it asks its relay
    for member in (r1, r2):
        assert knows(member, a)
    await a.close()
    start = trio.current_time()
    while any(knows(member, a) for member in (r1, r2)):
        await trio.sleep(0.01)
        assert trio.current_time() - start < 0.2
    start = trio.current_time()
    with pytest.raises(PeerUnreachableError, match="no connected node leads to it"):
        await b.node.connect(a.id)


async def test_who_is_killed_is_forgotten(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])
    await trio.sleep(5)
    await a.kill()
    start = trio.current_time()
    while relay.session(a) is not None:
        await trio.sleep(0.5)
    assert trio.current_time() - start < 65
    assert a.id not in relay.engine.neighbors()
    while knows(b, a):
        await trio.sleep(10)
        assert trio.current_time() - start < 700
    assert a.id not in relay.engine.peers


async def test_a_connection_lost_for_a_while_is_direct_again_after(world: World, autojump_clock: MockClock) -> None:
    relays = [await world.start("r1"), await world.start("r2")]
    a = await world.start("a", relays)
    await world.start("b", relays)  # leads from one relay to the other
    world.serve(relays[0])
    peer = await a.node.connect(relays[0].id)
    stream = await peer.open_stream("echo")
    world.net.block(a.host, relays[0].host)
    with trio.fail_after(5):
        await stream.send_all(b"around")  # over r2, meanwhile
        assert await stream.receive_some() == b"around"
    assert relays[0].id not in a.engine.neighbors()
    await trio.sleep(60)
    world.net.unblock(a.host, relays[0].host)
    with trio.fail_after(60):
        while relays[0].id not in a.engine.neighbors():
            await trio.sleep(1)
    await stream.send_all(b"straight")
    assert await stream.receive_some() == b"straight"


async def test_fifty_nodes_that_come_and_go(world: World, autojump_clock: MockClock) -> None:
    rng = world.chance
    relay = await world.start("r")
    members = [await world.start(f"n{number}", [relay], wait=False) for number in range(50)]
    for member in members:
        await member.node.wait_connected()
        world.serve(member)
    await trio.sleep(10)
    for _ in range(20):
        one, other = rng.sample(members, 2)
        stream = await (await one.node.connect(other.id)).open_stream("echo")
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()
        if rng.random() < 0.5:
            number = rng.randrange(50)
            victim = members[number]
            await (victim.close() if rng.random() < 0.5 else victim.kill())
            members[number] = await world.start(victim.host, [relay])
            world.serve(members[number])
            await trio.sleep(rng.uniform(0, 1))
    await trio.sleep(130)
    assert len(relay.engine.sessions) == 50
    assert len(relay.engine.peers) <= 51
    assert relay.engine.handshakes.half_open == {}
    assert relay.engine.endpoints == {}
    assert len(relay.node._table) <= 40
    for member in members:
        assert len(member.engine.sessions) < 50
        assert len(member.engine.endpoints) <= 3 * len(member.engine.sessions)
        check_riders(member)


async def test_circuits_are_given_back(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])
    await trio.sleep(3)
    for _ in range(100):
        peer = await a.node.connect(b.id)
        await peer.aclose()
        await trio.sleep(0.2)
    await trio.sleep(1)
    assert len(relay.node._table) == 0
    assert a.engine.endpoints == b.engine.endpoints == {}
    assert a.engine.riders == b.engine.riders == {}


def check_riders(member: Member) -> None:
    """The node knows which of its sessions runs on which circuit."""
    engine = member.engine
    lives = engine.all_live()
    for live in lives:
        assert {key for key in live.session.paths if isinstance(key, bytes)} <= live.circuits.keys()
    assert engine.riders == {
        circuit: riders for circuit in engine.endpoints if (riders := [x for x in lives if circuit in x.circuits])
    }


class Watched(dict[int, LiveSession]):
    """Counts how often somebody goes through all sessions."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


async def test_a_dead_relay_costs_its_circuits_once(world: World, autojump_clock: MockClock) -> None:
    """Not a look at all sessions for each of them: a node may have thousands."""
    relays = [await world.start(name) for name in ("r1", "r2")]
    others = [await world.start(f"n{number}", relays) for number in range(10)]
    a = await world.start("a", relays, behind="symmetric", traversal=TraversalConfig(enabled=False))
    await trio.sleep(3)
    peers = [await a.node.connect(other.id) for other in others]
    vias = [peer.path.via for peer in peers if peer.path is not None]
    dead = max(relays, key=lambda relay: vias.count(relay.id))
    assert vias.count(dead.id) >= 5
    check_riders(a)
    sessions = a.engine.sessions = Watched(a.engine.sessions)
    await dead.close()
    await trio.sleep(0.5)
    assert sessions.looks < 5
    await trio.sleep(5)
    assert all(peer.path is not None and peer.path.via not in (None, dead.id) for peer in peers)
    check_riders(a)


async def test_events_tell_of_a_peer_once(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    seen: list[object] = []

    async def watch() -> None:
        async for event in relay.node.events():
            if not isinstance(event, NatChanged):
                seen.append(event)

    world.nursery.start_soon(watch)
    await trio.lowlevel.checkpoint()
    a = await world.start("a", [relay])
    await trio.sleep(300)
    assert [type(e) for e in seen] == [PeerConnected]
    await a.close()
    await trio.sleep(1)
    assert [type(e).__name__ for e in seen] == ["PeerConnected", "PeerDisconnected"]
