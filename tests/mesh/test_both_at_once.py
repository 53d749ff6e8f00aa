"""Both sides dial at the same moment: one session is left, the same on both ends."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import MeshUri, PathChanged, PathKind, PeerConnected, PeerDisconnected, TraversalConfig
from netmesh_trio.node.live import LiveSession
from netmesh_trio.session.session import Session
from netmesh_trio.testing import LinkSettings
from tests.mesh.world import Member, World

FAR = LinkSettings(delay=0.02)


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


class Told:
    """What a program hears of one peer."""

    def __init__(self, member: Member, other: Member) -> None:
        self.member = member
        self.other = other
        self.events: list[PeerConnected | PathChanged | PeerDisconnected] = []

    async def run(self) -> None:
        async for event in self.member.node.events():
            if isinstance(event, (PeerConnected, PathChanged, PeerDisconnected)) and event.peer_id == self.other.id:
                self.events.append(event)

    def check(self) -> None:
        """It was told where the data goes now, and nothing twice."""
        last = self.events[-1]
        assert not isinstance(last, PeerDisconnected)
        path = self.member.engine.peer(self.other.id).path
        assert path is not None
        assert (last.path.kind, last.path.addr, last.path.via) == (path.kind, path.addr, path.via)
        assert [type(event) for event in self.events] == [PeerConnected] + [PathChanged] * (len(self.events) - 1)
        ways = [(event.path.addr, event.path.via) for event in self.events if not isinstance(event, PeerDisconnected)]
        assert all(a != b for a, b in pairwise(ways)), ways


@pytest.mark.parametrize("later", [0.06, 0.1, 0.14])
@pytest.mark.parametrize("seed", range(4))
async def test_both_are_told_which_way_is_left(
    world: World, autojump_clock: MockClock, seed: int, later: float
) -> None:
    """One dials over the relay, the other directly, and each is up with its own session before the other's comes."""
    off = TraversalConfig(enabled=False)
    relay = await world.start(world.net.host("r", "203.0.113.7", link=FAR), traversal=off)
    a, b = [await world.start(world.net.host(name, link=FAR), [relay], traversal=off) for name in "ab"]
    await trio.sleep(3)
    told = Told(a, b), Told(b, a)
    for each in told:
        world.nursery.start_soon(each.run)

    async def dial() -> None:
        await trio.sleep(later)
        await b.node.connect(a.uri)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.node.connect, b.id)
        nursery.start_soon(dial)
    await trio.sleep(30)
    for each in told:
        each.check()
    assert any(isinstance(e, PathChanged) and e.reason in ("session", "gone") for each in told for e in each.events)


async def test_a_relayed_session_that_takes_over_looks_for_a_direct_path(
    world: World, autojump_clock: MockClock
) -> None:
    """The direct session ends, the relayed one that stood back behind it carries on: and becomes direct, too."""
    relays = [await world.start(name) for name in ("r1", "r2")]
    a, b = [await world.start(world.net.host(name), relays) for name in "ab"]
    await trio.sleep(3)
    world.net.block(a.host, b.host)
    peer = await a.node.connect(b.id)
    await trio.sleep(8)
    assert peer.why_not_direct is not None
    world.net.unblock(a.host, b.host)
    told = Told(a, b), Told(b, a)
    for each in told:
        world.nursery.start_soon(each.run)
    relayed = peer.live
    a.node._dialer._learn(MeshUri.parse(b.uri))
    a.node._dialer._start(b.id)
    with trio.fail_after(5):
        await peer.wait_direct()
    direct = peer.live
    assert relayed is not None
    assert direct is not None
    assert direct is not relayed
    assert relayed.relayed
    await trio.sleep(1)
    direct.session.close(0, "", a.engine.now())
    direct.drive()
    assert peer.live is relayed
    assert peer.path is not None
    assert peer.path.kind is PathKind.RELAYED
    with trio.fail_after(5):
        await peer.wait_direct()
    assert peer.live is relayed
    await trio.sleep(0.1)
    ours, theirs = [[event.reason for event in each.events if isinstance(event, PathChanged)] for each in told]
    assert ours == ["session", "gone", "better"]
    assert theirs == ["session", "gone", "followed"]


async def test_no_goodbye_of_a_peer_that_was_never_announced(world: World, autojump_clock: MockClock) -> None:
    """A session that ends before it has a path was never told of."""
    a, b = [await world.start(name) for name in "ab"]
    told = Told(b, a)
    world.nursery.start_soon(told.run)
    adopt = b.engine.adopt

    def end_at_once(session: Session) -> LiveSession:
        session.paths.clear()
        session.path = None
        session.events.clear()
        live = adopt(session)
        session.end("closed", "as it began")
        return live

    b.engine.adopt = end_at_once  # type: ignore[method-assign]
    with trio.move_on_after(2):
        await a.node.connect(b.uri)
    await trio.sleep(1)
    assert told.events == []
