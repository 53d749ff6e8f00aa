"""One key on two hosts: the two programs are told, and do not fight."""

from __future__ import annotations

import logging

import attrs
import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, KeyInUse, NodeClosedError, PeerUnreachableError
from netmesh_trio.routing.announcements import MAX_SEQUENCE, Announcement, Envelope
from netmesh_trio.wire import frames, packets
from tests.mesh.world import Member, World


class Notes:
    """What each node tells of its key."""

    def __init__(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        self._world = world
        self._caplog = caplog
        self.events: dict[Member, list[KeyInUse]] = {}

    def watch(self, member: Member) -> None:
        self.events[member] = []
        self._world.nursery.start_soon(self._watch, member)

    async def _watch(self, member: Member) -> None:
        async for event in member.node.events():
            if isinstance(event, KeyInUse):
                self.events[member].append(event)

    @property
    def warnings(self) -> list[str]:
        return [r.getMessage() for r in self._caplog.records if "runs with the key of this node" in r.getMessage()]


@pytest.fixture
def notes(world: World, caplog: pytest.LogCaptureFixture) -> Notes:
    caplog.set_level(logging.WARNING, "netmesh_trio")
    return Notes(world, caplog)


@pytest.fixture
def inits(world: World) -> list[float]:
    """When a handshake was begun, but those within circuits."""
    times: list[float] = []
    world.net.on_packet = lambda p: times.append(trio.current_time()) if p.data[0] == packets.INIT else None
    return times


async def two_of_one_key(world: World, notes: Notes, relays: tuple[Member, Member]) -> tuple[Member, Member]:
    x = await world.start("x", [relays[0]], behind="port-restricted")
    notes.watch(x)
    await trio.sleep(60)
    y = await world.start("y", [relays[1]], behind="port-restricted", identity=x.identity)
    notes.watch(y)
    return x, y


async def test_behind_one_relay_both_are_told_and_do_not_fight(
    world: World, autojump_clock: MockClock, notes: Notes, inits: list[float]
) -> None:
    relay = await world.start("r")
    await world.start("s", [relay])  # that the others know where they are seen takes two
    x, y = await two_of_one_key(world, notes, (relay, relay))
    await trio.sleep(100)
    assert [len(events) for events in notes.events.values()] == [1, 1]
    assert len(notes.warnings) == 2
    await trio.sleep(3000)
    assert len(notes.warnings) == 2
    for member in (x, y):
        assert 10 < member.node.statistics().key_conflicts < 3000 / 10
    assert relay.node.statistics().key_conflicts == 0
    count = len(inits)
    await trio.sleep(600)
    assert len(inits) - count < 60
    assert len(notes.warnings) <= 4  # once an hour


async def test_two_that_have_much_to_say_do_not_shake_hands_all_the_time(
    world: World, autojump_clock: MockClock, notes: Notes, inits: list[float]
) -> None:
    relay = await world.start("r")
    z = await world.start("z", [relay], behind="symmetric")
    world.serve(z)
    said = 0

    async def talk(member: Member) -> None:
        nonlocal said
        while True:
            try:
                stream = await (await member.node.connect(z.id)).open_stream("echo")
                while True:
                    await stream.send_all(b"hello")
                    await stream.receive_some()
                    said += 1
                    await trio.sleep(0.1)
            except NodeClosedError:
                return
            except (PeerUnreachableError, trio.BrokenResourceError):
                await trio.sleep(0.1)

    x, y = await two_of_one_key(world, notes, (relay, relay))
    for member in (x, y):
        world.nursery.start_soon(talk, member)
    await trio.sleep(60)
    assert any(notes.events.values())
    count, before = len(inits), said
    await trio.sleep(180)
    assert [len(events) for events in notes.events.values()] == [1, 1]
    assert len(inits) - count < 3 * 10  # and not one a second of each
    assert said - before > 300


async def test_behind_two_relays_both_are_told(world: World, autojump_clock: MockClock, notes: Notes) -> None:
    relay = await world.start("r")
    other = await world.start("s", [relay])
    x, y = await two_of_one_key(world, notes, (relay, other))
    await trio.sleep(210)  # at the latest when what was announced is renewed
    assert [len(events) for events in notes.events.values()] == [1, 1]
    for member, foreign, host in ((x, y, other), (y, x, relay)):
        [event] = notes.events[member]
        assert event.relays == (host.id,)
        assert str(event) in notes.warnings
        assert event.addr is None or isinstance(event.addr, Address)
        assert foreign.session(host) is not None
    # neither fights for the last word
    said = sum(member.node.statistics().key_conflicts for member in (x, y))
    await trio.sleep(600)
    assert sum(member.node.statistics().key_conflicts for member in (x, y)) - said <= 2 * 600 / 30 + 2


async def test_when_one_leaves_the_other_is_announced_at_once(
    world: World, autojump_clock: MockClock, notes: Notes
) -> None:
    relay = await world.start("r")
    other = await world.start("s", [relay])
    x, y = await two_of_one_key(world, notes, (relay, other))
    await trio.sleep(400)
    assert x.engine.key_in_use()
    await y.close()
    await trio.sleep(1)
    assert not x.engine.key_in_use()
    for member in (relay, other):
        announcement = member.node._store.get(x.id)
        assert announcement is not None
        assert announcement.relays == (relay.id,)


@pytest.mark.parametrize("down", [0.0, 0.3, 5.0, 30.0])
@pytest.mark.parametrize("killed", [True, False])
async def test_a_node_that_restarts_is_not_told(
    world: World, autojump_clock: MockClock, notes: Notes, killed: bool, down: float
) -> None:
    relay = await world.start("r")
    other = await world.start("s", [relay])
    x = await world.start("x", [relay, other], behind="port-restricted")
    for _ in range(4):
        await trio.sleep(130)
        await (x.kill if killed else x.close)()
        await trio.sleep(down)
        x = await world.start(x.host, [other, relay], identity=x.identity)
        notes.watch(x)
    await trio.sleep(700)
    assert x.node.statistics().key_conflicts == 0
    assert not any(notes.events.values())
    assert not notes.warnings
    for member in (relay, other):
        announcement = member.node._store.get(x.id)
        assert announcement is not None
        assert set(announcement.relays) == {relay.id, other.id}


class Replayer:
    """A neighbor that keeps what a node announced and sends it again."""

    def __init__(self, member: Member, origin: Member) -> None:
        self._member = member
        self._origin = origin
        self.kept: list[Envelope] = []
        store = member.node._store
        accept = store.accept

        def keep(envelope: Envelope, *args: object) -> object:
            if envelope.announcement.peer_id == origin.id and envelope not in self.kept:
                self.kept.append(envelope)
            return accept(envelope, *args)  # type: ignore[arg-type]

        store.accept = keep  # type: ignore[assignment,method-assign]

    def send(self, envelope: Envelope, age: float) -> None:
        [live] = self._member.engine.peers[self._origin.id].sessions
        again = attrs.evolve(envelope, age=age, hops=1)
        assert self._member.engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, again.encode())


