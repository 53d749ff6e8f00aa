"""Both sides dial at the same moment: one session is left, the same on both ends."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio.testing import LinkSettings
from tests.mesh.world import Member, World


async def talk(world: World, member: Member, other: Member, uri: str, done: list[bool]) -> None:
    peer = await member.node.connect(uri)
    for number in range(3):
        stream = await peer.open_stream("echo")
        data = bytes([number]) * 5000
        await stream.send_all(data)
        await stream.send_eof()
        got = bytearray()
        while part := await stream.receive_some():
            got += part
        assert got == data
        await stream.aclose()
        done.append(True)


@pytest.mark.parametrize("seed", range(int(os.environ.get("NETMESH_TRIO_SEEDS", "100"))))
async def test_one_session_is_left(world: World, autojump_clock: MockClock, seed: int) -> None:
    rng = world.chance
    loss = rng.choice((0.0, 0.03, 0.1))
    settings = LinkSettings(
        delay=rng.uniform(0.001, 0.1), jitter=rng.choice((0, 0.02)), loss=loss, duplicate=rng.choice((0, 0.1))
    )
    relayed = seed % 2
    if relayed:
        relay = await world.start("r")
        a, b = [await world.start(name, [relay], behind="symmetric") for name in "ab"]
        a_uri, b_uri = str(a.id), str(b.id)
        await trio.sleep(3)
    else:
        a, b = [await world.start(world.net.host(name, link=settings)) for name in "ab"]
        a_uri, b_uri = a.uri, b.uri
    world.serve(a)
    world.serve(b)
    done: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk, world, a, b, b_uri, done)
        await trio.sleep(rng.choice((0, 0, rng.uniform(0, 0.05))))
        nursery.start_soon(talk, world, b, a, a_uri, done)
    assert len(done) == 6
    for host in world.net.hosts.values():
        host.link.loss = 0
    await trio.sleep(20)
    ours = a.engine.peers[b.id].sessions
    theirs = b.engine.peers[a.id].sessions
    assert len(ours) == len(theirs) == 1, (ours, theirs)
    assert ours[0].session.local_index == theirs[0].session.remote_index
    assert ours[0].session.remote_index == theirs[0].session.local_index
