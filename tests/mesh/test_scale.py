"""How what nodes tell each other grows with the mesh: counted, not timed."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.mesh.world import Member, World


def heard(member: Member) -> int:
    """Announcements that came in, new or not."""
    return sum(member.node._store.stats().verdicts.values())


def known(member: Member) -> int:
    return member.node._store.stats().live


def hubs(*members: Member) -> list[Member]:
    return [m for m in members if any(tag.startswith("hub:") for tag in m.node._store._own.announcement.tags)]  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [20, 60])
async def test_a_star(world: World, autojump_clock: MockClock, size: int) -> None:
    """Whoever joins costs the relay the same, and the others hear nothing of it; all reach each other."""
    relay = await world.start("relay")
    leaves = [await world.start(f"n{number}", [relay]) for number in range(size)]
    await trio.sleep(30)
    assert hubs(relay, *leaves) == [relay]
    assert known(relay) == size
    before = [heard(leaf) for leaf in leaves]
    sent = relay.node.statistics().packets_sent
    newcomer = await world.start("newcomer", [relay])
    await trio.sleep(2)
    assert [heard(leaf) for leaf in leaves] == before
    # the packets of others that fall into these two seconds are keep-alives, and there are few
    assert relay.node.statistics().packets_sent - sent < 20 + size / 5
    assert heard(newcomer) <= 3
    assert known(newcomer) == 1
    relay_heard = heard(relay)
    await trio.sleep(200)
    assert all(known(leaf) == 1 for leaf in leaves)
    assert all(heard(leaf) - count <= 2 for leaf, count in zip(leaves, before, strict=True))
    assert heard(relay) - relay_heard <= 2 * (size + 1)
    for a, b in zip(leaves[:3], leaves[3:6], strict=True):
        await a.node.connect(b.id)
        await trio.sleep(0.1)
        assert a.node._store.get(b.id) is not None  # the relay introduced them
        assert b.node._store.get(a.id) is not None
        assert known(leaves[-1]) == 1


async def test_a_ring_of_relays(world: World, autojump_clock: MockClock) -> None:
    """Nodes with two relays that are no neighbors of each other need not lead from one to the other."""
    relays = [await world.start("r0")]
    for number in range(1, 5):
        relays.append(await world.start(f"r{number}", [relays[-1], *relays[:1]] if number == 4 else relays[-1:]))
    await trio.sleep(5)
    leaves = []
    for number in range(25):
        leaves.append(await world.start(f"n{number}", world.chance.sample(relays, 2)))
    await trio.sleep(330)  # who was a hub while the ring was made stays one for a while
    assert set(hubs(*relays, *leaves)) <= set(relays)
    here = {relay.id for relay in hubs(*relays)}
    for leaf in leaves:
        assert known(leaf) <= len(relays)
        assert here <= leaf.node._store.graph.live.keys()
    for relay in hubs(*relays):
        assert known(relay) == len(relays) + len(leaves) - 1
    newcomers = [await world.start(f"m{number}", world.chance.sample(relays, 2)) for number in range(4)]
    await trio.sleep(5)
    assert not any(leaf.node._store.get(new.id) for leaf in leaves for new in newcomers)
    for _ in range(10):
        a, b = world.chance.sample(leaves, 2)
        await a.node.connect(b.id)


async def test_a_node_between_two_meshes_is_a_hub_while_it_is_needed(world: World, autojump_clock: MockClock) -> None:
    """Two stars that only one leaf joins: it becomes a hub by itself, and everybody reaches everybody."""
    one, two = await world.start("one"), await world.start("two")
    left = [await world.start(f"l{number}", [one]) for number in range(4)]
    right = [await world.start(f"r{number}", [two]) for number in range(4)]
    bridge = await world.start("bridge", [one, two])
    start = trio.current_time()
    await left[0].node.connect(right[0].id)
    assert trio.current_time() - start < 5.0
    assert set(hubs(one, two, bridge, *left, *right)) == {one, two, bridge}
    others = [await world.start(f"m{number}", [one, two]) for number in range(2)]
    await trio.sleep(310)
    assert len(hubs(bridge, *others)) == 1  # of three between them
    await left[1].node.connect(right[1].id)
