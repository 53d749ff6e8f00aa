"""Fixtures for tests of running nodes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio

from tests.node.mesh import Mesh, open_mesh


@pytest.fixture
async def mesh(autojump_clock: trio.testing.MockClock) -> AsyncGenerator[Mesh, None]:
    """A relay and two nodes behind symmetric NATs.  The test itself has to take ``autojump_clock``, too."""
    async with open_mesh() as made:
        yield made
