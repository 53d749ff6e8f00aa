"""Handshakes of strangers: what they cost, whom they reach, and which addresses they do not prove."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, Identity, PathKind, PeerId, PeerUnreachableError
from netmesh_trio.events import PathChanged
from netmesh_trio.node import handshakes
from netmesh_trio.session.cookies import cookie_key, mac, mac1_key, seal_cookie
from netmesh_trio.session.handshake import INIT_SIZE, Initiator, Responder
from netmesh_trio.session.keys import KeyRing, pack_nonce
from netmesh_trio.session.session import Session
from netmesh_trio.testing import Packet, Verdict
from netmesh_trio.wire import frames, packets
from netmesh_trio.wire.hello import Hello
from tests.mesh.world import Chance, Member, World

PUBLIC = bytes(32)
OWN = Address("198.51.100.1", 1000)
VICTIM = Address("198.51.100.66", 9999)
CHALLENGES = 4 * 41


def hello(chance: Chance) -> bytes:
    return Hello(
        boot_id=chance.randbytes(8),
        max_datagram_size=16336,
        session_window=1 << 30,
        stream_window=1 << 30,
        max_streams=1000,
    ).encode()


class Stranger:
    """Speaks the protocol, from any address: one handshake with ``target``, and packets of the session."""

    def __init__(self, world: World, target: Member, *, index: int = 0x5EED, identity: Identity | None = None) -> None:
        self.world = world
        self.target = target
        self.identity = identity or world.chance.identity()
        self.initiator = Initiator(
            self.identity,
            target.id,
            network_key=PUBLIC,
            local_index=index,
            hello=hello(world.chance),
            random_bytes=world.chance.randbytes,
        )
        #: What the target sends to addresses where no host is.
        self.heard: list[Packet] = []
        world.net.on_packet = self._hear
        self._number = 0

    def _hear(self, packet: Packet) -> Verdict | None:
        if packet.destination in (OWN, VICTIM):
            self.heard.append(packet)
            return Verdict(drop=True)
        return None

    def got(self, address: Address) -> list[bytes]:
        return [p.data for p in self.heard if p.destination == address]

    def send(self, data: bytes, source: Address) -> None:
        self.world.net.inject(data, source, Address(self.target.host.address, 4650))

    async def knock(self, *sources: Address) -> None:
        """INIT from each, and the answer to the first."""
        for source in sources:
            self.send(self.initiator.packet, source)
            await trio.sleep(0.05)
        established = self.initiator.receive_response(self.got(sources[0])[0])
        self.remote_index = established.remote_index
        self.keys = KeyRing(
            established.send_key, established.receive_key, established.rekey_secret, True, self.world.chance.randbytes
        )
        self.heard.clear()

    def seal(self, plain: bytes) -> bytes:
        nonce = pack_nonce(self._number)
        self._number += 1
        return packets.data_prefix(0, self.remote_index) + nonce[4:] + self.keys.sealer.encrypt(nonce, plain, None)

    def opened(self, packet: bytes) -> bytes:
        opener = self.keys.opener(packet[1])
        assert opener is not None
        return opener.decrypt(b"\0\0\0\0" + packet[8:16], packet[16:], None)

    def session(self) -> Session:
        return self.target.session(self.identity.peer_id)  # type: ignore[no-any-return]


PING = bytes((frames.PING,))


# who answers, and where


async def test_an_address_that_never_answered_gets_no_data(world: World, autojump_clock: MockClock) -> None:
    """The same INIT from an address of the stranger's and from a victim's: the answers are alike, and who uses the key
    need not have received the one that went to the victim."""
    b = await world.start("b")
    world.serve(b)
    for sources in ((OWN, VICTIM), (OWN, VICTIM, OWN)):
        stranger = Stranger(world, b, index=len(sources))
        await stranger.knock(*sources)
        stranger.send(stranger.seal(PING), VICTIM)
        greeting = frames.pack_stream_header(frames.STREAM, 0, 0) + b"\x04echo" + bytes(1000)
        for _ in range(3):
            stranger.send(stranger.seal(greeting), VICTIM)
        await trio.sleep(30)
        session = stranger.session()
        assert session.path is None
        assert sum(map(len, stranger.got(VICTIM))) <= CHALLENGES
        assert all(stranger.opened(p)[0] == frames.PATH_CHALLENGE for p in stranger.got(VICTIM))
        b.engine.session_closed(b.engine.by_remote[len(sources)])


async def test_an_address_that_never_answered_gets_three_times_what_came_at_most(
    world: World, autojump_clock: MockClock
) -> None:
    b = await world.start("b")
    stranger = Stranger(world, b)
    await stranger.knock(OWN)
    first = stranger.seal(PING)
    stranger.send(first, VICTIM)
    await trio.sleep(30)
    assert 0 < sum(map(len, stranger.got(VICTIM))) <= 3 * len(first)


async def use_key(world: World, *sources: Address) -> Stranger:
    """A stranger that knocks from each of those addresses, and goes on from its own."""
    stranger = Stranger(world, await world.start("b"))
    await stranger.knock(*sources)
    stranger.send(stranger.seal(PING), OWN)
    await trio.sleep(0.05)
    return stranger


async def test_an_address_that_answers_the_challenge_is_taken(world: World, autojump_clock: MockClock) -> None:
    stranger = await use_key(world, OWN, VICTIM)
    (challenge,) = stranger.got(OWN)
    stranger.send(stranger.seal(bytes((frames.PATH_RESPONSE,)) + stranger.opened(challenge)[1:9]), OWN)
    await trio.sleep(0.05)
    path = stranger.session().path
    assert path is not None
    assert path.address == OWN


async def test_the_only_address_that_was_answered_needs_no_challenge(world: World, autojump_clock: MockClock) -> None:
    stranger = await use_key(world, OWN, OWN)
    path = stranger.session().path
    assert path is not None
    assert path.address == OWN
    assert all(stranger.opened(p)[0] != frames.PATH_CHALLENGE for p in stranger.got(OWN))


async def test_an_address_that_a_session_seems_to_move_to_gets_three_times_what_came(
    world: World, autojump_clock: MockClock
) -> None:
    b = await world.start("b")
    stranger = Stranger(world, b)
    await stranger.knock(OWN)
    stranger.send(stranger.seal(PING), OWN)
    await trio.sleep(0.05)
    ping = stranger.seal(PING)
    stranger.send(ping, VICTIM)
    await trio.sleep(10)
    assert 0 < sum(map(len, stranger.got(VICTIM))) <= 3 * len(ping)


@pytest.mark.parametrize("dialed", [False, True])
async def test_what_an_earlier_process_said_last_does_not_end_the_session_of_a_later_one(
    world: World, autojump_clock: MockClock, dialed: bool
) -> None:
    """Somebody on the path holds back the first packet of a handshake until the peer has restarted and is back."""
    b = await world.start("b")
    before = Stranger(world, b, index=1)
    await before.knock(OWN)
    held = before.seal(PING)
    world.net.on_packet = None
    if dialed:
        after = await world.start("a", identity=before.identity)
        await b.node.connect(after.uri)
    else:
        later = Stranger(world, b, index=2, identity=before.identity)
        await later.knock(OWN)
        later.send(later.seal(PING), OWN)
    await trio.sleep(0.5)
    session = before.session()
    assert session is not None
    before.send(held, OWN)
    await trio.sleep(0.5)
    assert before.session() is session
    assert session.closed is None
    # but one that is later still does
    latest = Stranger(world, b, index=3, identity=before.identity)
    await latest.knock(OWN)
    latest.send(latest.seal(PING), OWN)
    await trio.sleep(0.5)
    assert session.closed is not None
    assert latest.session().remote_index == 3


def answer(chance: Chance, identity: Identity, init: bytes) -> bytes:
    """What the holder of the key says to an INIT."""
    responder = Responder(
        identity,
        network_key=PUBLIC,
        hello=lambda: hello(chance),
        allocate_index=lambda: 0xB0B,
        random_bytes=chance.randbytes,
    )
    reply = responder.receive_init(init, None, 0.0)
    return reply.packet  # type: ignore[union-attr]


async def test_a_peer_does_not_answer_for_an_address_that_it_was_not_asked_at(
    world: World, autojump_clock: MockClock
) -> None:
    """It was asked over a relay, too: that it has an INIT does not show that it is where its answer comes from."""
    a = await world.start("a")
    shakes, now = a.engine.handshakes, trio.current_time()
    keys = [(0, Address("198.51.100.66", port)) for port in range(1, 6)]
    circuit = b"circuit1"

    def validated(asked: list[object], received: int, source: tuple[int, Address]) -> bool:
        peer = world.chance.identity()
        dial = shakes.start_dial(peer.peer_id)
        inits = [shakes.init_for(dial, key, now) for key in asked]  # type: ignore[arg-type]
        assert inits == [shakes.init_for(dial, key, now + 1) for key in asked]  # type: ignore[arg-type]
        shakes.receive_untrusted(packets.RESPONSE, answer(world.chance, peer, inits[received]), source, None)
        assert dial.done.is_set()
        path = a.session(peer.peer_id).paths[source]
        return bool(path.validated)

    assert validated([keys[0]], 0, keys[0])
    assert validated([keys[0], circuit], 0, keys[0])
    assert not validated([keys[0], circuit], 1, keys[0])
    assert not validated([keys[0]], 0, keys[1])
    assert validated([keys[0], keys[1], circuit], 1, keys[1])
    assert not validated([keys[0], keys[1], circuit], 0, keys[1])
    # only so many get one of their own
    assert validated(list(keys), 1, keys[1])
    assert not validated(list(keys), 4, keys[4])
    assert not validated(list(keys), 4, keys[2])
    assert not shakes.dials
    assert not shakes.dialing


async def test_to_ask_a_relay_at_the_same_time_costs_nothing(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])
    world.serve(b)
    await trio.sleep(3)
    changes: list[object] = []

    async def watch(member: Member) -> None:
        async for event in member.node.events():
            if isinstance(event, PathChanged):
                changes.append(event)

    for member in (a, b):
        world.nursery.start_soon(watch, member)
    await trio.sleep(0.1)
    replies = b.engine.handshakes.responder.stats().replies
    start = trio.current_time()
    peer = await a.node.connect(b.uri)
    took = trio.current_time() - start
    assert took < 0.05  # one round trip
    assert peer.path is not None
    assert peer.path.kind is PathKind.DIRECT
    async with await peer.open_stream("echo") as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
    assert trio.current_time() - start < 3 * took
    await trio.sleep(0.1)
    assert b.engine.handshakes.responder.stats().replies == replies + 2
    assert b.engine.handshakes.half_open == {}  # the other answer is not gone on with
    await trio.sleep(30)
    assert changes == []
    assert len(a.engine.sessions) == len(b.engine.sessions) == 2


# cookies


async def test_a_cookie_brings_no_init_to_others_and_few_to_anybody(world: World, autojump_clock: MockClock) -> None:
    a = await world.start("a", connect_timeout=0.2)
    peer = world.chance.identity()
    sent: list[Packet] = []
    world.net.on_packet = sent.append
    asked = Address("198.51.100.7", 7)

    async def dial() -> None:
        with pytest.raises(PeerUnreachableError):
            await a.node.connect(f"netmesh://{peer.peer_id}@{asked}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await trio.sleep(0.1)
        (init,) = (p.data for p in sent)
        for source, most in ((VICTIM, 0), (asked, 3)):
            sent.clear()
            for _ in range(50):
                cookie = seal_cookie(
                    cookie_key(bytes(peer.peer_id), PUBLIC),
                    world.chance.randbytes(16),
                    init[608:624],
                    int.from_bytes(init[4:8], "little"),
                    world.chance.randbytes(24),
                )
                world.net.inject(cookie, source, Address(a.host.address, 4650))
            await trio.sleep(0.03)
            assert len(sent) == most
            assert {p.destination for p in sent} <= {source}
            assert all(p.data[:624] == init[:624] != p.data for p in sent)


# what strangers use up


async def test_strangers_do_not_use_up_the_sessions(world: World, autojump_clock: MockClock) -> None:
    b = await world.start("b", max_sessions=16)
    honest = await world.start("a", connect_timeout=2.0)
    other = await world.start("c")
    strangers = []
    for number in range(40):
        strangers.append(Stranger(world, b, index=number + 1))
        await strangers[-1].knock(OWN)
    assert len(b.engine.handshakes.half_open) == 40
    assert (await honest.node.connect(b.uri)).path is not None
    # those that go on with it get all places but those for the node's own dials
    for stranger in strangers:
        stranger.send(stranger.seal(PING), OWN)
    await trio.sleep(1)
    assert len(b.engine.sessions) == 14
    # nor by being silent until the node dials them anew
    with pytest.raises(PeerUnreachableError, match="has its 16 sessions"):
        b.engine.handshakes.start_dial(next(iter(b.engine.peers)))
    assert (await b.node.connect(other.uri)).path is not None
    assert b.engine.handshakes.responder.stats().drops == {}
    late = Stranger(world, b, index=99)
    late.send(late.initiator.packet, OWN)
    await trio.sleep(1)
    assert all(p.data[0] != packets.RESPONSE for p in late.heard)
    assert b.engine.handshakes.responder.stats().drops == {"full": 1}
    await b.node.connect((await world.start("e")).uri)
    with pytest.raises(PeerUnreachableError, match="has its 16 sessions"):
        await b.node.connect((await world.start("f")).uri)


async def test_who_proves_no_address_makes_room_for_who_does(world: World, autojump_clock: MockClock) -> None:
    """Nothing tells such strangers apart, whatever addresses they write, so all of them share."""
    b = await world.start("b", max_sessions=16)
    honest = [await world.start(f"n{number}", connect_timeout=1.0) for number in range(14)]
    for number in range(14):
        stranger = Stranger(world, b, index=number + 1)
        made_up = Address(f"198.51.100.{100 + number}", 1)
        await stranger.knock(OWN, made_up)
        stranger.send(stranger.seal(PING), made_up)
    await trio.sleep(0.1)
    assert len(b.engine.sessions) == 14
    assert all(live.session.path is None for live in b.engine.sessions.values())
    assert len({live.household for live in b.engine.sessions.values()}) == 1
    for number, member in enumerate(honest[:13]):
        await member.node.connect(b.uri)
        await trio.sleep(0.1)
        assert b.node.statistics().displaced_sessions == number + 1
    # now each has one
    with pytest.raises(PeerUnreachableError):
        await honest[13].node.connect(b.uri)


async def test_a_handshake_that_made_room_for_others_may_begin_anew(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "_MAX_HALF_OPEN", 4)
    b = await world.start("b")
    strangers = []
    for number in range(1, 7):
        strangers.append(Stranger(world, b, index=number))
        await strangers[-1].knock(OWN)
    shakes = b.engine.handshakes
    assert [half_open.established.remote_index for half_open in shakes.half_open.values()] == [3, 4, 5, 6]
    strangers[0].send(strangers[0].initiator.packet, OWN)
    await trio.sleep(0.05)
    assert [half_open.established.remote_index for half_open in shakes.half_open.values()] == [4, 5, 6, 1]
    assert shakes.responder.stats().repeats == 0


async def test_few_senders_are_told_that_their_session_is_unknown(world: World, autojump_clock: MockClock) -> None:
    """Anybody can have it sent to anybody."""
    b = await world.start("b")
    stranger = Stranger(world, b)
    for _ in range(200):
        stranger.send(packets.data_prefix(0, 0xBAD) + world.chance.randbytes(40), VICTIM)
    await trio.sleep(0.1)
    assert [p[0] for p in stranger.got(VICTIM)] == [packets.STRANGER] * 50


def rubbish(chance: Chance, target: PeerId) -> bytes:
    """As an INIT, up to mac1."""
    body = bytes((packets.INIT, 1, 0, 0)) + chance.randbytes(604)
    body += mac(mac1_key(bytes(target), PUBLIC), body)
    return body + bytes(INIT_SIZE - len(body))


async def test_a_circuit_that_is_flooded_holds_up_no_other(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    a, b = await world.start("a", [relay], direct=False), await world.start("b", [relay])
    await trio.sleep(3)
    shakes = b.engine.handshakes

    async def flood() -> None:
        while True:
            for _ in range(50):
                shakes.receive_untrusted(packets.INIT, rubbish(world.chance, b.id), b"circuit1", relay.id)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await trio.sleep(2)
        start = trio.current_time()
        await a.node.connect(b.id)
        assert trio.current_time() - start < 0.2
        nursery.cancel_scope.cancel()
    assert shakes.responder.stats().drops["noise"] <= 4


async def test_a_relay_with_many_circuits_leaves_something_for_others(world: World, autojump_clock: MockClock) -> None:
    b = await world.start("b")
    shakes = b.engine.handshakes
    one, other = world.chance.identity().peer_id, world.chance.identity().peer_id
    for number in range(300):
        circuit = number.to_bytes(8, "big")
        shakes.receive_untrusted(packets.INIT, rubbish(world.chance, b.id), circuit, one)
    assert shakes.responder.stats().drops == {"noise": 100, "rate-limited": 200}
    shakes.receive_untrusted(packets.INIT, rubbish(world.chance, b.id), b"another1", other)
    assert shakes.responder.stats().drops["noise"] == 101


async def test_a_forged_packet_for_a_handshake_makes_no_session(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def make(**arguments: object) -> Session:
        made.append(arguments)
        return Session(**arguments)  # type: ignore[arg-type]

    b = await world.start("b")
    stranger = Stranger(world, b)
    await stranger.knock(OWN)
    monkeypatch.setattr(handshakes, "Session", make)
    good = stranger.seal(PING)
    for at in (1, 2, 8, 15, 16, len(good) - 1):
        stranger.send(good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :], VICTIM)
    await trio.sleep(1)
    assert made == []
    assert b.engine.counters.dropped_unknown == 6
    assert stranger.heard == []
    stranger.send(good, OWN)
    await trio.sleep(1)
    assert len(made) == 1
    assert stranger.session().path is not None


async def test_nobody_takes_the_place_of_another_by_choosing_its_index(world: World, autojump_clock: MockClock) -> None:
    """That a restarted peer says it is a stranger is heard, whoever else has a session with the same index."""
    a, b = await world.start("a"), await world.start("b")
    await b.node.connect(a.uri)
    await trio.sleep(1)
    index = b.session(a).remote_index
    stranger = Stranger(world, b, index=index)
    await stranger.knock(OWN)
    stranger.send(stranger.seal(PING), OWN)
    await trio.sleep(1)
    assert stranger.session().remote_index == index
    heard: list[object] = []
    b.engine.on_stranger = heard.append
    # that it got a packet which was never sent is no news of the peer's
    world.net.inject(packets.stranger(index, 1 << 20), Address(a.host.address, 4650), Address(b.host.address, 4650))
    await trio.sleep(1)
    assert heard == []
    world.net.inject(packets.stranger(index, 0), Address(a.host.address, 4650), Address(b.host.address, 4650))
    await trio.sleep(1)
    assert len(heard) == 1
