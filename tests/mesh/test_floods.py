"""Peers that ask for much work: what it costs is bounded, and others get their share."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from netmesh_trio import Identity
from netmesh_trio.node import announcing
from netmesh_trio.paths.path import Path
from netmesh_trio.routing import TAG_RELAY_CAPABLE, Announcement, CloseCircuit, Effort, OpenCircuit, StoreLimits
from netmesh_trio.session.delivery import Delivery
from netmesh_trio.session.events import ControlReceived
from netmesh_trio.wire import frames, packets
from tests.mesh.world import World


async def test_reviews_that_take_long_are_far_apart(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether we are needed as a hub is asked at each news of one, and anybody can make news."""
    member = await world.start("a", wait=False)
    await trio.sleep(10)
    reviews = 0
    cost = 0

    def is_hub_needed(_self_id: object, _rank: int, _neighbors: object, _graph: object, effort: Effort) -> bool:
        nonlocal reviews
        reviews += 1
        effort.spend(cost)
        return False

    monkeypatch.setattr(announcing, "is_hub_needed", is_hub_needed)

    async def count() -> int:
        nonlocal reviews
        reviews = 0
        for _ in range(500):
            member.engine.on_neighbors_changed()
            await trio.sleep(0.01)
        return reviews

    assert await count() > 400
    cost = 1000
    # each takes some 5 ms
    assert await count() <= 11


async def test_one_neighbor_with_many_keys_does_not_empty_the_map(world: World, autojump_clock: MockClock) -> None:
    """What it announces of others counts for its address, so of a full map it makes room for itself."""
    relay = await world.start("relay")
    others = [await world.start(f"n{number}", [relay]) for number in range(3)]
    evil = world.net.host("evil")
    evils = [await world.start(evil, [relay], port=4650 + number) for number in range(3)]
    await trio.sleep(5)
    store = relay.node._store
    store.limits = StoreLimits(capacity=40)
    for number in range(120):
        made = Identity(world.chance.randbytes(32))
        said = Announcement(peer_id=made.peer_id, sequence=1, lifetime_s=3600, tags=(TAG_RELAY_CAPABLE,))
        envelope = said.sign(made.sign).passed_on(0.0)
        by = evils[number % 3]
        live = by.engine.direct_session(relay.id)
        assert live is not None
        assert envelope is not None
        by.engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, envelope.encode())
        await trio.sleep(0.1)
    assert store.stats().live == 40
    assert store.stats().evicted > 60
    assert all(store.get(other.id) is not None for other in others)
    assert len(store._shares) == 4
    # somebody new has room, too
    newcomer = await world.start("newcomer", [relay])
    await trio.sleep(5)
    assert store.get(newcomer.id) is not None


async def test_a_flood_of_control_messages_costs_nobody_elses(world: World, autojump_clock: MockClock) -> None:
    """They were acknowledged when they came in, so nobody would repeat them."""
    relay = await world.start("relay")
    flood, honest = await world.start("flood", [relay]), await world.start("honest", [relay])
    await trio.sleep(5)
    live = relay.engine.direct_session(flood.id)
    other = relay.engine.direct_session(honest.id)
    assert live is not None
    assert other is not None
    path, its_path = live.session.path, other.session.path
    assert path is not None
    assert its_path is not None
    before = relay.node.statistics()
    for _ in range(50):
        # all of it before any handler runs
        for _ in range(1000):
            relay.engine.dispatch_control(live, ControlReceived(frames.SUBPROTOCOL_CIRCUIT, b"", path))
        circuit = CloseCircuit(world.chance.randbytes(8))
        relay.engine.dispatch_control(other, ControlReceived(frames.SUBPROTOCOL_CIRCUIT, circuit.encode(), its_path))
        await trio.testing.wait_all_tasks_blocked()
        assert circuit.circuit_id in relay.engine.closed_circuits
    after = relay.node.statistics()
    # 256 at once, of which one gave way
    assert after.invalid_control - before.invalid_control == 50 * 255
    assert after.dropped_control - before.dropped_control == 50 * 745


async def test_a_full_relay_ends_a_circuit_of_whoever_has_most(world: World, autojump_clock: MockClock) -> None:
    """Both neighbors of it are told, and the newcomer gets through."""
    relay = await world.start("relay")
    a, b, c, d = [await world.start(name, [relay], direct=False) for name in "abcd"]
    await trio.sleep(5)
    table = relay.node._table
    table.limits = attrs.evolve(table.limits, max_circuits=2)
    await a.node.connect(b.id)
    await trio.sleep(1)
    await a.node.connect(c.id)
    await trio.sleep(1)
    held = dict(a.engine.endpoints)
    assert len(held) == len(table) == 2
    with trio.fail_after(1):
        await d.node.connect(c.id)
    await trio.sleep(0.1)
    assert table.stats().displaced >= 1
    ended = held.keys() - a.engine.endpoints.keys()
    assert len(ended) == 1
    assert ended <= a.engine.closed_circuits.keys()
    assert not any(leg in table for leg in ended)


