"""The receiving half of a stream."""

from __future__ import annotations

import random

import pytest

import netmesh_trio
from netmesh_trio import Identity, open_node
from netmesh_trio.session.receive_stream import PieceBudget, ReceiveStream
from netmesh_trio.wire.errors import DecodeError


@pytest.mark.parametrize("data", [b"", b"some"])
def test_a_reset_is_not_an_end(data: bytes) -> None:
    stream = ReceiveStream(0, 1000)
    stream.push(0, data, 0, len(data), False)
    assert stream.read(1000) == data
    stream.reset(7, len(data))
    assert stream.reset_code == 7
    assert not stream.at_end
    assert stream.readable
    assert stream.complete


async def test_a_reset_with_nothing_left_unread_breaks_the_stream() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as b,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as a,
        b.listen("x") as listener,
    ):
        peer = await a.connect(b.addresses[0])
        stream = await peer.open_stream("x")
        await stream.send_all(b"?")
        other_end = await listener.accept()
        assert await other_end.receive_some() == b"?"
        await other_end.send_all(b"!")
        assert await stream.receive_some() == b"!"
        other_end.reset(7)
        with pytest.raises(netmesh_trio.StreamResetError) as caught:
            await stream.receive_some()
        assert caught.value.code == 7


def push(stream: ReceiveStream, offset: int, data: bytes, fin: bool = False) -> int:
    return stream.push(offset, b"head" + data, 4, 4 + len(data), fin)


@pytest.mark.parametrize("seed", range(100))
def test_overlapping_pieces_in_any_order_give_the_bytes_once(seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(rng.choice((0, 1, 50, 3000, 20_000)))
    budget = PieceBudget()
    stream = ReceiveStream(0, 1 << 20, budget)
    have = bytearray(len(data))
    read = bytearray()
    highest = grown = 0
    longest = rng.choice((3, 100, 1400))
    for _ in range(rng.randrange(400)):
        start = rng.randrange(len(data) + 1)
        if rng.random() < 0.3:
            start = stream.next
        stop = min(len(data), start + rng.randrange(longest))
        grown += push(stream, start, data[start:stop], stop == len(data) and rng.random() < 0.5)
        have[start:stop] = b"\1" * (stop - start)
        highest = max(highest, stop)
        in_order = have.find(0) if 0 in have else len(data)
        assert stream.next == in_order
        assert (stream.highest, grown) == (highest, highest)
        assert budget.used == len(stream._pieces) >= len(stream._held)
        if rng.random() < 0.3:
            size = rng.choice((1, 10, 5000))
            got = stream.read(size)
            assert type(got) is bytes
            assert len(got) == min(size, in_order - len(read))
            read += got
            assert stream.consumed == len(read)
    push(stream, 0, data, True)
    while part := stream.read(4000):
        read += part
    assert bytes(read) == data
    assert stream.at_end
    assert stream.complete
    assert stream.readable
    assert budget.used == 0
    assert not stream._held


@pytest.mark.parametrize("seed", range(60))
def test_what_is_thrown_away_is_given_back_exactly(seed: int) -> None:
    """Highest offset and consumed bytes are equal in the end, however the stream ends."""
    rng = random.Random(seed)
    stream = ReceiveStream(0, 1 << 16)
    size = rng.randrange(1, 5000)
    received = consumed = 0
    stopped = rng.random() < 0.6
    for step in range(rng.randrange(50)):
        start = rng.randrange(size)
        stop = min(size, start + rng.randrange(500))
        received += push(stream, start, bytes(stop - start))
        if stopped and step > 10:
            stream.stop_code = 1
            consumed += stream.discard()
        else:
            consumed += len(stream.read(rng.randrange(1000)))
    if rng.random() < 0.5:
        received += stream.reset(5, size)
        consumed += stream.discard()
    else:
        received += push(stream, 0, bytes(size), True)
        consumed += stream.discard()
    assert received == consumed == stream.highest == size
    assert push(stream, 0, bytes(size)) == 0


def test_flow_control_and_contradictory_ends_are_refused() -> None:
    stream = ReceiveStream(0, 100)
    with pytest.raises(DecodeError, match="beyond"):
        push(stream, 50, bytes(51))
    with pytest.raises(DecodeError, match="beyond"):
        stream.reset(1, 101)
    push(stream, 40, bytes(10))
    with pytest.raises(DecodeError, match="two places"):
        push(stream, 0, bytes(49), True)
    with pytest.raises(DecodeError, match="two places"):
        stream.reset(1, 49)
    push(stream, 50, bytes(10), True)
    with pytest.raises(DecodeError, match="beyond"):
        push(stream, 60, b"x")
    with pytest.raises(DecodeError, match="two places"):
        push(stream, 50, bytes(5), True)
    with pytest.raises(DecodeError, match="two places"):
        stream.reset(1, 61)
    assert not stream.readable
    push(stream, 0, bytes(60))
    assert len(stream.read(1000)) == 60
    stream.reset(1, 60)  # too late to matter
    assert stream.at_end
    assert stream.reset_code is None


def test_tiny_pieces_out_of_order_exhaust_a_budget_that_the_streams_share() -> None:
    budget = PieceBudget(100)
    streams = [ReceiveStream(i, 1 << 20, budget) for i in range(2)]
    for i in range(50):
        for stream in streams:
            push(stream, 1 + 2 * i, b"x")
    assert budget.used == 100
    with pytest.raises(DecodeError, match="pieces"):
        push(streams[0], 1000, b"x")
    streams[0].reset(5, 2000)
    streams[0].discard()
    assert budget.used == 50


def test_what_came_for_a_stopped_stream_counts_until_it_ends() -> None:
    budget = PieceBudget(100)
    stream, other = (ReceiveStream(i, 1 << 20, budget) for i in range(2))
    for i in range(50):
        push(stream, 1 + 2 * i, b"x")
    stream.stop_code = 1
    stream.discard()
    assert budget.used == 50
    for i in range(50, 99):
        push(stream, 1 + 2 * i, b"x")
    push(other, 1, b"x")
    assert budget.used == 100
    with pytest.raises(DecodeError, match="pieces"):
        push(stream, 10_001, b"x")
    stream = ReceiveStream(2, 1 << 20, budget)
    stream.stop_code = 1
    budget.used = 0
    for i in range(50):
        push(stream, 1 + 2 * i, b"x")
    push(stream, 0, bytes(101))
    assert (stream.next, budget.used) == (101, 0)


def test_a_reset_stream_keeps_nothing() -> None:
    budget = PieceBudget()
    stream = ReceiveStream(0, 1 << 20, budget)
    for i in range(1000):
        push(stream, 1 + 2 * i, b"x")
    stream.reset(5, 3000)
    assert stream.discard() == 3000
    assert budget.used == 0
    assert not stream._held
    push(stream, 2500, b"late")
    assert not stream._held


def test_tiny_pieces_in_order_are_gathered() -> None:
    stream = ReceiveStream(0, 1 << 20)
    for i in range(10_000):
        push(stream, 2 * i, b"xy")
    assert len(stream._chunks) < 10
    push(stream, 20_000, bytes(5000))
    assert stream.read(30_000) == b"xy" * 10_000 + bytes(5000)


def test_credit_is_wanted_once_half_of_the_window_was_read() -> None:
    stream = ReceiveStream(0, 100)
    push(stream, 0, bytes(60))
    stream.read(49)
    assert not stream.wants_credit
    stream.read(1)
    assert stream.wants_credit
    push(stream, 60, b"", True)
    assert not stream.wants_credit
