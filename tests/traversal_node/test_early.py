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


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.2])
async def test_a_lone_observation_is_announced_at_once_where_it_is_wanted(
    wait: float, autojump_clock: trio.testing.MockClock
) -> None:
    """Who connects right after the start is on the direct path as soon as who has waited."""
    async with open_lab(relays=1, settled=False) as lab:
        for member in (lab.a, lab.b):
            await member.node.wait_connected()
        await trio.sleep(wait)
        start = trio.current_time()
        await lab.connect()
        relayed = trio.current_time() - start  # a handshake: one round trip
        assert await lab.direct_within(10.0) is not None
        assert trio.current_time() - start <= 4 * relayed + 0.05
