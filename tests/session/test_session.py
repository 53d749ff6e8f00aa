from __future__ import annotations

import random

import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.buckets import TokenBucket
from netmesh_trio.session.events import Closed, PathSuspect, StreamArrived, StreamStopped
from netmesh_trio.session.session import Session, SessionTimes
from netmesh_trio.wire import frames
from tests.session.pair import KEY_A, Pair, Wire


@pytest.mark.parametrize("seed", range(60))
def test_every_byte_arrives_once_and_in_order_on_a_bad_wire(seed: int) -> None:
    rng = random.Random(seed)
    wire = Wire(
        delay=rng.choice((0.0005, 0.01, 0.1)),
        loss=rng.choice((0.0, 0.01, 0.1, 0.25)),
        jitter=rng.choice((0.0, 0.005, 0.05)),
        duplicate=rng.choice((0.0, 0.1)),
        mtu=rng.choice((1200, 1300, 1500)),
    )
    pair = Pair(seed, wire=wire, window=rng.choice((4096, 65536, 1 << 20)))
    data = rng.randbytes(rng.choice((0, 1, 5000, 200_000)))
    assert pair.transfer(data) == data
    pair.run(pair.now + 15)
    assert pair.a.path is not None
    while pair.a.path.congestion.in_flight and pair.now < 900:  # whether the peer lives may be asked just now
        pair.step()
    assert pair.a.path.congestion.in_flight == 0
    assert pair.a.path.eliciting_in_flight == 0


def test_clean_wire_loses_and_repeats_nothing() -> None:
    pair = Pair(wire=Wire(delay=0.01))
    data = random.Random(1).randbytes(2_000_000)
    assert pair.transfer(data) == data
    assert pair.a.stats.packets_lost == 0
    assert pair.a.path is not None
    assert pair.a.path.mtu.current == 1400
    assert pair.a.stats.bytes_sent < 1.08 * len(data)


def test_datagram_size_follows_the_wire() -> None:
    pair = Pair(wire=Wire(mtu=1380), mtu=8952)
    pair.transfer(bytes(500_000))
    assert pair.a.path is not None
    assert pair.a.path.mtu.current == 1350
    pair.wire.mtu = 1250  # a tunnel appears: a black hole for the packets of before
    data = random.Random(2).randbytes(100_000)
    assert pair.transfer(data) == data
    assert pair.a.path.mtu.current <= 1250


def test_keys_are_renewed_in_mid_stream() -> None:
    pair = Pair(times=SessionTimes(rekey=0.5), wire=Wire(delay=0.01, loss=0.05, jitter=0.01), window=20000)
    data = random.Random(3).randbytes(1_000_000)
    assert pair.transfer(data) == data
    # the answer to the last one may be under way
    assert pair.b.keys.renewals - 1 <= pair.a.keys.renewals <= pair.b.keys.renewals
    assert pair.a.keys.renewals >= 2
    assert pair.b.keys.sent_generation >= 1
    assert pair.a.stats.dropped_forged == pair.b.stats.dropped_forged == 0


def test_keys_are_renewed_by_count() -> None:
    pair = Pair(times=SessionTimes(rekey_packets=100), wire=Wire(delay=0.001))
    pair.transfer(bytes(500_000))
    assert pair.a.keys.renewals >= 1


def renew_in_haste(pair: Pair, count: int, pause: float, packets: int = 0) -> int:
    """Renew the keys again as soon as they are, and so many packets later; say how often the other side did it."""
    for _ in range(count):
        for _ in range(packets):
            pair.a.ping()
            pair.flush()
        message = pair.a.keys.start_renewal()
        if message is None or pair.b.closed:
            break
        pair.a.queue_rekey(message)
        pair.a.ping()
        pair.run(pair.now + pause)
        pair.a.ping()
        pair.run(pair.now + pause)
    return pair.b.keys.renewals


def test_keys_that_are_renewed_without_end_end_the_session() -> None:
    pair = Pair(wire=Wire(delay=0.001))
    assert renew_in_haste(pair, 1000, 0.03) < 60
    assert pair.b.closed == Closed("protocol", "REKEY too often")


