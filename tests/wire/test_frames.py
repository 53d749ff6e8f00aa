"""Frames: bytes as documented, round trips, and any bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.wire import frames
from netmesh_trio.wire.errors import DecodeError

U64 = (1 << 64) - 1


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (frames.encode_ack([(5, 9)], 0.001), "02 0000000000000009 000003e8 00000004 00"),
        (frames.encode_ack([(9, 9), (3, 5)], 0.0), "02 0000000000000009 00000000 00000000 01 00000002 00000002"),
        (frames.encode_reset_stream(1, 2, 3), "05 00000001 00000002 0000000000000003"),
        (frames.encode_stop_sending(1, 2), "06 00000001 00000002"),
        (frames.encode_close(1, "no"), "07 0001 02 6e6f"),
        (frames.encode_datagram(b"s", b"ab"), "0c 0004 01 73 6162"),
        (frames.encode_control(0x0B00, b"x"), "10 0b00 0001 78"),
        (frames.pack_stream_header(frames.STREAM, 4, 7), "08 00000004 0000000000000007"),
        (frames.pack_stream_len_header(frames.STREAM_LEN_FIN, 4, 7, 2), "0b 00000004 0000000000000007 0002"),
    ],
)
def test_layout(frame: bytes, expected: str) -> None:
    assert frame.hex() == expected.replace(" ", "")


@st.composite
def ack_runs(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Disjoint runs, newest first."""
    top = draw(st.integers(0, U64))
    runs = []
    for _ in range(draw(st.integers(1, 40))):
        low = max(0, top - draw(st.integers(0, 1000)))
        runs.append((low, top))
        top = low - 2 - draw(st.integers(0, 1000))
        if top < 0:
            break
    return runs


@given(ack_runs(), st.floats(0, 4000))
def test_acknowledgements_round_trip(runs: list[tuple[int, int]], delay: float) -> None:
    frame = frames.encode_ack(runs, delay)
    read, read_delay, end = frames.read_ack(frame, 1)
    assert read == runs[: frames.ACK_MAX_RANGES]
    assert read_delay == pytest.approx(delay, abs=1e-6)
    assert end == len(frame) <= 10 + 8 * 32


def test_what_an_acknowledgement_cannot_say_is_left_out() -> None:
    far = 1 << 40
    assert frames.read_ack(frames.encode_ack([(far, far), (0, 1)], 0.0), 1)[0] == [(far, far)]
    assert frames.read_ack(frames.encode_ack([(0, far)], 1e9), 1) == ([(far - 0xFFFF_FFFF, far)], 0xFFFF_FFFF / 1e6, 18)
    assert frames.read_ack(frames.encode_ack([(far + 3, far + 3), (0, far)], 0.0), 1)[0] == [(far + 3, far + 3)]


@given(st.binary(max_size=64) | ack_runs().map(lambda r: frames.encode_ack(r, 0.0)), st.integers(0, 8))
def test_any_acknowledgement(data: bytes, at: int) -> None:
    try:
        runs, delay, end = frames.read_ack(data, at)
    except DecodeError:
        return
    assert at < end <= len(data)
    assert delay >= 0
    assert len(runs) <= frames.ACK_MAX_RANGES
    below = U64 + 2
    for low, high in runs:
        assert 0 <= low <= high < below - 1
        below = low


@given(st.integers(0, 0xFFFF), st.text(max_size=300))
def test_close_round_trips_and_is_cut_between_characters(code: int, reason: str) -> None:
    frame = frames.encode_close(code, reason.encode(errors="ignore").decode())
    read_code, read_reason = frames.read_close(frame, 1)
    assert read_code == code
    assert reason.encode(errors="ignore").decode().startswith(read_reason)
    assert len(frame) <= 204


@given(st.binary(max_size=300), st.integers(0, 5))
def test_any_close_and_datagram(data: bytes, at: int) -> None:
    with contextlib.suppress(DecodeError):
        frames.read_close(data, at)
    try:
        service, payload, end = frames.read_datagram(data, at)
    except DecodeError:
        return
    assert service
    assert end <= len(data)
    assert len(service) + len(payload) + 3 == end - at


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=1400), st.binary(max_size=9))
def test_datagrams_round_trip(service: bytes, payload: bytes, rest: bytes) -> None:
    frame = frames.encode_datagram(service, payload)
    assert frames.read_datagram(frame + rest, 1) == (service, payload, len(frame))


def test_a_control_message_that_is_too_long_is_the_callers_mistake() -> None:
    frames.encode_control(1, bytes(frames.CONTROL_MAX_PAYLOAD))
    with pytest.raises(ValueError, match="1101"):
        frames.encode_control(1, bytes(frames.CONTROL_MAX_PAYLOAD + 1))
