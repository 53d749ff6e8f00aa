"""Nodes on the virtual internet: each test gets a world of its own, in virtual time."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator

import pytest
import trio

from netmesh_trio.node import engine
from netmesh_trio.testing import VirtualInternet
from tests.mesh.world import Chance, World


@pytest.fixture
def seed() -> int:
    """What a test's chance is drawn from; a test may parametrize it."""
    return 1


@pytest.fixture
async def world(
    seed: int, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[World, None]:
    chance = Chance(seed)
    monkeypatch.setattr(engine, "os", types.SimpleNamespace(urandom=chance.randbytes))
    async with VirtualInternet(seed=seed, segments=44, delay=0.01, resolution=0.001) as net:
        async with trio.open_nursery() as nursery:
            yield World(net, nursery, chance)
            nursery.cancel_scope.cancel()
