"""Batches taken in as a whole give what the same packets give one by one."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.session.session import Session
from netmesh_trio.wire.packets import DATA_OVERHEAD
from tests.session.pair import Pair


def batches(pair: Pair, rng: random.Random, *, streams: int) -> list[tuple[bytes, int]]:
    """What ``a`` sends of some streams: packets and their size, in the batches in which they went out."""
    a = pair.a
    assert a.path is not None
    a.path.congestion.window = 1e9
    ids = [a.open_stream(3) for _ in range(streams)]
    made = []
    for _ in range(40):
        sid = rng.choice(ids)
        assert sid is not None
        a.write(sid, rng.randbytes(rng.choice((1, 500, 20_000, 60_000))))
        if rng.random() < 0.2:
            a.send_control(0x0C00, rng.randbytes(30))
        if rng.random() < 0.1:
            a.send_datagram(b"x", b"y")
        pair.now += 0.01
        while (batch := a.transmit(pair.now)) is not None:
            made.append((b"".join(batch.pieces), batch.size))
    return made


def spoil(data: bytes, size: int, rng: random.Random) -> bytes:
    """Lose, repeat, reorder, or forge some of a batch."""
    packets = [data[at : at + size] for at in range(0, len(data), size)]
    at = rng.randrange(len(packets))
    what = rng.randrange(6)
    if what == 0:
        del packets[at]
    elif what == 1:
        packets.insert(at, packets[at])
    elif what == 2 and len(packets[at]) == len(packets[0]):
        packets[0], packets[at] = packets[at], packets[0]
    elif what == 3:
        spoiled = bytearray(packets[at])
        spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
        packets[at] = bytes(spoiled)
    elif what == 4:
        packets[-1] = packets[-1][: rng.randrange(1, len(packets[-1]) + 1)]
    return b"".join(packets)


def read_all(session: Session) -> dict[int, bytes]:
    return {sid: session.read(sid, 1 << 30) for sid in list(session.streams.receiving)}


@pytest.mark.parametrize("skip", [0, 12])
@pytest.mark.parametrize("seed", range(30))
def test_a_batch_is_the_packets_in_it(seed: int, skip: int) -> None:
    rng = random.Random(seed)
    pair, twin = Pair(seed, mtu=1400), Pair(seed, mtu=1400)
    made = batches(pair, rng, streams=rng.choice((1, 1, 2, 5)))
    whole, single = pair.b, twin.b
    for data, size in made:
        if not data:
            continue
        if rng.random() < 0.3:
            data = spoil(data, size, rng)
        packets = [bytes(skip) + data[at : at + size] for at in range(0, len(data), size)]
        stride = size + skip
        if any(len(p) != stride for p in packets[:-1]):
            continue
        for session, parts in ((whole, [b"".join(packets)]), (single, packets)):
            path = session.paths[next(iter(session.paths))]
            for part in parts:
                rest = memoryview(part)
                while rest and session.closed is None:
                    used = session.receive(rest, skip, stride, path, 1.0)
                    rest = rest[used or min(stride, len(rest)) :]
        assert whole.closed == single.closed
        assert list(whole.acks._received) == list(single.acks._received)
        assert whole.acks.eliciting == single.acks.eliciting
        assert whole.acks.immediate == single.acks.immediate
        assert list(map(repr, whole.events)) == list(map(repr, single.events))
        for name in ("packets_received", "bytes_received", "dropped_forged", "dropped_replayed", "dropped_invalid"):
            assert getattr(whole.stats, name) == getattr(single.stats, name), name
        if rng.random() < 0.5:
            assert read_all(whole) == read_all(single)
            assert whole.streams.consumed == single.streams.consumed
    assert read_all(whole) == read_all(single)
    assert whole.acks.expected > 0


def test_a_plain_batch_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(mtu=1400)
    assert pair.a.path is not None
    pair.transfer(b"x" * 500_000)  # the size of datagrams is found
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.path.congestion.window = 1e9
    data = random.Random(1).randbytes(100_000)
    pair.a.write(sid, data)
    monkeypatch.setattr(type(pair.b._receiving), "_receive_singly", lambda *args: pytest.fail("went packet by packet"))
    got = b""
    while len(got) + 1400 < len(data):
        batch = pair.a.transmit(pair.now)
        assert batch is not None
        if batch.total > batch.size:
            packets = memoryview(b"".join(batch.pieces))
            path = next(iter(pair.b.paths.values()))
            assert pair.b.receive(packets, 0, batch.size, path, pair.now) == batch.total
            got += pair.b.read(sid, 1 << 20)
            assert data.startswith(got)
        else:
            break
    assert len(got) > 40_000


def test_packets_too_small_for_stream_data_are_no_run() -> None:
    pair = Pair()
    path = next(iter(pair.b.paths.values()))
    for size in range(1, DATA_OVERHEAD + 16):
        for data in (bytes(4 * size), (b"\x04" * 16 + bytes(60))[:size] * 4):
            pair.b.receive(memoryview(data), 0, size, path, 0.0)
    assert pair.b.stats.packets_received == 0
    assert pair.b.closed is None
