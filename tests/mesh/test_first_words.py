"""What a node does for its program goes before what it does on its own account."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address
from netmesh_trio.node.engine import COURTESY
from netmesh_trio.session.session import Session
from netmesh_trio.wire import frames
from tests.mesh.world import World

OWN = (frames.SUBPROTOCOL_ANNOUNCEMENT, frames.SUBPROTOCOL_REFLEX)


async def test_the_program_speaks_first(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither end tells or asks a new neighbor anything before the program's message had its time."""
    waited: list[float] = []
    send_control = Session.send_control

    def watched(session: Session, subprotocol: int, payload: bytes) -> bool:
        if subprotocol in OWN:
            waited.append(trio.current_time() - session.created)
        return send_control(session, subprotocol, payload)

    a, b = await world.start("a"), await world.start("b")
    await trio.sleep(1)
    monkeypatch.setattr(Session, "send_control", watched)
    await a.node.connect(b.uri)
    await trio.sleep(1)
    assert len(waited) >= 4  # each end tells of itself, and asks where it is seen
    assert min(waited) >= COURTESY - 1e-9


async def test_what_this_node_learns_of_itself_first_is_news_for_attempts_under_way(
    world: World, autojump_clock: MockClock
) -> None:
    """An attempt that began without our own address is begun anew with it."""
    a = await world.start("a")
    told: list[str] = []
    a.engine.on_network_changed = lambda: told.append(str(a.node.reflex_addr))
    assert a.node.reflex_addr is None
    a.node.set_reflex_override("198.51.100.7:4650")
    assert told == ["198.51.100.7:4650"]


async def test_datagrams_that_wait_together_are_all_taken(world: World, autojump_clock: MockClock) -> None:
    """After a pause a small one is taken for the only one; if it is not, the others follow at once."""
    a = await world.start("a")
    await trio.sleep(1)
    dropped = a.engine.counters.dropped_unknown
    sender = world.net.host("sender")
    for _ in range(40):
        world.net.inject(bytes((0x7F,)) * 20, Address(sender.address, 9), Address(a.host.address, 4650))
    await trio.sleep(1)
    assert a.engine.counters.dropped_unknown == dropped + 40
