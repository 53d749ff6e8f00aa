"""One side restarts: same key, new process."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

import netmesh_trio
from netmesh_trio import SessionClosedError
from tests.mesh.world import Member, World


async def old_stream(world: World, a: Member, b: Member) -> netmesh_trio.Stream:
    world.serve(b)
    peer = await a.node.connect(b.uri)
    stream = await peer.open_stream("echo")
    await stream.send_all(b"before")
    assert await stream.receive_some() == b"before"
    return stream


async def broken_after(stream: netmesh_trio.Stream) -> float:
    start = trio.current_time()
    with pytest.raises(SessionClosedError) as caught:
        await stream.receive_some()
    assert caught.value.reason == "restarted", caught.value
    return trio.current_time() - start


async def new_stream(world: World, a: Member, b: Member) -> None:
    world.serve(b)
    stream = await (await a.node.connect(b.id)).open_stream("echo")
    await stream.send_all(b"after")
    assert await stream.receive_some() == b"after"


@pytest.mark.parametrize("port", [4650, 5000])
async def test_the_dialed_side_restarts_and_the_other_has_something_to_send(
    world: World, autojump_clock: MockClock, port: int
) -> None:
    a, b = await world.start("a"), await world.start("b")
    stream = await old_stream(world, a, b)
    await trio.sleep(30)
    await b.kill()
    b2 = await world.start(b.host, identity=b.identity, port=port)
    if port != 4650:
        # nobody is at the old address: a has to be told of the new one
        await stream.send_all(b"anybody there?")
        await trio.sleep(0.1)
        await b2.node.connect(a.uri)
        elapsed = await broken_after(stream)
        assert elapsed < 0.1
    else:
        await stream.send_all(b"anybody there?")
        elapsed = await broken_after(stream)
        assert elapsed < 2.2 * 0.04
    await new_stream(world, a, b2)
    assert [p.peer_id for p in a.node.peers()] == [b.id]


async def test_the_dialing_side_restarts_and_connects_again(world: World, autojump_clock: MockClock) -> None:
    a, b = await world.start("a"), await world.start("b")
    stream = await old_stream(world, b, a)
    await trio.sleep(1)  # else b would wait for the acknowledgement of its own, and see that it does not come
    await a.kill()
    await trio.sleep(3)
    a2 = await world.start(a.host, [b], identity=a.identity)
    elapsed = await broken_after(stream)
    assert elapsed < 0.05
    await new_stream(world, b, a2)


async def test_a_session_whose_end_got_lost_is_over_soon(world: World, autojump_clock: MockClock) -> None:
    a, b = await world.start("a"), await world.start("b")
    stream = await old_stream(world, a, b)
    [lost] = b.engine.all_live()
    lost.session.close(0, "", b.engine.now())
    lost.session.out.abandon()
    b.engine.session_closed(lost)
    begun = a.engine.sessions_had
    start = trio.current_time()
    await stream.send_all(b"anybody there?")
    with pytest.raises(SessionClosedError) as caught:
        await stream.receive_some()
    assert caught.value.reason == "closed"
    # told that nobody knows the session, shaken hands, asked in vain in the session, told so again
    assert trio.current_time() - start < 8 * 0.04
    await trio.sleep(20)
    assert a.engine.sessions_had == begun + 1
    again = await (await a.node.connect(b.id)).open_stream("echo")
    await again.send_all(b"after")
    assert await again.receive_some() == b"after"


@pytest.mark.parametrize("port", [4650, 5000])
@pytest.mark.parametrize("sends", [True, False])
async def test_a_restart_is_noticed_over_a_relay(
    world: World, autojump_clock: MockClock, port: int, sends: bool
) -> None:
    relay = await world.start("r")
    a = await world.start("a", [relay], behind="symmetric")
    b = await world.start("b", [relay], behind="symmetric")
    stream = await old_stream(world, a, b)
    await trio.sleep(30)
    await b.kill()
    b2 = await world.start(b.host, [relay], identity=b.identity, port=port)
    if sends:
        await stream.send_all(b"anybody there?")
    elapsed = await broken_after(stream)
    assert elapsed < (0.5)
    await new_stream(world, a, b2)


async def test_a_relay_that_restarts_is_used_again(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    a = await world.start("a", [relay], behind="symmetric")
    b = await world.start("b", [relay], behind="symmetric")
    stream = await old_stream(world, a, b)
    await relay.kill()
    await trio.sleep(1)
    await world.start(relay.host, identity=relay.identity)
    await trio.sleep(1)
    await stream.send_all(b"still there?")
    assert await stream.receive_some() == b"still there?"


async def test_a_peer_killed_for_good_is_gone_within_seconds(world: World, autojump_clock: MockClock) -> None:
    a, b = await world.start("a"), await world.start("b")
    stream = await old_stream(world, a, b)
    await b.kill()
    await stream.send_all(b"anybody there?")
    start = trio.current_time()
    with pytest.raises(SessionClosedError) as caught:
        await stream.receive_some()
    assert caught.value.reason == "timeout"
    assert trio.current_time() - start < 9
