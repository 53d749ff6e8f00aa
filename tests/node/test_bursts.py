"""Small messages in quick succession share packets, and wait for no clock."""

from __future__ import annotations

import trio
import trio.testing

from netmesh_trio import Stream

from .mesh import Mesh, connect, engine, settle, stream_pair


def sent(mesh: Mesh) -> int:
    """Packets that ``a`` sent to ``b``."""
    return sum(
        live.session.stats.packets_sent for live in engine(mesh.a).all_live() if live.peer.peer_id == mesh.b.peer_id
    )


async def receive_exactly(stream: Stream, size: int) -> bytes:
    got = b""
    with trio.fail_after(10):
        while len(got) < size:
            got += await stream.receive_some(size - len(got))
    return got


async def test_a_burst_shares_packets_and_a_lone_message_waits_for_nothing(
    autojump_clock: trio.testing.MockClock, mesh: Mesh
) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await settle(5)
        before = sent(mesh)
        await near.send_all(b"alone")
        assert sent(mesh) == before + 1
        await receive_exactly(far, 5)
        await settle(5)
        before = sent(mesh)
        data = [b"%06d" % i for i in range(1000)]
        for each in data:
            await near.send_all(each)
        assert await receive_exactly(far, 6000) == b"".join(data)
        assert sent(mesh) < before + 50


async def test_one_burst_follows_another(autojump_clock: trio.testing.MockClock, mesh: Mesh) -> None:
    """When an acknowledgement has sent off a burst, what comes right behind that does not go out alone, however long
    ago the burst began."""
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await settle(5)
        (live,) = (live for live in engine(mesh.a).all_live() if live.peer.peer_id == mesh.b.peer_id)
        await near.send_all(b"x")
        before = sent(mesh)
        for _ in range(10):
            for _ in range(30):
                await near.send_all(b"x")
                autojump_clock.jump(1e-5)
            live.drive()
        assert await receive_exactly(far, 301) == b"x" * 301
        assert sent(mesh) == before + 10


async def test_the_end_of_a_burst_goes_out_without_time_passing(
    autojump_clock: trio.testing.MockClock, mesh: Mesh
) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await settle(5)
        for _ in range(3):
            await near.send_all(b"x")
        started = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == started
        assert not engine(mesh.a).bursts._waiting
        (live,) = (live for live in engine(mesh.a).all_live() if live.peer.peer_id == mesh.b.peer_id)
        assert all(stream.unsent == 0 for stream in live.session.streams.sending.values())
        assert await receive_exactly(far, 3) == b"xxx"


async def test_what_ends_a_stream_takes_the_burst_along(autojump_clock: trio.testing.MockClock, mesh: Mesh) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        for i in range(20):
            await near.send_all(b"%02d" % i)
        await near.send_eof()
        assert not engine(mesh.a).bursts._waiting
        got = b""
        while part := await far.receive_some():
            got += part
        assert got == b"".join(b"%02d" % i for i in range(20))


async def test_a_session_that_ends_in_a_burst_is_forgotten(autojump_clock: trio.testing.MockClock, mesh: Mesh) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, _):
        for _ in range(3):
            await near.send_all(b"x")
        assert engine(mesh.a).bursts._waiting
        await near.peer.aclose()
        assert not engine(mesh.a).bursts._waiting


async def test_datagrams_share_packets_too(autojump_clock: trio.testing.MockClock, mesh: Mesh) -> None:
    peer = await connect(mesh.a, mesh.b)
    async with mesh.b.datagrams("d") as incoming:
        await settle(5)
        before = sent(mesh)
        for i in range(200):
            peer.send_datagram("d", b"%d" % i)
        await settle(5)
        got: list[bytes] = []
        while len(got) < 200:
            got.append((await incoming.receive()).payload)
        assert got == [b"%d" % i for i in range(200)]
        assert sent(mesh) < before + 20
