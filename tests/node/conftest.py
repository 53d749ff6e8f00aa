"""Fixtures for tests of running nodes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from tests.node.mesh import Mesh, open_mesh


@pytest.fixture
async def mesh(autojump_clock: trio.testing.MockClock) -> AsyncGenerator[Mesh, None]:
    """A relay and two nodes behind symmetric NATs.  A test takes ``autojump_clock`` too: pytest-trio only looks there."""
    async with open_mesh() as made:
        yield made
