"""Peers that ask for much work: what it costs is bounded, and others get their share."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Identity
from netmesh_trio.node import announcing
from netmesh_trio.routing import TAG_RELAY_CAPABLE, Announcement, Effort, StoreLimits
from netmesh_trio.wire import frames
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
