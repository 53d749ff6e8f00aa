"""The sending half of a stream against a plain bytearray: whatever is lost, repeated or acknowledged, in any order."""

from __future__ import annotations

import array
import random

import pytest

from netmesh_trio.session.send_stream import SendStream

HUGE = 1 << 40


@pytest.mark.parametrize("seed", range(100))
def test_every_byte_is_sent_until_acknowledged_and_never_another(seed: int) -> None:
    rng = random.Random(seed)
    steps = rng.randrange(80)
    stream = SendStream(0, HUGE, 3)
    written = bytearray()
    under_way: list[tuple[int, int, bool]] = []
    acked: set[int] = set()
    received: dict[int, int] = {}
    end_received = False
    new_bytes = 0

    def took(offset: int, data: bytes | bytearray | memoryview, fin: bool) -> None:
        nonlocal end_received
        assert bytes(data) == written[offset : offset + len(data)]
        for i, value in enumerate(data):
            received[offset + i] = value
        if fin:
            assert stream.fin
            assert offset + len(data) == len(written)
            end_received = True
        under_way.append((offset, len(data), fin))

    def send(room: int, credit: int) -> None:
        nonlocal new_bytes
        if not stream.sendable(credit):
            return
        offset, data, fin, new = stream.take(room, credit)
        assert len(data) <= room
        if new:
            assert len(data) <= credit
            new_bytes += len(data)
        if data or fin:
            took(offset, data, fin)

    def check() -> None:
        base = next((i for i in range(len(written) + 1) if i not in acked), 0)
        assert stream.base == base
        assert stream.end == len(written)
        assert stream.base <= stream.next <= stream.end
        assert stream.unsent == len(written) - stream.next

    for _ in range(steps):
        action = rng.randrange(8)
        if action <= 1 and not stream.fin:
            data = rng.randbytes(rng.choice((0, 1, 7, 300, 8191, 8192, 20000)))
            written += data
            stream.write(rng.choice((bytes, bytearray, memoryview))(data))
        elif action == 2 and not stream.fin and rng.random() < 0.2:
            stream.finish()
        elif action == 3:
            chunk = rng.choice((100, 1000, 1300))
            start = stream.next
            for blob, at, count in stream.take_bulk(chunk, rng.randrange(1, 20), rng.choice((0, 1500, HUGE))):
                new_bytes += count * chunk
                for begin in range(at, at + count * chunk, chunk):
                    took(start, blob[begin : begin + chunk], False)
                    start += chunk
            assert stream.next == start
        elif action == 4:
            send(rng.choice((1, 50, 1300)), rng.choice((0, 10, HUGE)))
        elif under_way:
            piece = under_way.pop(rng.randrange(len(under_way)))
            if action == 5:
                stream.on_lost(*piece)
            else:
                stream.on_acked(*piece)
                acked.update(range(piece[0], piece[0] + piece[1]))
                if rng.random() < 0.2:
                    stream.on_lost(*piece)  # thought lost before: harmless now
            if rng.random() < 0.2:
                stream.on_lost(*piece)
                under_way.append(piece)  # thought lost, and yet it may be acknowledged
        check()
    assert new_bytes == stream.next

    stream.finish()
    for _ in range(100000):
        while stream.sendable(HUGE):
            send(1300, HUGE)
        if not under_way:
            break
        piece = under_way.pop()
        if rng.random() < 0.3:
            stream.on_lost(*piece)
        else:
            stream.on_acked(*piece)
    assert bytes(received[i] for i in range(len(written))) == written
    assert end_received
    assert stream.done
    assert not stream._blobs
    assert not stream._acked
    assert not stream.lost


def test_the_peers_limit_holds_back_new_data_but_not_lost() -> None:
    stream = SendStream(0, 10, 3)
    stream.write(b"0123456789abcdef")
    stream.finish()
    assert stream.take(100, HUGE) == (0, b"0123456789", False, True)
    assert not stream.sendable(HUGE)
    stream.on_lost(2, 3, False)
    assert stream.sendable(0)
    assert stream.take(2, 0) == (2, b"23", False, False)
    assert stream.take(2, 0) == (4, b"4", False, False)
    assert not stream.sendable(HUGE)
    stream.limit = 16
    assert stream.take(100, HUGE) == (10, b"abcdef", True, True)
    assert not stream.sendable(HUGE)


def test_a_peer_that_never_acknowledges_the_beginning_gets_no_more_than_so_much() -> None:
    stream = SendStream(0, HUGE, 3, 10_000)
    stream.write(bytes(50_000))
    offset, data, _, _ = stream.take(1000, HUGE)
    sent = [(offset, len(data))]
    while stream.sendable(HUGE):
        for _, _, pieces in stream.take_bulk(1000, 4, HUGE):
            sent += [(stream.next - (pieces - i) * 1000, 1000) for i in range(pieces)]
    assert stream.next == 10_000
    for offset, length in sent[1:]:
        stream.on_acked(offset, length, False)
    assert not stream.sendable(HUGE)
    assert len(stream.take(5000, HUGE)[1]) == 0
    stream.on_acked(*sent[0], False)
    assert stream.sendable(HUGE)
    assert len(stream.take(20_000, HUGE)[1]) == 10_000


