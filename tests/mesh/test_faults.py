"""A fault in what one session does ends that session, and no other."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import PeerDisconnected
from netmesh_trio.node.live import LiveSession
from netmesh_trio.session.outgoing import Outgoing
from netmesh_trio.session.session import Session
from tests.mesh.world import Pattern, World, exchange, serve_exchange


class FaultError(Exception):
    """Nobody foresaw it."""


@pytest.mark.parametrize("where", ["receive", "transmit", "on_timeout"])
async def test_a_fault_in_one_session_ends_no_other(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, faults: list[str], where: str
) -> None:
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])
    await trio.sleep(2)
    there, back = Pattern(1, 200_000), Pattern(2, 200_000)
    gone: list[PeerDisconnected] = []

    async def watch() -> None:
        async for event in relay.node.events():
            if isinstance(event, PeerDisconnected):
                gone.append(event)

    broken = relay.session(a)
    assert broken is not None
    live = relay.engine.sessions[broken.local_index]
    owner = Outgoing if where == "transmit" else Session
    original = getattr(owner, where)

    def fail(self: Session | Outgoing, *args: object) -> object:
        if self in (broken, broken.out):
            raise FaultError("found no words")
        return original(self, *args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await nursery.start(serve_exchange, relay, back, there, [])
        stream = await (await b.node.connect(relay.uri)).open_stream("exchange")
        monkeypatch.setattr(owner, where, fail)
        await exchange(stream, there, back)
        await trio.sleep(60)  # the session with a has nothing to do but keep-alives
        assert relay.node.statistics().internal_errors == 1
        assert [(event.peer_id, event.reason) for event in gone] == [(a.id, "fault")]
        assert "fault" in str(live.closed_error())
        assert len(faults) == 1
        assert "found no words" in faults.pop()
        assert relay.session(a) not in (None, broken)  # it came back
        assert relay.session(b) is not None
        nursery.cancel_scope.cancel()


async def test_a_fault_while_the_program_is_woken_ends_its_session_only(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, faults: list[str]
) -> None:
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])
    await trio.sleep(2)
    broken, other = relay.session(a), relay.session(b)
    live = relay.engine.sessions[broken.local_index]

    def fail(self: LiveSession) -> None:
        raise FaultError("found no words")

    with monkeypatch.context() as patch:
        patch.setattr(LiveSession, "_wake_readers", fail)
        broken.readable.add(0)
        assert live.wake_readers_first()
    assert broken.closed is not None
    assert relay.session(b) is other
    assert relay.node.statistics().internal_errors == 1
    assert "found no words" in faults.pop()