async def test_replayed_announcements_are_not_taken_for_another_program(
    world: World, autojump_clock: MockClock, notes: Notes
) -> None:
    relay = await world.start("r")
    x = await world.start("x", [relay], behind="port-restricted")
    notes.watch(x)
    replayer = Replayer(relay, x)
    await trio.sleep(1500)
    earlier = list(replayer.kept)
    assert len(earlier) > 5
    for _ in range(20):
        for envelope in earlier:
            replayer.send(envelope, 0.0)
        await trio.sleep(1)
    assert x.node.statistics().key_conflicts == 0
    # in its next life: as old as they are, and as if they were new
    await x.kill()
    x = await world.start(x.host, [relay], identity=x.identity)
    notes.watch(x)
    await trio.sleep(60)
    for _ in range(20):
        for envelope in earlier:
            replayer.send(envelope, 600.0)
            replayer.send(envelope, 0.0)
        await trio.sleep(1)
    assert x.node.statistics().key_conflicts == 0
    assert not any(notes.events.values())
    assert not notes.warnings


async def test_a_thief_that_tells_much_is_warned_of_once_in_an_hour(
    world: World, autojump_clock: MockClock, notes: Notes
) -> None:
    relay = await world.start("r")
    x = await world.start("x", [relay], behind="port-restricted")
    notes.watch(x)
    replayer = Replayer(relay, x)
    await trio.sleep(60)
    said = 0
    for number in range(1000):
        announcement = Announcement(peer_id=x.id, sequence=1000 * (number + 1))
        replayer.send(announcement.sign(x.identity.sign), 0.0)
        said = max(said, len(replayer.kept))
        await trio.sleep(0.5)
    assert x.node.statistics().key_conflicts == 1000
    assert len(notes.events[x]) == len(notes.warnings) == 1
    assert len(replayer.kept) < 500 / 30 + 10  # what it answers goes to the whole mesh
    await trio.sleep(3600)
    replayer.send(Announcement(peer_id=x.id, sequence=MAX_SEQUENCE).sign(x.identity.sign), 0.0)
    await trio.sleep(1)
    assert len(notes.events[x]) == len(notes.warnings) == 2
    # no number is left that others would take: it says nothing more, and goes on
    await trio.sleep(700)
    assert x.node.statistics().key_conflicts == 1001
    await x.close()
