"""What is over is freed at once: memory does not wait for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Node, SessionClosedError, Stream
from netmesh_trio.node.live import LiveSession
from netmesh_trio.paths.path import Path
from netmesh_trio.routing.circuits import Leg
from netmesh_trio.session.keys import KeyRing
from netmesh_trio.session.send_stream import SendStream
from netmesh_trio.session.session import Session
from tests.node.mesh import Mesh, connect, echoing, engine, make_pair, round_trip, settle

KINDS = (Session, LiveSession, Path, KeyRing, Stream, SendStream, Leg)


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def there() -> Counter[str]:
    return Counter(type(o).__name__ for o in gc.get_objects() if isinstance(o, KINDS))


def session(node: Node, peer: Node) -> Session:
    live = engine(node).peers[peer.peer_id].live
    assert live is not None
    return live.session


def end(node: Node, peer: Node) -> None:
    [live] = engine(node).peers[peer.peer_id].sessions
    live.session.end("timeout", "no answer")
    live.drive()


@pytest.mark.parametrize("ended_by", ["this side", "the other side", "timeout"])
async def test_sessions_that_are_over_are_freed(autojump_clock: MockClock, mesh: Mesh, ended_by: str) -> None:
    async with echoing(mesh.b):
        await round_trip(await connect(mesh.a, mesh.b))
        await settle(60)
        with no_collector():
            before = there()
            gone: list[weakref.ref[Session]] = []
            for _ in range(5):
                gone += [weakref.ref(session(mesh.a, mesh.b)), weakref.ref(session(mesh.b, mesh.a))]
                if ended_by == "timeout":
                    end(mesh.a, mesh.b)
                    end(mesh.b, mesh.a)
                else:
                    near, far = (mesh.a, mesh.b) if ended_by == "this side" else (mesh.b, mesh.a)
                    await (await connect(near, far)).aclose()
                await settle(1)
                # the next one: a task that handles messages holds the last that it was given
                await round_trip(await connect(mesh.a, mesh.b), bytes(10_000))
                await settle(60)
            assert [ref() for ref in gone] == [None] * 10
            assert there() - before == Counter()


async def test_a_stream_of_a_session_that_is_over_works_as_before_and_goes_when_it_is_let_go(
    autojump_clock: MockClock, mesh: Mesh
) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    full, _ = await make_pair(mesh.a, mesh.b, "full")
    with no_collector():
        of_session = weakref.ref(session(mesh.a, mesh.b))
        await far.send_all(b"to be read later")
        await settle()
        peer = near.peer
        await peer.aclose()
        await settle(60)
        # what came in is still there, and everything else says why it is over
        assert await near.receive_some(5) == b"to be"
        assert await near.receive_some() == b" read later"
        for stream in (near, full):
            with pytest.raises(SessionClosedError, match="this node closed the session"):
                await stream.receive_some()
            with pytest.raises(SessionClosedError):
                await stream.send_all(b"x")
            with pytest.raises(SessionClosedError):
                stream.push(b"x")
            with pytest.raises(SessionClosedError):
                await stream.send_eof()
            await stream.wait_send_all_might_not_block()
            assert stream.has_room
            assert stream.peer is peer
            assert stream.peer_id == mesh.b.peer_id
            assert isinstance(stream.broken(), SessionClosedError)
            repr(stream)
        assert of_session() is not None
        full.reset()
        await near.aclose()
        for stream in (near, full):
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"x")
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_some()
        held = weakref.ref(near)
        del stream, near, full
        await connect(mesh.a, mesh.b)
        await settle()
        assert held() is None
        assert of_session() is None


async def test_a_session_that_is_over_takes_whatever_comes(autojump_clock: MockClock, mesh: Mesh) -> None:
    await connect(mesh.a, mesh.b)
    over = session(mesh.a, mesh.b)
    [live] = engine(mesh.a).peers[mesh.b.peer_id].sessions
    stream_id = over.open_stream(3)
    assert stream_id is not None
    path = over.path
    assert path is not None
    live.session.close(0, "", engine(mesh.a).now())
    live.drive()
    await settle()
    now = engine(mesh.a).now()
    over.write(stream_id, b"x")
    over.ping()
    assert over.send_control(1, b"x")
    over.send_datagram(b"x", b"x")
    over.queue_challenge(path, now)
    assert over.challenge(path, now)
    over.encourage(now)
    over.reset_stream(stream_id, 1)
    over.stop_stream(stream_id, 1)
    over.on_timeout(now)
    over.remove_path(path, now)
    over.add_path(b"circuit!", mesh.relay.peer_id, now)
    over.close(0, "again", now)
    over.receive(memoryview(bytes(100)), 0, 100, path, now)
    assert not over.authentic(memoryview(bytes(100)))
    assert not over.hurries
    assert not over.is_idle(now)
    assert over.next_deadline() == float("inf")
    for _ in range(3):
        live.drive(timeout=True)
    assert over.transmit(now) is None
