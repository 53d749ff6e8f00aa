"""A relay dies under a stream: the stream goes on over another."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from netmesh_trio.events import PathChanged
from tests.mesh.world import Member, Pattern, Receiver, World, exchange, serve_exchange

#: Seconds that no stream may stand still for; where that is more, so many round trips: on a slow link that loses one
#: packet in ten both ways, what is lost three times in a row takes that long.
LIMIT = 3.0
LIMIT_ROUND_TRIPS = 8


@attrs.define
class Outcome:
    """How long the longest pause was in each direction, and when both were done."""

    there: float = 0.0
    back: float = 0.0


class Ends(NamedTuple):
    a: Member
    b: Member
    relays: list[Member]

    def carrier(self) -> Member:
        """The relay that carries the session now."""
        session = self.a.session(self.b)
        assert session is not None
        assert session.path is not None
        return next(r for r in self.relays if r.id == session.path.via)


async def two_relays(world: World, **config: Any) -> Ends:
    relays = [await world.start("r1", **config), await world.start("r2", **config)]
    a = await world.start("a", relays, behind="symmetric", **config)
    b = await world.start("b", relays, behind="symmetric", **config)
    await trio.sleep(4)
    await a.node.connect(b.id)
    return Ends(a, b, relays)


async def carry(
    world: World,
    ends: Ends,
    size: int,
    disturb: Callable[[Receiver], Awaitable[None]],
    *,
    ways: str = "both",
    lasting: float = 0,
) -> Outcome:
    """Exchange ``size`` bytes each way, or one, while ``disturb(receiver)`` runs; no byte may be wrong."""
    a, b, _ = ends
    there, back = Pattern(1, size if ways != "back" else 10), Pattern(2, size if ways != "there" else 10)
    far: list[Receiver] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, far, "exchange", lasting)
        peer = await a.node.connect(b.id)
        stream = await peer.open_stream("exchange")
        near = Receiver(stream)

        async def disturber() -> None:
            watched = near if ways == "back" else far[0]
            while watched.size <= size // 4:
                await trio.sleep(0.01)
            await disturb(watched)

        while not far:
            await trio.sleep(0.01)
        nursery.start_soon(disturber)
        await exchange(stream, there, back, near, lasting=lasting)
    return Outcome(
        far[0].pause(0) if ways != "back" else 0.0,
        near.pause(0) if ways != "there" else 0.0,
    )


async def test_twenty_megabytes_both_ways_survive_their_relay(world: World, autojump_clock: MockClock) -> None:
    ends = await two_relays(world)
    for host in world.net.hosts.values():
        host.link.rate = 20e6
    session = ends.a.session(ends.b)

    async def disturb(_: Receiver) -> None:
        await ends.carrier().kill()

    outcome = await carry(world, ends, 20_000_000, disturb)
    assert max(outcome.there, outcome.back) < LIMIT
    assert ends.a.session(ends.b) is session


async def one_death(world: World, seed: int, size: int) -> tuple[Outcome, float]:
    """What became of the stream, and the round-trip time over the relay that is left."""
    ends = await two_relays(world)
    rng = world.chance
    delay, loss = rng.uniform(0.005, 0.1), rng.choice((0.0, 0.005, 0.02, 0.05))
    for member in ends.relays:
        member.host.link.delay = delay * rng.uniform(0.5, 1.5)
        member.host.link.loss = loss
        member.host.link.rate = rng.choice((None, 5e6))
    await trio.sleep(1)

    async def disturb(_: Receiver) -> None:
        await trio.sleep(rng.uniform(0, 0.3))
        await ends.carrier().kill()

    ways = ("both", "there", "back")[seed % 3]
    outcome = await carry(world, ends, size, disturb, ways=ways, lasting=4)
    return outcome, ends.a.session(ends.b).path.rtt.minimum


@pytest.mark.parametrize("seed", range(int(os.environ.get("NETMESH_TRIO_SEEDS", "30"))))
async def test_a_relay_dies_on_good_and_bad_links(world: World, autojump_clock: MockClock, seed: int) -> None:
    outcome, rtt = await one_death(world, seed, 400_000)
    assert max(outcome.there, outcome.back) < max(LIMIT, LIMIT_ROUND_TRIPS * rtt)


@pytest.mark.parametrize("same_key", [True, False])
async def test_the_second_relay_dies_when_the_first_is_back(
    world: World, autojump_clock: MockClock, same_key: bool
) -> None:
    ends = await two_relays(world)
    session = ends.a.session(ends.b)

    async def disturb(receiver: Receiver) -> None:
        first = ends.carrier()
        await first.kill()
        await trio.sleep(5)
        assert ends.carrier() is not first
        revived = await world.start(first.host, identity=first.identity if same_key else None)
        if not same_key:
            # who has a new key is a new node: it has to be named anew
            await ends.a.node.connect(revived.uri)
            await ends.b.node.connect(revived.uri)
        ends.relays[ends.relays.index(first)] = revived
        await trio.sleep(8)
        assert receiver.size < 4_000_000
        await next(r for r in ends.relays if r is not revived).kill()

    outcome = await carry(world, ends, 4_000_000, disturb, lasting=30)
    assert max(outcome.there, outcome.back) < LIMIT
    assert ends.a.session(ends.b) is session


async def test_a_relay_that_leaves_costs_hardly_a_pause(world: World, autojump_clock: MockClock) -> None:
    ends = await two_relays(world)
    for host in world.net.hosts.values():
        host.link.rate = 10e6

    changes: list[PathChanged] = []

    async def disturb(_: Receiver) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_changes)
            await wait_all_tasks_blocked()
            await ends.carrier().close()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

    async def note_changes() -> None:
        async for event in ends.a.node.events():
            if isinstance(event, PathChanged):
                changes.append(event)

    left = ends.carrier().id
    outcome = await carry(world, ends, 5_000_000, disturb)
    assert max(outcome.there, outcome.back) < 0.6
    assert [change.reason for change in changes] == ["gone"]
    assert changes[0].path.via == ends.carrier().id != left
    assert ends.a.node.statistics().path_failovers == 1


async def test_a_relay_that_doubts_its_way_to_an_end_goes_on_forwarding(
    world: World, autojump_clock: MockClock
) -> None:
    """As when a queue fills: its own session with that end prefers another relay, and circuits have no other way."""
    ends = await two_relays(world)
    carrier = ends.carrier()
    other = next(relay for relay in ends.relays if relay is not carrier)
    await carrier.node.connect(other.uri)
    live = carrier.engine.peers[ends.a.id].live
    assert live is not None
    carrier.node._dialer._try_circuit(live, other.id, {})
    legs = [leg for leg in carrier.node._table._legs.values() if leg.peer in (ends.a.id, ends.b.id)]

    async def disturb(_: Receiver) -> None:
        session = live.session
        direct = session.path
        assert direct is not None
        direct.suspect = True
        session.choose(trio.current_time())
        assert session.path is not None
        assert session.path.via == other.id
        await trio.sleep(0.02)

    outcome = await carry(world, ends, 400_000, disturb, lasting=4)
    assert not sum(leg.dropped for leg in legs)
    assert max(outcome.there, outcome.back) < 0.2


async def test_a_stream_waits_for_the_only_relay_to_come_back(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r1")
    a = await world.start("a", [relay], behind="symmetric")
    b = await world.start("b", [relay], behind="symmetric")
    await a.node.connect(b.id)
    ends = Ends(a, b, [relay])
    for host in world.net.hosts.values():
        host.link.rate = 4e6

    async def disturb(_: Receiver) -> None:
        await relay.kill()
        await world.start(relay.host, identity=relay.identity)

    outcome = await carry(world, ends, 3_000_000, disturb)
    assert max(outcome.there, outcome.back) < LIMIT


async def test_giving_back_a_circuit_may_close_others(world: World, autojump_clock: MockClock) -> None:
    """As when the session with the relay ends over it."""
    ends = await two_relays(world)
    engine = ends.a.engine
    peer = engine.peers[ends.b.id]
    live = peer.live
    assert live is not None
    session = live.session
    for relay in ends.relays:
        if not any(path.via == relay.id for path in session.paths.values()):
            ends.a.node._dialer._try_circuit(live, relay.id, {})
    await trio.sleep(1)
    assert {path.via for path in session.paths.values()} == {relay.id for relay in ends.relays}
    given: list[bytes] = []

    def give_back(circuit: bytes, _: object) -> None:
        given.append(circuit)
        for other in list(engine.endpoints):
            engine.circuit_closed(other)

    engine.on_circuit_unused = give_back
    await peer.aclose()
    await trio.sleep(1)
    assert len(given) == 1
    assert not engine.endpoints
    assert ends.b.id not in engine.peers
