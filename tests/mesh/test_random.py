"""Random worlds: NATs, delays, losses, relays that die and come back.  Every byte arrives, once and in order.

NETMESH_TRIO_SEEDS=5000 runs more of them.
"""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio.testing import KINDS, LinkSettings
from tests.mesh.world import Member, Pattern, World, exchange, serve_exchange


def bad_link(world: World, loss: float) -> LinkSettings:
    rng = world.chance
    return LinkSettings(
        delay=rng.uniform(0.001, 0.05),
        jitter=rng.choice((0.0, 0.005, 0.03)),
        loss=rng.choice((0.0, loss / 2, loss)),
        duplicate=rng.choice((0.0, 0.0, 0.1)),
        reorder=rng.choice((0.0, 0.0, 0.1)),
        reorder_delay=rng.uniform(0.001, 0.03),
        mtu=rng.choice((1500, 1500, 1400, 1280)),
    )


@pytest.mark.parametrize("seed", range(int(os.environ.get("NETMESH_TRIO_SEEDS", "200"))))
async def test_every_byte_arrives(world: World, autojump_clock: MockClock, seed: int) -> None:
    rng = world.chance
    net = world.net
    loss = rng.choice((0.0, 0.0, 0.01, 0.03, 0.05))
    relays = [await world.start(net.host(f"r{n}", link=bad_link(world, loss))) for n in range(2)]
    ends: list[Member] = []
    for name in "ab":
        behind = rng.choice(sorted(KINDS))
        host = net.host(name, behind=behind, link=bad_link(world, loss))
        ends.append(await world.start(host, relays))
    a, b = ends
    await trio.sleep(rng.uniform(0, 5))
    there, back = Pattern(seed, rng.randrange(100_000)), Pattern(-1 - seed, rng.randrange(100_000))

    async def disturb() -> None:
        """Kill relays and start them again, so that one of the two is always up for long enough."""
        for number in rng.choice(((), (0,), (1,), (0, 1), (0, 1, 0))):
            await trio.sleep(rng.uniform(0, 2))
            victim = relays[number]
            await victim.kill()
            await trio.sleep(rng.uniform(0.1, 3))
            relays[number] = await world.start(victim.host, identity=victim.identity)
            await trio.sleep(12)

    async with trio.open_nursery() as nursery:
        lasting = rng.choice((0, 1, 4, 8))
        await nursery.start(serve_exchange, b, back, there, [], "exchange", lasting)
        peer = await a.node.connect(b.id)
        stream = await peer.open_stream("exchange")
        nursery.start_soon(disturb)
        with trio.fail_after(200):
            await exchange(stream, there, back, lasting=lasting)
        nursery.cancel_scope.cancel()
