"""A node with no room for another session: of those that peers opened, whoever has most gives one up."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import PeerUnreachableError
from netmesh_trio.testing import Host
from tests.mesh.world import Member, World

#: Of these, two are kept for those that the node opens.
ROOM = 16


async def crowd(world: World, there: Host, relay: Member, count: int = 20) -> list[Member]:
    """Nodes on one host, each with a key and a port of its own, that keep at it to have a session."""
    members = [
        await world.start(there, [relay], port=5000 + number, wait=False, direct=False, connect_timeout=1.0)
        for number in range(count)
    ]
    await trio.sleep(5)
    return members


async def newcomers(world: World, relay: Member, count: int) -> list[Member]:
    """Nodes on as many hosts, each of which gets in."""
    members = []
    for number in range(count):
        with trio.fail_after(2):
            members.append(await world.start(f"new{number}", [relay]))
        await trio.sleep(0.1)
    return members


def connected(members: list[Member], relay: Member) -> int:
    """How many of them have a session, in the eyes of the relay."""
    return sum(relay.session(member) is not None for member in members)


def ask(member: Member, relay: Member) -> None:
    """Send something in the session, now."""
    live = member.engine.direct_session(relay.id)
    assert live is not None
    live.session.ping()
    live.drive()


def check_books(member: Member) -> None:
    """Each session that is not the node's own wish counts, and nothing else does."""
    places = member.engine.places
    counted = {live for live in member.engine.sessions.values() if not live.peer.wanted}
    assert counted == places._homes.keys()
    assert counted == {live for held in places._places._places.values() for live in held}
    assert all(live.household == home for live, home in places._homes.items())


async def test_many_keys_at_one_address_keep_nobody_out(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("relay", max_sessions=ROOM)
    first = [await world.start(f"first{number}", [relay]) for number in range(3)]
    evil = await crowd(world, world.net.host("many"), relay)
    assert (connected(evil, relay), len(relay.engine.sessions)) == (11, 14)
    assert relay.node.statistics().displaced_sessions == 0
    others = await newcomers(world, relay, 10)
    assert relay.node.statistics().displaced_sessions == 10
    # who was told to go comes back as often as it likes
    await trio.sleep(60)
    assert len(relay.engine.sessions) == 14
    assert connected(evil, relay) == 1
    # and who had no more than others has lost nothing
    assert connected([*first, *others], relay) == 13
    assert all(member.engine.sessions_had == 1 for member in (*first, *others))
    assert relay.node.statistics().displaced_sessions == 10
    assert relay.engine.handshakes.responder.stats().drops["full"] > 10
    check_books(relay)
    # now nobody has more than a newcomer would have
    late = await world.start("late", connect_timeout=2.0)
    with pytest.raises(PeerUnreachableError):
        await late.node.connect(relay.uri)
    for member in (*evil, *first, *others):
        await member.close()
    await trio.sleep(1)
    assert len(relay.engine.sessions) == relay.engine.places._places.holders == 0


async def test_sessions_in_use_are_given_up_last(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("relay", max_sessions=ROOM)
    world.serve(relay)
    friend = await world.start("friend", [relay], direct=False)
    neighbors = await crowd(world, world.net.host("many"), relay, 13)
    assert connected(neighbors, relay) == 13
    talks, relayed = neighbors[0], neighbors[7]
    stream = await (await talks.node.connect(relay.id)).open_stream("echo")
    await stream.send_all(b"before")
    await friend.node.connect(relayed.id)
    await trio.sleep(1)
    for idle in neighbors[1:]:
        if idle is not relayed:
            ask(idle, relay)
    await trio.sleep(1)
    await newcomers(world, relay, 11)
    await trio.sleep(1)
    assert connected(neighbors, relay) == connected([talks, relayed], relay) == 2
    assert talks.engine.sessions_had == 1
    assert relayed.session(friend) is not None
    assert relayed.engine.sessions_had == 2
    await stream.send_all(b" and after")
    await stream.send_eof()
    assert b"".join([data async for data in stream]) == b"before and after"


async def test_who_is_not_needed_is_told(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("relay", max_sessions=2)
    there = world.net.host("many")
    one, other = [await world.start(there, port=5000 + number) for number in range(2)]
    for member in (one, other):
        await member.node.connect(relay.uri)
    ask(other, relay)
    await trio.sleep(1)
    await newcomers(world, relay, 1)
    assert (one.session(relay), relay.session(one)) == (None, None)
    assert other.session(relay) is not None


async def test_what_the_node_asked_for_is_not_given_up(world: World, autojump_clock: MockClock) -> None:
    """Whichever side opened the session."""
    there = world.net.host("many")
    bootstrap = await world.start(there)
    relay = await world.start("relay", [bootstrap], max_sessions=ROOM)
    neighbors = await crowd(world, there, relay)
    assert connected(neighbors, relay) == 13
    asked = next(member for member in neighbors if relay.session(member) is not None)
    await relay.node.connect(asked.id)
    await newcomers(world, relay, 11)
    late = await world.start("late", connect_timeout=2.0)
    with pytest.raises(PeerUnreachableError):
        await late.node.connect(relay.uri)
    assert relay.session(bootstrap) is not None
    assert relay.session(asked) is not None
    assert {member.engine.sessions_had for member in (bootstrap, asked)} == {1}
    assert connected(neighbors, relay) == 2
    check_books(relay)


async def test_a_peer_that_is_dialed_anew_for_its_silence_is_still_a_stranger(
    world: World, autojump_clock: MockClock
) -> None:
    node = await world.start("node")
    quiet = await world.start("quiet", [node])
    wanted = await world.start("wanted")
    await node.node.connect(wanted.uri)
    for member in (quiet, wanted):
        node.engine.on_stranger(node.engine.peers[member.id].sessions[0])
    await trio.sleep(1)
    assert [node.engine.peers[member.id].live is not None for member in (quiet, wanted)] == [True, True]
    assert any(live.session.initiator for live in node.engine.peers[quiet.id].sessions)
    assert node.engine.places._places.held(node.engine.peers[quiet.id].sessions[0].household) == 2
    check_books(node)


async def test_who_comes_over_many_relays_at_one_address_shares(world: World, autojump_clock: MockClock) -> None:
    """Anybody can be a relay, too."""
    node = await world.start("node", max_sessions=ROOM)
    there = world.net.host("many")
    relays = [await world.start(there, [node], port=4650 + number) for number in range(4)]
    behind = []
    for number in range(10):
        behind.append(await world.start(f"behind{number}", [relays[number % 4]], direct=False))
        await behind[-1].node.connect(node.id)
        await trio.sleep(0.5)
    assert (connected(behind, node), len(node.engine.sessions)) == (10, 14)
    assert node.engine.places._places.holders == 2
    await newcomers(world, node, 12)
    assert (connected(relays, node), len(node.engine.sessions)) == (1, 14)
    assert node.node.statistics().displaced_sessions == 12


async def test_a_session_counts_for_the_path_that_it_is_on(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("relay")
    node = await world.start("node", [relay])
    peer = await world.start("peer", [relay])
    await peer.node.connect(node.id)
    await trio.sleep(0.1)
    live = node.engine.peers[peer.id].sessions[0]
    homes = node.engine.places._homes
    over = homes[live]
    assert live.relayed
    with trio.fail_after(30):
        await node.engine.peer(peer.id).wait_direct()
    assert homes[live] != over
    check_books(node)
    await peer.close()
    await trio.sleep(1)
    assert not homes
    # what is still reported of a session that is over makes no difference
    node.engine.places.enter(live)
    assert not homes