def test_packet_numbers_that_jump_do_not_have_keys_renewed_without_end() -> None:
    """The side that opened the session renews them by the peer's packet numbers, too."""
    pair = Pair(wire=Wire(delay=0.001))
    pair.run(1.0)
    pair.b.keys._limit = TokenBucket(1e9, 1e9)
    for _ in range(1000):
        pair.b.out.next_number += 1 << 28
        pair.b.ping()
        pair.run(pair.now + 0.02)
    assert pair.a.keys.renewals < 120
    assert pair.a.closed == Closed("protocol", "REKEY too often")


def test_keys_may_be_renewed_as_often_as_any_node_does() -> None:
    """Each second, the shortest interval there is, and some of them late and together."""
    pair = Pair(wire=Wire(delay=0.001))
    assert renew_in_haste(pair, 20, 0.01) == 20
    assert renew_in_haste(pair, 100, 0.5) == 120
    assert pair.b.closed is None


def test_keys_may_be_renewed_the_oftener_the_more_packets_come() -> None:
    pair = Pair(wire=Wire(delay=0.001))
    assert renew_in_haste(pair, 80, 0.01, packets=40) == 80
    assert pair.b.closed is None


def test_the_answer_to_a_renewal_finds_room_in_a_full_queue() -> None:
    pair = Pair(times=SessionTimes(rekey=5.0))
    pair.b.out.max_controls = 0
    pair.run(18.0)
    assert pair.a.keys.generation == pair.b.keys.generation == 3


def test_a_full_queue_of_control_messages_does_not_end_the_renewal_of_keys() -> None:
    pair = Pair(times=SessionTimes(rekey=5.0))
    pair.run(1.0)
    for side in pair.sides:
        while side.send_control(0x0C00, bytes(100)):
            pass
    for side in pair.sides:  # before any of that goes out
        side.on_timeout(5.0)
    pair.now = 5.0
    pair.run(18.0)
    assert pair.a.keys.generation == pair.b.keys.generation == 3


def test_a_stream_that_a_late_packet_completes_is_forgotten() -> None:
    """The acknowledgement that shows the hole and that of the late packet come in together."""
    pair = Pair()
    a, b = pair.sides
    sid = a.open_stream(3)
    assert sid is not None
    a.write(sid, b"?")
    pair.run(1.0)
    assert b.read(sid, 1) == b"?"
    b.finish(sid)
    pair.run(2.0)
    assert a.read(sid, 1) == b""
    a.write(sid, bytes(8000))
    a.finish(sid)

    def packets(side: Session) -> list[bytes]:
        found = []
        while (batch := side.transmit(pair.now)) is not None:
            data = b"".join(batch.pieces)
            found += [data[at : at + batch.size] for at in range(0, len(data), batch.size)]
        return found

    def arrive(side: Session, packet: bytes) -> None:
        assert side.path is not None
        side.receive(memoryview(packet), 0, len(packet), side.path, pair.now)

    sent = packets(a)
    late = sent.pop(1)
    pair.now += 0.02
    for packet in sent:
        arrive(b, packet)
    acks = packets(b)
    arrive(b, late)
    acks += packets(b)
    pair.now += 0.02
    for packet in acks:
        arrive(a, packet)
    assert a.stats.packets_lost == 1
    assert len(b.read(sid, 10_000)) == 8000
    pair.run(pair.now + 5)
    assert not a.streams.sending
    assert not b.streams.sending


def test_a_sender_goes_on_when_what_it_waited_for_is_acknowledged() -> None:
    """It keeps no more under way than its own limit, which is far below the peer's window here."""
    pair = Pair(wire=Wire(loss=0.05))
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.streams.sending[sid].most = 10_000
    data = random.Random(1).randbytes(500_000)
    assert pair.transfer(data, sid) == data


