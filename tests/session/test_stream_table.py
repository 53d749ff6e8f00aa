"""Ids, limits, windows and turns."""

from __future__ import annotations

import pytest

from netmesh_trio.session.streams import SESSION, StreamTable
from netmesh_trio.wire.control import encode_cbor
from netmesh_trio.wire.errors import DecodeError


def table(initiator: bool = True, *, streams: int = 64, window: int = 1000, session: int = 2000) -> StreamTable:
    return StreamTable(
        initiator=initiator,
        session_window=session,
        stream_window=window,
        max_streams=streams,
        peer_session_limit=session,
        peer_stream_limit=window,
        peer_max_streams=streams,
    )


def end(streams: StreamTable, stream_id: int) -> None:
    streams.sending[stream_id].fin = streams.sending[stream_id].fin_acked = True
    streams.receiving[stream_id].push(0, b"", 0, 0, True)
    assert streams.forget_if_done(stream_id)


def test_ids_count_up_by_two_from_each_side() -> None:
    a, b = table(True), table(False)
    assert [a.open(3) for _ in range(3)] == [0, 2, 4]
    assert [b.open(3) for _ in range(3)] == [1, 3, 5]
    assert b.arrived(4)
    assert b.arrived(0)
    assert not b.arrived(0)
    assert not b.arrived(1)  # ours, maybe closed
    for stream_id in (7, 128, 0xFFFF_FFFE):
        with pytest.raises(DecodeError):
            b.arrived(stream_id)


@pytest.mark.parametrize(("window", "most"), [(1000, 4 << 20), (8 << 20, 32 << 20)])
def test_what_is_kept_for_a_peer_follows_our_own_windows(window: int, most: int) -> None:
    """However large the peer's are."""
    streams = table(window=window)
    stream_id = streams.open(3)
    assert stream_id is not None
    assert streams.sending[stream_id].most == most
    assert streams.arrived(1)
    assert streams.sending[1].most == most


def test_a_closed_stream_does_not_come_back() -> None:
    b = table(False)
    assert b.arrived(0)
    end(b, 0)
    assert not b.arrived(0)
    assert not b.sending
    assert not b.receiving
    assert b.peer_open == 0
    assert b.forget_if_done(0)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 64, 1000])
@pytest.mark.parametrize("lasting", [0, 0.5, 0.9])
def test_a_peer_that_waits_is_told_of_every_stream_that_ends(limit: int, lasting: float) -> None:
    """Some streams last; however many, the others can go on for ever."""
    a, b = table(True, streams=limit), table(False, streams=limit)
    keep = int(limit * lasting)
    for _ in range(keep):
        assert b.arrived(a.open(3))
    opened = 0
    while opened < 3 * limit:
        assert a.can_open()
        stream_id = a.open(3)
        opened += 1
        b.arrived(stream_id)
        end(a, stream_id)
        end(b, stream_id)
        if b.window_dirty:
            told = list(b.window_dirty)
            b.window_dirty.clear()
            a.receive_windows(b.encode_windows(s for s in told if s != SESSION))


def test_windows_grow_with_what_is_read() -> None:
    a, b = table(True), table(False)
    sid = a.open(3)
    b.arrived(sid)
    stream = b.receiving[sid]
    b.on_grown(stream.push(0, bytes(1000), 0, 1000, False))
    b.on_consumed(len(stream.read(400)), stream)
    assert not b.window_dirty
    b.on_consumed(len(stream.read(100)), stream)
    assert b.window_dirty == {sid}
    message = b.encode_windows([sid, 2])
    assert a.receive_windows(message) == ([sid], False)
    assert a.sending[sid].limit == 1500 == stream.limit
    assert a.send_limit == 2500 == b.receive_limit
    assert sid in a.accepted
    b.on_grown(stream.push(1000, bytes(500), 0, 500, False))
    b.on_consumed(len(stream.read(999)), stream)
    assert b.window_dirty == {sid}
    b.on_consumed(len(stream.read(1)), stream)
    assert b.window_dirty == {sid, SESSION}


def test_limits_never_shrink() -> None:
    a = table()
    sid = a.open(3)
    assert a.receive_windows(encode_cbor([0, 0, [[sid, 0]]])) == ([sid], False)
    assert (a.send_limit, a.open_limit, a.sending[sid].limit) == (2000, 64, 1000)
    assert a.receive_windows(encode_cbor([3000, 65, [[sid, 1001], [400, 5]]])) == ([sid], True)
    assert (a.send_limit, a.open_limit, a.sending[sid].limit) == (3000, 65, 1001)


@pytest.mark.parametrize(
    "value",
    [1, [], [1, 2], [1, 2, 3], [-1, 2, []], [1, -2, []], [1, 2, [1]], [1, 2, [[1]]], [1, 2, [[1, "x"]]],
     [1, 2, [[1, 2, 3]]], [True, 2, []], [1, 2, [[0, -1]]], [1 << 63, 2, []], [1, 2, [[0, 1]] * 65]],
)  # fmt: skip
def test_other_shapes_are_refused(value: object) -> None:
    with pytest.raises(DecodeError):
        table().receive_windows(encode_cbor(value))


def test_the_session_limit_holds_all_streams_together() -> None:
    b = table(False)
    b.on_grown(2000)
    with pytest.raises(DecodeError):
        b.on_grown(1)


def test_turns_are_in_proportion_to_priority() -> None:
    a = table(window=1 << 30, session=1 << 30)
    sids = [a.open(p) for p in (0, 3, 7)]
    sent = dict.fromkeys(sids, 0)
    for sid in sids:
        a.sending[sid].write(bytes(200_000))
        a.enqueue(a.sending[sid])
    for _ in range(4 * (2 + 16 + 256)):
        stream = a.head()
        assert stream is not None
        stream.take(100, a.credit)
        stream.quota -= 1
        sent[stream.id] += 1
    assert sent[sids[0]] == pytest.approx(8, abs=2)
    assert sent[sids[1]] == pytest.approx(64, abs=16)
    assert sent[sids[2]] > 900


def test_who_has_nothing_to_send_leaves_the_line() -> None:
    a = table()
    one, two = (a.sending[a.open(3)] for _ in range(2))
    for stream in (one, two):
        a.enqueue(stream)
        a.enqueue(stream)
    assert not a.alone
    assert a.head() is None
    assert a.alone
    one.write(b"x")
    a.enqueue(one)
    two.write(b"x")
    a.enqueue(two)
    one.reset(1)
    assert a.head() is two
    a.enqueue(one)
    assert a.alone