async def test_a_full_relay_takes_neighbors_at_one_address_for_one(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("relay")
    many = world.net.host("many")
    keys = [await world.start(many, [relay], port=4650 + number, direct=False) for number in range(2)]
    b, honest = [await world.start(name, [relay], direct=False) for name in ("b", "honest")]
    await trio.sleep(5)
    table = relay.node._table
    table.limits = attrs.evolve(table.limits, max_circuits=2)
    for member in keys:
        await member.node.connect(b.id)
        await trio.sleep(1)
    assert len(table) == 2
    with trio.fail_after(1):
        await honest.node.connect(b.id)
    assert table.stats().displaced == 1


async def test_circuits_that_end_at_a_node_are_bounded(world: World, autojump_clock: MockClock) -> None:
    """A relay that makes one after another."""
    relay = await world.start("relay")
    a = await world.start("a", [relay])
    await trio.sleep(1)
    live = relay.engine.direct_session(a.id)
    assert live is not None
    init = bytes((packets.INIT,)) + bytes(50)
    for _ in range(300):
        circuit = OpenCircuit(world.chance.randbytes(8), a.id, 1, init)
        relay.engine.send_control(live, frames.SUBPROTOCOL_CIRCUIT, circuit.encode())
        await trio.sleep(0.01)
    await trio.sleep(0.1)
    assert a.engine.endpoints.count_over(relay.id) == len(a.engine.endpoints) == 256


async def test_searches_leave_others_something_of_what_a_relay_grants(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("relay")
    a = await world.start("a", [relay])
    dialer = a.node._dialer

    def granted(*, late: bool) -> int:
        return sum(dialer._may_ask(relay.id, late=late) for _ in range(100))

    limits = relay.node._table.limits
    assert granted(late=True) == 25  # half of it is for those that are not late
    assert granted(late=False) == 23
    assert limits.burst_opens > 48
    await trio.sleep(1.0)
    assert granted(late=False) == 6 < limits.opens_per_second
    # nothing is kept for relays that are asked no more
    await trio.sleep(60)
    assert dialer._may_ask(world.chance.identity().peer_id, late=False)
    assert relay.id not in dialer._search_budgets


class Deaf(Delivery):
    """Takes no notice of acknowledgements, as if the peer sent none."""

    def on_ack(self, runs: object, delay: float, arrived: Path, now: float) -> None:
        pass


async def test_peers_that_acknowledge_nothing_leave_room_for_searches_and_dials(
    world: World, autojump_clock: MockClock
) -> None:
    """A way is sought to each of them for as long as they are heard."""
    relays = [await world.start(f"relay{number}") for number in range(2)]
    a = await world.start("a", relays, direct=False)
    b = await world.start("b", relays, direct=False)
    friend = await world.start("friend", relays, direct=False)
    others = [await world.start(f"n{number}", [a], direct=False) for number in range(70)]
    world.serve(b)
    peer = await a.node.connect(b.id)
    stream = await peer.open_stream("echo")
    sessions = [a.session(other) for other in others]
    for session in sessions:
        session.delivery = Deaf(session)

    async def keep_talking() -> None:
        while True:
            for other in others:
                for member, its in ((a, other), (other, a)):
                    live = member.engine.direct_session(its.id)
                    if live is not None:
                        live.session.ping()
                        live.drive()
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_talking)
        await trio.sleep(20)
        assert len(a.node._dialer._searching) == 70
        assert not any(session.closed for session in sessions)
        # searches take less than a relay grants
        assert [relay.node._table.stats().refused["budget"] for relay in relays] == [0, 0]
        # somebody else is dialed
        with trio.fail_after(1):
            await a.node.connect(friend.id)
        # and a session whose relay dies finds another
        via = a.session(b).path.via
        await next(relay for relay in relays if relay.id == via).kill()
        with trio.fail_after(5):
            await stream.send_all(b"still here?")
            assert await stream.receive_some() == b"still here?"
        assert a.session(b).path.via != via
        # who acknowledges nothing for long is as good as gone
        await trio.sleep(45)
        assert all(session.closed for session in sessions)
        assert not a.node._dialer._searching
        nursery.cancel_scope.cancel()


async def test_circuits_that_ended_are_remembered_up_to_a_number(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a", wait=False)
    ids = [number.to_bytes(8, "big") for number in range(1100)]
    for circuit_id in ids:
        a.engine.note_closed(circuit_id, a.id)
    assert list(a.engine.closed_circuits) == ids[-1024:]
