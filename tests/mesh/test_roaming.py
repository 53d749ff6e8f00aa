"""A node's address changes under its sessions."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.mesh.world import Pattern, Receiver, World, exchange, serve_exchange


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("receives_only", [True, False])
async def test_a_nat_reboots_with_another_address_under_a_stream(
    world: World, autojump_clock: MockClock, direct: bool, receives_only: bool
) -> None:
    net = world.net
    relay = await world.start("r")
    a = await world.start("a", [relay], behind="port-restricted")
    b = await world.start("b", [relay], behind=None if direct else "symmetric")
    there, back = Pattern(1, 10 if receives_only else 300_000), Pattern(2, 300_000)
    far: list[Receiver] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, far, "exchange", 6)
        peer = await a.node.connect(b.uri if direct else b.id)
        session = a.session(b)
        stream = await peer.open_stream("exchange")
        near = Receiver(stream)

        async def reboot() -> None:
            await trio.sleep(2)
            net.nats["a.nat"].reboot()

        nursery.start_soon(reboot)
        await exchange(stream, there, back, near, lasting=6)
    pause = near.pause(near.times[0])
    assert a.session(b) is session
    assert pause < 8.5