@pytest.mark.parametrize("unasked", [True, False])
def test_where_nobody_has_answered_goes_three_times_what_came(unasked: bool) -> None:
    pair = Pair()
    pair.run(1.0)
    a, b = pair.sides
    elsewhere = b.add_path((0, Address("198.51.100.9", 1)), None, pair.now, unasked=unasked)
    assert a.path is not None
    came = gone = 0
    for number in range(20):
        packet = a.out.seal(bytes((frames.PATH_CHALLENGE,)) + number.to_bytes(8, "big"), a.path, pair.now)
        came += len(packet)
        b.receive(memoryview(packet), 0, len(packet), elsewhere, pair.now)
        b.queue_challenge(elsewhere, pair.now)
        b.queue_challenge(elsewhere, pair.now)
        b.queue_challenge(elsewhere, pair.now)
        while (batch := b.transmit(pair.now)) is not None:
            gone += batch.total if batch.path is elsewhere else 0
    assert (came < gone <= 3 * came) if unasked else gone > 3 * came


def test_replays_and_forgeries_are_counted_and_harmless() -> None:
    pair = Pair(wire=Wire(duplicate=1.0))
    data = bytes(100_000)
    assert pair.transfer(data) == data
    assert pair.b.stats.dropped_replayed > 50
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, b"x" * 100)
    batch = pair.a.transmit(pair.now)
    assert batch is not None
    packet = bytearray(b"".join(batch.pieces))
    for at in range(len(packet)):
        packet[at] ^= 1
        path = pair.b.paths[next(iter(pair.b.paths))]
        before = pair.b.stats.packets_received
        pair.b.receive(memoryview(packet), 0, len(packet), path, pair.now)
        assert pair.b.stats.packets_received == before
        packet[at] ^= 1
    assert pair.b.closed is None
    assert pair.b.stats.dropped_forged > 0


def test_an_idle_session_is_kept_alive_and_a_dead_peer_found() -> None:
    pair = Pair()
    pair.run(200)
    assert pair.a.closed is None
    assert pair.b.closed is None
    assert pair.delivered < 60
    pair.wire.down = True
    started = pair.now
    pair.run(started + 100)
    assert pair.a.closed == Closed("timeout", "no answer for 8 s")
    assert any(isinstance(e, PathSuspect) for e in pair.events[0])


def test_a_dead_peer_is_found_within_seconds_under_traffic() -> None:
    pair = Pair()
    pair.transfer(b"hello")
    pair.wire.down = True
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, b"x")
    started = pair.now
    while pair.a.closed is None:
        assert pair.step()
    assert pair.now - started < 10


def test_a_dead_peer_is_found_within_seconds_by_who_only_listens() -> None:
    pair = Pair()
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, b"x")
    pair.run(1.0)
    pair.b.read(sid, 1)
    pair.wire.down = True
    while pair.b.closed is None:
        assert pair.step()
    assert pair.now < 13


def test_open_streams_without_traffic_cost_next_to_nothing() -> None:
    pair = Pair()
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, b"x")
    pair.run(1.0)
    before = pair.delivered
    pair.run(1001.0)
    assert pair.a.closed is None
    assert pair.b.closed is None
    assert pair.delivered - before < 200


def test_close_is_noticed_at_once() -> None:
    pair = Pair()
    pair.transfer(b"hello")
    pair.a.close(0, "bye", pair.now)
    started = pair.now
    while pair.b.closed is None:
        assert pair.step()
    assert pair.now - started <= pair.wire.delay + 1e-9
    assert pair.b.closed == Closed("closed", "bye")


def test_reset_and_stop_carry_their_codes() -> None:
    pair = Pair(wire=Wire(loss=0.2), seed=5)
    a, b = pair.a, pair.b
    first, second = a.open_stream(3), a.open_stream(3)
    assert first is not None
    assert second is not None
    a.write(first, b"x" * 10)
    a.write(second, b"y" * 500_000)
    pair.run(1.0)
    assert StreamArrived(first) in pair.events[1]
    a.reset_stream(first, 7)
    b.stop_stream(second, 9)
    pair.run(5.0)
    assert b.streams.receiving[first].reset_code == 7
    assert StreamStopped(second, 9) in pair.events[0]
    b.finish(first)
    b.finish(second)
    pair.run(10.0)
    for side in pair.sides:
        for sid in (first, second):
            side.read(sid, 1 << 20)
        assert not side.streams.sending
        assert not side.streams.receiving
    assert pair.b.streams.received == pair.b.streams.consumed


