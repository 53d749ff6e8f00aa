"""Chains of relays, and who relays for whom."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, NetworkKey, PeerUnreachableError
from netmesh_trio.events import PathKind
from netmesh_trio.wire import packets
from tests.mesh.world import Member, Pattern, World, exchange, serve_exchange


async def chain(world: World, relays: int, **config: Any) -> tuple[Member, list[Member], Member]:
    """a - r1 - r2 - ... - b; each knows the next only."""
    line: list[Member] = []
    for number in range(relays):
        line.append(await world.start(f"r{number}", line[-1:], **config))
    a = await world.start("a", line[:1], behind="symmetric")
    b = await world.start("b", line[-1:], behind="symmetric")
    await trio.sleep(5)
    return a, line, b


@pytest.mark.parametrize("relays", [1, 2, 3, 7])
async def test_a_chain_of_relays_carries_streams(world: World, autojump_clock: MockClock, relays: int) -> None:
    a, line, b = await chain(world, relays)
    there, back = Pattern(1, 300_000), Pattern(2, 300_000)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, [])
        peer = await a.node.connect(b.id)
        round_trip = 4 * 0.01 * (relays + 1) + 4 * 0.0005
        # the handshake takes one round trip, however many relays there are
        assert trio.current_time() - start < 1.1 * round_trip
        path = peer.path
        assert path is not None
        assert path.kind is PathKind.RELAYED
        assert path.via == line[0].id
        await exchange(await peer.open_stream("exchange"), there, back)
    assert all(relay.node.statistics().relayed_packets > 400 for relay in line)


async def test_more_than_eight_legs_are_refused(world: World, autojump_clock: MockClock) -> None:
    a, _, b = await chain(world, 8)
    start = trio.current_time()
    with pytest.raises(PeerUnreachableError, match="not reachable now: .*leads to it"):
        await a.node.connect(b.id)
    assert trio.current_time() - start <= 10


async def test_a_relay_that_relays_for_nobody_refuses(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r", relay="off")
    a = await world.start("a", [relay], connect_timeout=3.0)
    b = await world.start("b", [relay])
    await trio.sleep(3)
    start = trio.current_time()
    with pytest.raises(PeerUnreachableError, match="do not relay for us"):
        await a.node.connect(b.id)
    assert trio.current_time() - start <= 3
    assert relay.node.statistics().circuits == 0
    # and still, it serves its own sessions
    world.serve(relay)
    stream = await (await a.node.connect(relay.id)).open_stream("echo")
    await stream.send_all(b"hello")
    assert await stream.receive_some() == b"hello"


async def test_a_relay_for_members_relays_between_members_only(world: World, autojump_clock: MockClock) -> None:
    known = [world.chance.identity() for _ in range(2)]
    relay = await world.start("r", relay="members", relay_members=[i.peer_id for i in known])
    a = await world.start("a", [relay], identity=known[0], connect_timeout=3.0)
    b = await world.start("b", [relay], identity=known[1])
    c = await world.start("c", [relay], connect_timeout=3.0)
    await trio.sleep(3)
    await a.node.connect(b.id)
    with pytest.raises(PeerUnreachableError, match="do not relay for us"):
        await c.node.connect(b.id)
    with pytest.raises(PeerUnreachableError, match="do not relay for us"):
        await a.node.connect(c.id)


async def test_all_of_a_private_mesh_are_members(world: World, autojump_clock: MockClock) -> None:
    key = NetworkKey.generate()
    relay = await world.start("r", relay="members", network_key=key)
    a = await world.start("a", [relay], network_key=key)
    b = await world.start("b", [relay], network_key=key)
    await a.node.connect(b.id)


async def test_a_private_mesh_does_not_answer_strangers(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r", network_key=NetworkKey.generate())
    for number, key in enumerate((None, NetworkKey.generate())):
        sent = relay.host.statistics().sent
        stranger = await world.start(f"s{number}", [relay], wait=False, connect_timeout=4.0, network_key=key)
        with pytest.raises(PeerUnreachableError, match="nobody answers at"):
            await stranger.node.connect(relay.uri)
        assert relay.host.statistics().sent == sent
        drops = relay.engine.handshakes.responder.stats().drops
        assert set(drops) == {"mac1"}
        await stranger.close()
    # nor does anybody hear that a session is unknown
    sent = relay.host.statistics().sent
    data = packets.data_prefix(0, 0xBAD) + bytes(40)
    world.net.inject(data, Address("198.51.100.9", 9), Address(relay.host.address, 4650))
    await trio.sleep(0.1)
    assert relay.host.statistics().sent == sent
    assert relay.engine.handshakes.responder.stats().replies == 0
    assert relay.node.statistics().dropped_handshake >= 8


async def test_circuits_of_one_asker_are_limited(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    limit = relay.node._table.limits.max_circuits_per_peer
    ends = [await world.start(f"b{number}", [relay], direct=False) for number in range(limit + 2)]
    a = await world.start("a", [relay], connect_timeout=4.0, direct=False)
    await trio.sleep(3)
    refused = 0
    for end in ends:
        try:
            await a.node.connect(end.id)
        except PeerUnreachableError as error:
            refused += 1
            assert "no room for another circuit" in str(error)
        await trio.sleep(0.2)
    assert refused == 2
    assert len(relay.node._table) == limit
    assert relay.node._table.stats().refused["budget"] >= 2
    # others are not affected
    await ends[0].node.connect(ends[1].id)