def test_a_lost_end_is_sent_again_alone_if_the_data_arrived() -> None:
    stream = SendStream(0, HUGE, 3)
    stream.write(b"abc")
    stream.finish()
    assert stream.take(100, HUGE) == (0, b"abc", True, True)
    stream.on_acked(0, 3, False)
    assert not stream.done
    stream.on_lost(0, 3, True)
    assert stream.sendable(0)
    assert stream.take(100, 0) == (3, b"", True, True)
    stream.on_acked(3, 0, True)
    assert stream.done


def test_an_empty_stream_has_an_end_too() -> None:
    stream = SendStream(0, 0, 3)
    assert not stream.sendable(HUGE)
    stream.finish()
    stream.finish()
    assert stream.take(100, 0) == (0, b"", True, True)
    stream.on_acked(0, 0, True)
    assert stream.done


@pytest.mark.parametrize("sent", [0, 500, 1000])
def test_a_reset_forgets_the_data(sent: int) -> None:
    stream = SendStream(0, HUGE, 3)
    stream.write(bytes(1000))
    if sent:
        stream.take(sent, HUGE)
    stream.on_lost(0, sent, False)
    stream.reset(7)
    stream.reset(8)
    assert stream.reset_code == 7
    assert stream.end == stream.next == sent
    assert not stream.sendable(HUGE)
    assert not stream.done
    stream.write(bytes(20_000))
    stream.write(b"x")
    assert stream.end == sent
    assert not stream._blobs
    stream.on_lost(0, sent, False)
    stream.on_acked(0, sent, False)
    assert not stream.sendable(HUGE)
    stream.reset_acked = True
    assert stream.done


def test_what_is_acknowledged_is_freed_though_the_program_writes_on() -> None:
    stream = SendStream(0, HUGE, 3)
    for _ in range(5000):
        stream.write(bytes(100))
        offset, data, _, _ = stream.take(100, HUGE)
        stream.on_acked(offset, len(data), False)
        assert sum(map(len, stream._blobs)) < 100_000
    assert stream.base == stream.end == 500_000


def test_a_write_does_not_change_what_was_taken() -> None:
    stream = SendStream(0, HUGE, 3)
    stream.write(b"abc")
    _, first, _, _ = stream.take(2, HUGE)
    stream.write(b"def")
    _, second, _, _ = stream.take(10, HUGE)
    assert (bytes(first), bytes(second)) == (b"ab", b"cdef")
    assert bytes(stream.read(0, 6)) == b"abcdef"


@pytest.mark.parametrize("sizes", [[50_000], [9000, 9001, 9002], [100] * 200 + [20_000], [8192] * 5])
def test_bulk_crosses_from_one_write_to_the_next(sizes: list[int]) -> None:
    stream = SendStream(0, 1 << 30, 3)
    rng = random.Random(1)
    data = b""
    for size in sizes:
        data += (part := rng.randbytes(size))
        stream.write(memoryview(part) if size % 2 else part)
    got = b""
    while runs := stream.take_bulk(1355, rng.randrange(1, 20), 1 << 30):
        for buffer, at, count in runs:
            got += buffer[at : at + count * 1355]
        assert stream.next == len(got)
    assert got == data[: len(data) // 1355 * 1355]
    assert stream.take_bulk(1355, 0, 1 << 30) == []
    _, rest, _, _ = stream.take(1355, 1 << 30)
    assert got + rest == data


def test_what_the_program_may_change_is_copied_and_what_it_may_not_is_not() -> None:
    stream = SendStream(0, 1 << 30, 3)
    for owner in (bytearray(b"x" * 20_000), b"x" * 20_000):
        stream.write(memoryview(owner)[:10_000])
        if isinstance(owner, bytearray):
            owner[:] = b"y" * 20_000
    assert stream.take(20_000, 1 << 30)[1] == b"x" * 20_000
    assert [type(blob) for blob in stream._blobs] == [bytes, memoryview]


def test_what_is_not_bytes_leaves_the_stream_as_it_was() -> None:
    stream = SendStream(0, HUGE, 3)
    stream.write(b"abc")
    for wrong in ("text", [1, 2], None):
        with pytest.raises(TypeError, match="can be sent"):
            stream.write(wrong)  # type: ignore[arg-type]
    assert stream.end == 3
    stream.write(memoryview(array.array("H", [0x6464, 0x6464])))
    assert stream.end == 7
    assert bytes(stream.read(0, 7)) == b"abcdddd"
