"""Replays, forgeries, garbage and floods, while nodes work."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, PeerConnected
from netmesh_trio.routing.announcements import Announcement
from netmesh_trio.routing.circuits import OpenCircuit
from netmesh_trio.testing import Packet, Verdict
from netmesh_trio.wire import frames, packets
from tests.mesh.world import Member, Pattern, World, exchange, serve_exchange


def sizes(member: Member) -> dict[str, int]:
    engine = member.engine
    return {
        "sessions": len(engine.sessions),
        "half_open": len(engine.handshakes.half_open),
        "dials": len(engine.handshakes.dials),
        "endpoints": len(engine.endpoints),
        "peers": len(engine.peers),
        "paths": sum(len(live.session.paths) for live in engine.sessions.values()),
        "ways": len(member.node._dialer._ways),
    }


@pytest.mark.parametrize("seed", range(20))
async def test_replayed_packets_of_every_kind_harm_nothing(world: World, autojump_clock: MockClock, seed: int) -> None:
    net, rng = world.net, world.chance
    seen: list[Packet] = []
    connected: list[object] = []

    def record(packet: Packet) -> Verdict:
        seen.append(packet)
        # handshake packets are also lost, doubled and late
        kind = packet.data[0]
        if kind in (packets.INIT, packets.RESPONSE):
            return Verdict(
                drop=rng.random() < 0.3, copies=rng.choice((1, 1, 3)), delay=rng.choice((0.0, rng.uniform(0, 1)))
            )
        return Verdict()

    net.on_packet = record
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])

    async def watch(member: Member) -> None:
        async for event in member.node.events():
            connected.append(event)

    await trio.sleep(3)
    await a.node.connect(b.id)
    there, back = Pattern(1, 30_000), Pattern(2, 30_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, [])
        await exchange(await (await a.node.connect(b.id)).open_stream("exchange"), there, back)
    net.on_packet = None
    await trio.sleep(15)
    for member in (a, b, relay):
        world.nursery.start_soon(watch, member)
    await trio.sleep(0.1)
    before = [sizes(m) for m in (a, b, relay)]
    sessions = [a.session(b), a.session(relay), b.session(relay)]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, [], "exchange", 4)
        stream = await (await a.node.connect(b.id)).open_stream("exchange")
        nursery.start_soon(exchange, stream, there, back)
        rng.shuffle(seen)
        for packet in seen[:2000]:
            elsewhere = Address(f"198.51.100.{rng.randrange(1, 255)}", rng.randrange(1, 65536))
            net.inject(packet.data, rng.choice((packet.source, elsewhere)), packet.destination)
            await trio.sleep(0.002)
    assert not [e for e in connected if isinstance(e, PeerConnected)]
    assert [a.session(b), a.session(relay), b.session(relay)] == sessions
    assert all(m.node.statistics().half_open <= 64 for m in (a, b, relay))
    await trio.sleep(60)
    assert [sizes(m) for m in (a, b, relay)] == before


def garbage(world: World, samples: list[Packet]) -> bytes:
    rng = world.chance
    kind = rng.randrange(6)
    sample = rng.choice(samples).data
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 1500))
    if kind == 1:
        return bytes((rng.randrange(8),)) + rng.randbytes(rng.randrange(1500))
    if kind == 2:
        return sample[: rng.randrange(1, len(sample) + 1)]
    if kind == 3:
        return sample + rng.randbytes(rng.randrange(1, 30_000))
    if kind == 4:
        at = rng.randrange(len(sample))
        return sample[:at] + bytes((sample[at] ^ 1 << rng.randrange(8),)) + sample[at + 1 :]
    return sample


async def test_a_flood_of_garbage_harms_nothing(world: World, autojump_clock: MockClock) -> None:
    net, rng = world.net, world.chance
    seen: list[Packet] = []
    net.on_packet = seen.append
    relay = await world.start("r")
    a, b = await world.start("a", [relay]), await world.start("b", [relay])
    await trio.sleep(3)
    await a.node.connect(b.id)
    await trio.sleep(1)
    net.on_packet = None
    there, back = Pattern(1, 300_000), Pattern(2, 300_000)
    sessions = [a.session(b), a.session(relay), b.session(relay)]
    before = [sizes(m) for m in (a, b, relay)]
    targets = [Address(m.host.address, 4650) for m in (a, b, relay)]
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, [], "exchange", 5)
        stream = await (await a.node.connect(b.id)).open_stream("exchange")

        async def here() -> None:
            await exchange(stream, there, back, lasting=5)

        nursery.start_soon(here)
        for _ in range(200):
            for _ in range(100):
                sample = rng.choice(seen)
                source = rng.choice(
                    (sample.source, Address(f"198.51.100.{rng.randrange(1, 255)}", rng.randrange(1, 65536)))
                )
                net.inject(garbage(world, seen), source, rng.choice(targets))
            await trio.sleep(0.025)
            for member in (a, b, relay):
                now = sizes(member)
                assert now["half_open"] <= 512
                assert now["paths"] <= 8 * 3
                assert now["peers"] <= 3
                assert now["ways"] <= 3
                assert now["dials"] <= 2
                assert now["endpoints"] <= 8
    assert [a.session(b), a.session(relay), b.session(relay)] == sessions
    for member in (a, b, relay):
        counted = member.node.statistics()
        assert counted.dropped_unknown + counted.dropped_handshake > 2000, counted
    await trio.sleep(60)
    for was, member in zip(before, (a, b, relay), strict=True):
        now = sizes(member)
        # a search for a better way may have left one more circuit
        assert now["endpoints"] <= was["endpoints"] + 2
        assert now["paths"] <= was["paths"] + 2
        assert {k: was[k] for k in ("sessions", "half_open", "dials", "peers", "ways")}.items() <= now.items()


async def test_a_forged_stranger_packet_costs_one_handshake_a_second(world: World, autojump_clock: MockClock) -> None:
    net = world.net
    a, b = await world.start("a"), await world.start("b")
    await a.node.connect(b.uri)
    await trio.sleep(1)
    index = a.session(b).remote_index
    inits = []
    net.on_packet = lambda p: inits.append(p.time) if p.data[0] == packets.INIT else None
    replies = b.engine.handshakes.responder.stats().replies
    for _ in range(1000):
        net.inject(packets.stranger(index, 1), Address(b.host.address, 4650), Address(a.host.address, 4650))
        await trio.sleep(0.01)
    assert b.engine.handshakes.responder.stats().replies - replies <= 11
    await trio.sleep(30)
    assert len(a.engine.sessions) == len(b.engine.sessions) == 1
    # from any other address it does nothing at all
    inits.clear()
    index = a.session(b).remote_index
    for _ in range(100):
        net.inject(packets.stranger(index, 1), Address("198.51.100.9", 4650), Address(a.host.address, 4650))
        await trio.sleep(0.01)
    assert inits == []


async def test_a_stranger_packet_answers_one_that_was_sent(world: World, autojump_clock: MockClock) -> None:
    a, b = await world.start("a"), await world.start("b")
    await a.node.connect(b.uri)
    await trio.sleep(1)
    heard: list[object] = []
    a.engine.on_stranger = heard.append
    session = a.session(b)
    sent = session.out.next_number
    for counter, believed in ((sent, 0), (2**63, 0), (sent - 1, 1)):
        stranger = packets.stranger(session.remote_index, counter)
        world.net.inject(stranger, Address(b.host.address, 4650), Address(a.host.address, 4650))
        await trio.sleep(0.1)
        assert len(heard) == believed


async def test_forged_stranger_packets_do_not_end_an_idle_session(world: World, autojump_clock: MockClock) -> None:
    net = world.net
    a, b = await world.start("a"), await world.start("b")
    world.serve(b)
    stream = await (await a.node.connect(b.uri)).open_stream("echo")
    await trio.sleep(1)
    index = a.session(b).remote_index
    for _ in range(300):
        net.inject(packets.stranger(index, 1), Address(b.host.address, 4650), Address(a.host.address, 4650))
        await trio.sleep(0.05)
    assert a.engine.sessions_had > 1
    await stream.send_all(b"still there?")
    assert await stream.receive_some() == b"still there?"


async def test_a_forged_packet_from_a_new_address_makes_no_path(world: World, autojump_clock: MockClock) -> None:
    a, b = await world.start("a"), await world.start("b")
    await a.node.connect(b.uri)
    await trio.sleep(1)
    session = b.session(a)
    forged = bytearray(packets.data_prefix(0, session.local_index) + (10).to_bytes(8, "little") + bytes(100))
    sent = b.host.statistics().sent
    for number in range(100):
        world.net.inject(bytes(forged), Address("198.51.100.9", 1000 + number), Address(b.host.address, 4650))
    await trio.sleep(1)
    assert len(session.paths) == 1
    assert session.stats.dropped_forged == 100
    assert b.host.statistics().sent == sent


async def test_a_member_that_floods_announcements_is_bounded(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    a = await world.start("a", [relay])
    liar = await world.start("x", [relay])
    await trio.sleep(3)
    live = liar.engine.direct_session(relay.id)
    assert live is not None
    origins = [world.chance.identity() for _ in range(20)]
    sent = 0
    sequence = 1000
    started = time.process_time()
    for _ in range(60):
        for _ in range(50):
            sequence += 1
            origin = world.chance.choice(origins)
            announcement = Announcement(
                peer_id=origin.peer_id, sequence=sequence, lifetime_s=600, tags=("relay-capable",), relays=()
            )
            envelope = announcement.sign(origin.sign).passed_on(0)
            assert envelope is not None
            sent += liar.engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, envelope.encode())
        await trio.sleep(0.05)
    await trio.sleep(5)
    assert sent > 1000
    stats = relay.node._store.stats()
    assert stats.live <= 23
    # 5 at once and one in two seconds, of each
    assert stats.verdicts["new"] <= 20 * (5 + 10 / 2) + 20
    assert stats.verdicts["rate-limited"] > 500
    assert time.process_time() - started < 10
    world.serve(a)
    stream = await (await relay.node.connect(a.id)).open_stream("echo")
    await stream.send_all(b"still here")
    assert await stream.receive_some() == b"still here"


async def test_a_member_that_opens_circuits_without_end_is_bounded(world: World, autojump_clock: MockClock) -> None:
    relay = await world.start("r")
    b = await world.start("b", [relay])
    liar = await world.start("x", [relay])
    await trio.sleep(3)
    live = liar.engine.direct_session(relay.id)
    assert live is not None
    for _ in range(2000):
        message = OpenCircuit(world.chance.randbytes(8), b.id, 8, world.chance.randbytes(640))
        liar.engine.send_control(live, frames.SUBPROTOCOL_CIRCUIT, message.encode())
        await trio.sleep(0.002)
    await trio.sleep(1)
    assert len(relay.node._table) <= 64
    assert len(b.engine.endpoints) <= 64
    await trio.sleep(60)
    assert len(relay.node._table) == 0
    assert b.engine.endpoints == {}


async def test_a_stream_that_is_over_when_its_name_is_read_harms_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    """The peer reads no answer, acknowledges our reset, and then sends the name and the end."""
    b = await world.start("b")
    a = await world.start("a", [b])
    await trio.sleep(1)
    live = a.engine.sessions[next(iter(a.engine.sessions))]
    session = live.session
    there, back = Pattern(1, 1000), Pattern(2, 1000)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_exchange, b, back, there, [])
        for _ in range(3):
            sid = session.open_stream(3)
            assert sid is not None
            session.stop_stream(sid, 1)
            live.drive()
            await trio.sleep(0.5)
            session.write(sid, b"\x08exchange")
            session.finish(sid)
            live.drive()
            await trio.sleep(0.5)
            assert not session.streams.sending
            assert not b.engine.sessions[session.remote_index].streams
            assert not b.engine.sessions[session.remote_index]._unnamed
        await exchange(await (await a.node.connect(b.id)).open_stream("exchange"), there, back)


@pytest.mark.parametrize("repeat", [1, 20])
async def test_an_address_that_only_the_peer_vouches_for_gets_three_times_what_came(
    world: World, autojump_clock: MockClock, repeat: int
) -> None:
    net = world.net
    b = await world.start("b")
    a = await world.start("a", [b])
    await trio.sleep(1)
    victim = net.host("v")
    got: list[int] = []

    def record(packet: Packet) -> Verdict:
        if packet.destination.host == victim.address:
            got.append(len(packet.data))
        return Verdict()

    net.on_packet = record
    session = a.session(b)
    assert session is not None
    assert session.path is not None
    sent = 0
    for port in range(1000, 1010):
        for _ in range(repeat):
            plain = bytes((frames.PATH_CHALLENGE,)) + bytes(8)
            packet = session.out.seal(plain, session.path, trio.current_time())
            sent += len(packet)
            net.inject(packet, Address(victim.address, port), Address(b.host.address, 4650))
        await trio.sleep(0.1)
    await trio.sleep(20)
    assert 0 < sum(got) <= 3 * sent
    assert session.closed is None


async def test_circuits_that_nothing_runs_on_make_room_for_others(world: World, autojump_clock: MockClock) -> None:
    """Some keys at one address keep all circuits busy that a node ends over its relay."""
    relay = await world.start("r")
    a, b = await world.start("a", [relay], direct=False), await world.start("b", [relay], direct=False)
    early = await world.start("c", [relay], direct=False)
    host = world.net.host("x")
    liars = [await world.start(host, [relay], port=4650 + number) for number in range(10)]
    world.serve(b)
    await trio.sleep(3)
    stream = await (await early.node.connect(b.id)).open_stream("echo")

    async def flood(liar: Member) -> None:
        while True:
            live = liar.engine.direct_session(relay.id)
            assert live is not None
            for _ in range(8):
                message = OpenCircuit(world.chance.randbytes(8), b.id, 8, bytes(60))
                liar.engine.send_control(live, frames.SUBPROTOCOL_CIRCUIT, message.encode())
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for liar in liars:
            nursery.start_soon(flood, liar)
        await trio.sleep(30)
        assert b.engine.endpoints.count_over(relay.id) > 250
        await a.node.connect(b.id)
        await stream.send_all(b"still here")
        assert await stream.receive_some() == b"still here"
        # nor do those that b itself asks for give way
        late = await world.start("d", [relay], direct=False)
        await b.node.connect(late.id)
        nursery.cancel_scope.cancel()
    await trio.sleep(60)
    assert b.engine.endpoints.count_over(relay.id) < 10
