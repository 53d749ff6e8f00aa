"""A peer that holds the keys and says what it likes: the session goes on, or ends with 'protocol'; nothing else."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netmesh_trio.session.session import Session
from netmesh_trio.wire import frames
from netmesh_trio.wire.control import encode_cbor
from tests.session.pair import KEY_A, Pair

U32 = [0, 1, 2, 3, 4, 63, 64, 127, 128, 0x7FFF_FFFF, 0xFFFF_FFFD, 0xFFFF_FFFE, 0xFFFF_FFFF]
U64 = [0, 1, 2, 1000, 1 << 20, (1 << 20) + 1, 1 << 32, (1 << 62) - 1, (1 << 63) - 1, (1 << 64) - 1]


def feed(pair: Pair, *plains: bytes) -> None:
    """The opener says this, in a batch."""
    a, b = pair.sides
    for plain in plains:
        packet = a.out.seal(plain, a.paths[KEY_A], pair.now)
        b.receive(memoryview(bytearray(packet)), 0, len(packet), b.add_path(KEY_A, None, pair.now), pair.now)
        drain(b, pair.now)


def drain(session: Session, now: float) -> int:
    sent = 0
    while (batch := session.transmit(now)) is not None:
        sent += batch.total
        assert sent < 1 << 22
    session.events.clear()
    session.readable.clear()
    session.drained.clear()
    return sent


def check(session: Session, now: float) -> None:
    """Sound in itself, and nothing is queued without end."""
    if session.closed is not None:
        assert session.closed.why in ("protocol", "closed")
        assert session.next_deadline() == float("inf")
        return
    streams = session.streams
    assert len(streams.receiving) <= 200
    assert len(streams.sending) <= 200
    assert len(session.out.controls) <= session.out.max_controls + 200
    assert len(session.paths) <= 8
    assert streams.consumed <= streams.received <= streams.receive_limit
    held = sum(sum(map(len, s._chunks)) + sum(map(len, s._pieces.values())) for s in streams.receiving.values())
    assert held <= streams.received - streams.consumed
    for path in session.paths.values():
        assert path.congestion.in_flight >= 0
        assert path.eliciting_in_flight >= 0
    drain(session, now)
    assert session.next_deadline() > now or session.out.pacing_until <= now


def hostile_frame(rng: random.Random, sent: int, mild: bool) -> bytes:
    """With ``mild``, mostly what is allowed, so that the session lasts."""
    u32 = rng.choice(U32) if rng.random() < 0.8 else rng.randrange(1 << 32)
    u64 = rng.choice(U64) if rng.random() < 0.7 else rng.randrange(0, 1 << rng.choice((8, 16, 20, 64)))
    if mild:
        u32 = rng.choice((0, 2, 4, 40, 1))
        u64 = rng.choice((0, 1, 5, 300, 1000))
    code = rng.choice(U32)
    size = rng.choice((0, 1, 2, 30, 300))
    kind = rng.randrange(12)
    if kind == 0:
        top = rng.choice((sent, max(0, sent - 1), sent if mild else rng.choice(U64)))
        ranges = [] if mild else [(rng.choice((0, 1, code)), rng.choice((0, 1, code))) for _ in range(rng.randrange(3))]
        first = min(top, 1) if mild else rng.choice((0, 1, u32))
        ack = struct.pack(">BQIIB", frames.ACK, top, code, first, len(ranges))
        return ack + b"".join(struct.pack(">II", *r) for r in ranges)
    if kind == 1:
        return bytes((frames.PATH_CHALLENGE,)) + rng.randbytes(8)
    if kind == 2:
        return bytes((frames.PATH_RESPONSE,)) + rng.randbytes(8)
    if kind == 3:
        return frames.encode_reset_stream(u32, code, u64)
    if kind == 4:
        return frames.encode_stop_sending(u32, code)
    if kind in (5, 6, 7):
        fin = rng.random() < 0.3
        which = frames.STREAM_LEN_FIN if fin else frames.STREAM_LEN
        return frames.pack_stream_len_header(which, u32, u64, size) + rng.randbytes(size)
    if kind == 8:
        return frames.encode_datagram(b"x" * rng.choice((1, 64)), rng.randbytes(size))
    if kind == 9:
        value = [rng.choice((u64, -1, None)), rng.choice((u32, "x")), [[u32, rng.choice((u64, -5))]] * rng.randrange(9)]
        good = [u64, u32, [[u32, u64]] * rng.randrange(4)]
        payload = encode_cbor(good if mild else rng.choice((value, good)))
        return frames.encode_control(frames.SUBPROTOCOL_STREAM_WINDOW, payload[:1100])
    if kind == 10 and not mild:
        payload = struct.pack(">I", rng.choice((0, 1, 2, code))) + rng.choice((bytes(32), rng.randbytes(32)))
        return frames.encode_control(frames.SUBPROTOCOL_REKEY, payload[: rng.choice((36, 36, 5))])
    return frames.encode_control(rng.randrange(1 << 16), rng.randbytes(size))


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=10))
@settings(max_examples=300)
def test_any_bytes(plains: list[bytes]) -> None:
    pair = Pair()
    feed(pair, *plains)
    check(pair.b, pair.now)


@pytest.mark.parametrize("seed", range(400))
def test_valid_looking_frames_with_hostile_values(seed: int) -> None:
    rng = random.Random(seed)
    pair = Pair(seed)
    _a, b = pair.sides
    victim_stream = b.open_stream(3)
    assert victim_stream is not None
    b.write(victim_stream, bytes(5000))
    mild = seed % 4 != 0
    for _ in range(rng.randrange(1, 60)):
        sent = max(0, b.out.next_number - 1)
        plain = b"".join(hostile_frame(rng, sent, mild) for _ in range(rng.choice((1, 1, 2, 5))))
        feed(pair, plain[: 1300 if mild or rng.random() < 0.9 else rng.randrange(1, 1300)])
        check(b, pair.now)
        if b.closed is not None:
            break
        if rng.random() < 0.3:
            for sid in list(b.streams.receiving):
                b.read(sid, 1000)
                if rng.random() < 0.3:
                    rng.choice((lambda s: b.stop_stream(s, 1), lambda s: b.reset_stream(s, 2), b.finish))(sid)
        if rng.random() < 0.5:
            pair.now += rng.choice((0.001, 0.03, 0.5))
            b.on_timeout(pair.now)
            check(b, pair.now)


def refused(plain: Callable[[Pair], bytes] | bytes) -> str:
    pair = Pair()
    feed(pair, plain if isinstance(plain, bytes) else plain(pair))
    assert pair.b.closed is not None
    assert pair.b.closed.why == "protocol"
    check(pair.b, pair.now)
    return pair.b.closed.detail


def stream(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    kind = frames.STREAM_LEN_FIN if fin else frames.STREAM_LEN
    return frames.pack_stream_len_header(kind, stream_id, offset, len(data)) + data


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (stream(0, 1 << 20, b"x"), "beyond"),
        (stream(0, (1 << 64) - 1, b"xy"), "beyond"),
        (frames.pack_stream_header(frames.STREAM, 0, 1 << 20) + b"x", "beyond"),
        (stream(1, 0, b"x"), "did not open"),
        (stream(128, 0, b"x"), "too many streams"),
        (stream(0xFFFF_FFFE, 0, b"x"), "too many streams"),
        (stream(0, 0, b"abc", True) + stream(0, 3, b"d"), "beyond"),
        (stream(0, 0, b"abc", True) + stream(0, 0, b"ab", True), "two places"),
        (stream(0, 5, b"abc") + frames.encode_reset_stream(0, 1, 7), "two places"),
        (frames.encode_reset_stream(0, 1, (1 << 20) + 1), "beyond"),
        (stream(0, (1 << 20) - 1, b"x") + stream(2, (1 << 20) - 1, b"x") + stream(4, 0, b"x"), "session allows"),
        (frames.encode_ack([(0, 5)], 0.0), "never sent"),
        (struct.pack(">BQIIB", frames.ACK, 3, 0, 4, 0), "cannot be"),
        (frames.encode_control(frames.SUBPROTOCOL_REKEY, bytes(36)[:35]), "REKEY"),
        (frames.encode_control(frames.SUBPROTOCOL_REKEY, struct.pack(">I", 2) + bytes(32)), "skips"),
        (frames.encode_control(frames.SUBPROTOCOL_REKEY, struct.pack(">I", 1) + bytes(32)), "low order"),
        (frames.encode_control(frames.SUBPROTOCOL_STREAM_WINDOW, b"\xff"), ""),
        (bytes((frames.PATH_CHALLENGE,)) + bytes(7), "cut short"),
        (b"\x7f", "unknown frame"),
    ],
)
def test_what_breaks_the_protocol_ends_the_session(plain: bytes, why: str) -> None:
    assert why in refused(plain)


def size_of(session: Session) -> int:
    """Roughly the memory that stream data takes, bytes."""
    total = 0
    for s in session.streams.receiving.values():
        total += sum(map(sys.getsizeof, s._chunks)) + sum(map(sys.getsizeof, s._pieces.values()))
        total += sys.getsizeof(s._pieces) + 80 * len(s._held)
    return total


@pytest.mark.parametrize("gap", [0, 1])
def test_tiny_fragments_do_not_take_much_more_than_the_window(gap: int) -> None:
    pair = Pair(window=1 << 18)
    plain = bytearray()
    for i in range(65_000):
        plain += stream(2 * (i % 8), (gap + (2 + gap) * (i // 8)), b"ab")
        if len(plain) > 1200:
            feed(pair, bytes(plain))
            plain.clear()
    assert pair.b.closed is None
    assert size_of(pair.b) < 12 << 20
    for i in range(10_000):
        feed(pair, stream(16, 1 + 2 * i, b"x"))
    assert gap == 0 or pair.b.closed is not None


@pytest.mark.parametrize("stopped", [False, True])
def test_a_stream_full_of_gaps_ends_the_session(stopped: bool) -> None:
    """From the last to the first, so that each piece goes in front of all others."""
    pair = Pair()
    feed(pair, stream(0, 200_000, b""))
    if stopped:
        pair.b.stop_stream(0, 1)
    for i in range(8192):
        feed(pair, stream(0, 100_000 - 2 * i, b"x"))
    assert pair.b.closed is None
    feed(pair, stream(0, 1000, b"x"))
    assert pair.b.closed is not None
    assert "pieces" in pair.b.closed.detail


def test_streams_by_the_thousand_stay_within_the_limit() -> None:
    pair = Pair()
    for i in range(5000):
        feed(pair, stream(2 * i, 0, b"", True))
        if pair.b.closed is not None:
            break
    assert pair.b.closed is not None
    assert "too many" in pair.b.closed.detail
    assert len(pair.b.streams.receiving) == 64


def test_challenges_are_answered_one_a_packet() -> None:
    pair = Pair()
    challenge = bytes((frames.PATH_CHALLENGE,)) + bytes(8)
    a, b = pair.sides
    packet = a.out.seal(challenge * 130, a.paths[KEY_A], 0.0)
    b.receive(memoryview(packet), 0, len(packet), b.add_path(KEY_A, None, 0.0), 0.0)
    assert drain(b, 0.0) < len(packet)


def test_a_control_flood_is_handed_over_and_not_kept() -> None:
    pair = Pair()
    for i in range(3000):
        feed(pair, frames.encode_control(0x0D00, bytes(1000)), frames.encode_stop_sending(0, i))
    check(pair.b, pair.now)
    assert pair.b.closed is None


def test_a_replay_behind_a_late_packet_is_refused() -> None:
    """Numbers 0 and 2 came; then 1 and, right behind it in one batch, 2 again."""
    pair = Pair()
    a, b = pair.sides
    path = a.paths[KEY_A]
    packets = [a.out.seal(frames.encode_datagram(b"x", bytes((i,))), path, 0.0) for i in range(3)]
    to = b.add_path(KEY_A, None, 0.0)

    def give(*which: int) -> list[int]:
        data = b"".join(packets[i] for i in which)
        b.events.clear()
        b.receive(memoryview(data), 0, len(packets[0]), to, 0.0)
        return [e.payload[0] for e in b.events if type(e).__name__ == "DatagramReceived"]  # type: ignore[union-attr]

    assert give(0) == [0]
    assert give(2) == [2]
    assert give(1, 2, 0) == [1]
    assert b.stats.dropped_replayed == 2


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.data())
@settings(max_examples=200)
def test_each_number_is_taken_in_once_in_any_batches(order: list[int], data: st.DataObject) -> None:
    pair = Pair()
    a, b = pair.sides
    packets = [a.out.seal(frames.encode_datagram(b"x", bytes((i,))), a.paths[KEY_A], 0.0) for i in range(13)]
    to = b.add_path(KEY_A, None, 0.0)
    while order:
        count = data.draw(st.integers(1, len(order)))
        batch, order = b"".join(packets[i] for i in order[:count]), order[count:]
        b.receive(memoryview(batch), 0, len(packets[0]), to, 0.0)
    got = [e.payload[0] for e in b.events if type(e).__name__ == "DatagramReceived"]  # type: ignore[union-attr]
    assert len(got) == len(set(got))
