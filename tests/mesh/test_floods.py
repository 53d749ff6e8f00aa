"""Peers that ask for much work: what it costs is bounded, and others get their share."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio.node import announcing
from netmesh_trio.routing import Effort
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
