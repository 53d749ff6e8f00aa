"""Nodes that connect before they know what NAT they are behind."""

from __future__ import annotations

import pytest
import trio.testing

from tests.traversal_node.lab import open_lab, until


@pytest.mark.parametrize("relays", [1, 2])
@pytest.mark.parametrize("wait", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("kinds", [("port-restricted", "port-restricted"), ("symmetric", "full-cone")])
async def test_early_attempts_cost_no_backoff(
    kinds: tuple[str, str], wait: float, relays: int, autojump_clock: trio.testing.MockClock
) -> None:
    """What a first attempt lacked, the next one has as soon as it is known, not half a minute later."""
    async with open_lab(*kinds, relays=relays, settled=False) as lab:
        for member in (lab.a, lab.b):
            await member.node.wait_connected()
        await until(lambda: lab.a.node.peers() != [], 5.0)
        await trio.sleep(wait)
        await lab.connect()
        assert await lab.direct_within(10.0) is not None