def test_flow_control_holds_a_sender_to_the_window_and_reads_release_it() -> None:
    pair = Pair(window=10_000)
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, bytes(100_000))
    pair.run(5.0)
    assert pair.b.streams.receiving[sid].next == 10_000
    total = 0
    while total < 100_000:
        total += len(pair.b.read(sid, 1 << 20))
        assert pair.step()
    assert total == 100_000


def test_many_streams_share_and_none_starves() -> None:
    pair = Pair(wire=Wire(delay=0.01), window=1 << 18)
    sids = [pair.a.open_stream(p) for p in range(8)]
    for sid in sids:
        assert sid is not None
        pair.a.write(sid, bytes(200_000))
        pair.a.finish(sid)
    done: list[int] = []
    while len(done) < len(sids):
        assert pair.step()
        for sid in sids:
            assert sid is not None
            receive = pair.b.streams.receiving.get(sid)
            if receive is not None and sid not in done:
                pair.b.read(sid, 1 << 20)
                if receive.at_end:
                    done.append(sid)
        if pair.now < 0.2:
            continue
        nexts = [pair.b.streams.receiving[s].next for s in sids if s in pair.b.streams.receiving]
        assert all(n > 0 for n in nexts)
    assert done[0] == sids[7] or done.index(sids[7]) < done.index(sids[0])  # type: ignore[arg-type]


def test_the_peers_limit_on_streams_is_kept_and_renewed() -> None:
    pair = Pair()
    sids = []
    while (sid := pair.a.open_stream(3)) is not None:
        sids.append(sid)
    assert len(sids) == 64
    for sid in sids:
        pair.a.write(sid, b"x")
        pair.a.finish(sid)
    pair.run(1.0)
    for sid in sids:
        assert pair.b.read(sid, 10) == b"x"
        pair.b.finish(sid)
    pair.run(2.0)
    for sid in sids:
        pair.a.read(sid, 10)
    assert pair.a.open_stream(3) is not None
    assert not pair.b.streams.receiving


def test_a_second_path_takes_over_and_no_byte_is_lost() -> None:
    pair = Pair(seed=4, wire=Wire(delay=0.02))
    a, b = pair.a, pair.b
    circuit = b"circuit1"
    pair.wires[circuit] = Wire(delay=0.03)
    sid = a.open_stream(3)
    assert sid is not None
    data = random.Random(1).randbytes(3_000_000)
    a.write(sid, data)
    a.finish(sid)
    got = bytearray()
    cut = False
    longest = 0.0
    last = 0.0
    while len(got) < len(data):
        assert pair.step(), (a, b, a.closed, b.closed)
        if not cut and len(got) > 500_000:
            cut = True
            pair.wire.down = True
            path = a.add_path(circuit, b.peer_id, pair.now)
            a.queue_challenge(path, pair.now)
        if sid in b.streams.receiving:
            part = b.read(sid, 1 << 20)
            if part:
                longest = max(longest, pair.now - last) if got else 0.0
                last = pair.now
                got += part
    assert bytes(got) == data
    assert longest < 1.0
    assert a.path is not None
    assert a.path.key == circuit
    assert b.path is not None
    assert b.path.key == circuit


def test_datagrams_arrive_and_a_full_queue_loses_its_oldest() -> None:
    pair = Pair()
    for i in range(300):
        pair.a.send_datagram(b"svc", bytes([i % 256]) * 100)
    assert pair.a.stats.datagrams_dropped == 300 - 256
    pair.run(2.0)
    got = [e for e in pair.events[1] if type(e).__name__ == "DatagramReceived"]
    assert len(got) == 256


def test_garbage_inside_the_aead_ends_the_session_cleanly() -> None:
    for seed in range(300):
        pair = Pair(seed)
        plain = pair.rng.randbytes(pair.rng.randrange(1, 60))
        path = pair.a.paths[KEY_A]
        packet = pair.a.out.seal(plain, path, 0.0)
        pair.b.receive(memoryview(packet), 0, len(packet), pair.b.add_path(KEY_A, None, 0.0), 0.0)
        pair.flush()
