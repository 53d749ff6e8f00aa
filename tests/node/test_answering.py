"""A lone request: the program that waits for it goes first, and its answer takes the acknowledgement along."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from netmesh_trio import Node, Stream
from netmesh_trio.node.live import LiveSession
from netmesh_trio.paths.rtt import MAX_ACK_DELAY

from .mesh import Mesh, engine, settle, stream_pair


def session_of(node: Node, peer: Node) -> LiveSession:
    (live,) = (live for live in engine(node).all_live() if live.peer.peer_id == peer.peer_id)
    return live


async def answer(stream: Stream, message: bytes) -> None:
    while await stream.receive_some():
        await stream.send_all(message)


async def test_an_answer_drives_the_session_once_and_is_one_packet(
    autojump_clock: trio.testing.MockClock, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(answer, far, b"answer")
        await near.send_all(b"the first")
        await near.receive_some()
        await settle(5)
        far_live = session_of(mesh.b, mesh.a)
        packets = far_live.session.stats.packets_sent
        drives = 0
        drive = LiveSession.drive

        def count(live: LiveSession, now: float | None = None, *, timeout: bool = False) -> None:
            nonlocal drives
            drives += live is far_live and not timeout
            drive(live, now, timeout=timeout)

        monkeypatch.setattr(LiveSession, "drive", count)
        for _ in range(5):
            await near.send_all(b"request")
            assert await near.receive_some() == b"answer"
        assert drives == 5
        assert far_live.session.stats.packets_sent == packets + 5
        nursery.cancel_scope.cancel()


async def test_who_reads_and_does_not_answer_is_acknowledged_in_time(
    autojump_clock: trio.testing.MockClock, mesh: Mesh
) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await settle(5)
        live = session_of(mesh.a, mesh.b)
        assert live.session.path is not None
        for read in (True, False):
            await near.send_all(b"request")
            assert live.session.path.eliciting_in_flight == 1
            started = trio.current_time()
            if read:
                assert await far.receive_some() == b"request"
            with trio.fail_after(1):
                while live.session.path.eliciting_in_flight:
                    await trio.sleep(0.001)
            assert trio.current_time() - started < live.session.path.rtt.smoothed + MAX_ACK_DELAY + 0.002
            await settle(5)


async def test_the_timer_is_never_later_than_what_paces_or_may_be_lost(
    autojump_clock: trio.testing.MockClock, mesh: Mesh
) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far), trio.open_nursery() as nursery:
        mesh.host(mesh.a).link.delay = 0.05
        mesh.host(mesh.a).link.loss = 0.02
        nursery.start_soon(near.send_all, bytes(2_000_000))
        nursery.start_soon(count_bytes, far, 2_000_000)
        live = session_of(mesh.a, mesh.b)
        paced = doubted = 0
        while near._send_half.base < 2_000_000:
            await trio.sleep(0.001)
            due = live.session.out.pacing_until
            lost = min(path.loss_time for path in live.session.paths.values())
            paced += due < float("inf")
            doubted += lost < float("inf")
            now = trio.current_time()
            assert live.deadline <= max(min(due, lost), now)
            assert live.deadline <= max(live.session.next_deadline(), now + MAX_ACK_DELAY)
        assert paced
        assert doubted


async def count_bytes(stream: Stream, size: int) -> None:
    while size:
        size -= len(await stream.receive_some())
