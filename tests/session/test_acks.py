"""What came in, and what is acknowledged when."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.paths.rtt import MAX_ACK_DELAY
from netmesh_trio.session.acks import AckTracker
from netmesh_trio.wire import frames


def told(acks: AckTracker, now: float) -> list[tuple[int, int]]:
    frame = acks.encode(now)
    runs, _, end = frames.read_ack(frame, 1)
    assert end == len(frame)
    return runs


@pytest.mark.parametrize("seed", range(30))
def test_a_number_is_new_once_and_told_once_received(seed: int) -> None:
    rng = random.Random(seed)
    acks = AckTracker()
    received: set[int] = set()
    for _ in range(500):
        number = max(0, len(received) + rng.randrange(-20, 20))
        if not acks.is_new(number):
            assert number in received or number < acks.floor
            continue
        assert number not in received
        acks.add(number, number + 1, 1, 0.0)
        received.add(number)
    assert acks.expected == max(received) + 1
    runs = told(acks, 0.0)
    acked = {n for first, last in runs for n in range(first, last + 1)}
    assert acked <= received
    assert max(received) in acked
    if len(runs) < frames.ACK_MAX_RANGES:
        assert acked == received


def test_runs_are_bounded_and_what_is_forgotten_counts_as_seen() -> None:
    acks = AckTracker()
    for i in range(0, 2000, 2):
        acks.add(i, i + 1, 1, 0.0)
    assert len(acks._received) <= 256
    assert not acks.is_new(1)
    assert acks.is_new(1999)
    assert acks.is_new(1997)
    assert len(told(acks, 0.0)) == frames.ACK_MAX_RANGES


def test_every_second_packet_is_acknowledged_and_one_alone_a_little_later() -> None:
    acks = AckTracker()
    assert not acks.any
    acks.add(0, 1, 1, 1.0)
    assert acks.any
    assert not acks.due(1.0)
    assert acks.deadline == 1.0 + MAX_ACK_DELAY
    assert acks.due(acks.deadline)
    acks.add(1, 2, 1, 1.01)
    assert acks.due(1.01)
    assert told(acks, 1.02) == [(0, 1)]
    assert not acks.due(100.0)
    assert acks.deadline == float("inf")


def test_what_asks_for_nothing_is_not_acknowledged_by_itself() -> None:
    acks = AckTracker()
    acks.add(0, 5, 0, 1.0)
    acks.add(7, 9, 0, 1.0)
    assert not acks.due(100.0)
    assert acks.deadline == float("inf")


@pytest.mark.parametrize("first", [7, 3])
def test_a_gap_or_a_late_packet_is_acknowledged_at_once(first: int) -> None:
    acks = AckTracker()
    acks.add(0, 3, 0, 1.0)
    acks.add(4, 6, 0, 1.0)
    acks.add(first, first + 1, 1, 1.0)
    assert acks.due(1.0)


def test_the_delay_is_that_of_the_newest_packet() -> None:
    acks = AckTracker()
    acks.add(5, 6, 1, 1.0)
    acks.add(3, 4, 1, 1.5)
    _, delay, _ = frames.read_ack(acks.encode(1.75), 1)
    assert delay == pytest.approx(0.75)


def test_old_holes_do_not_lengthen_acknowledgements_for_ever() -> None:
    acks = AckTracker()
    number = 0
    now = 0.0
    longest_after = 0
    for i in range(2000):
        acks.add(number, number + 5, 5, now)
        number += 6 if i < 30 else 5
        now += 0.01
        runs = told(acks, now)
        if now < 3.0:
            assert len(runs) == min(i + 1, 31)
        if now > 10.0:
            longest_after = max(longest_after, len(runs))
    assert longest_after == 1
    assert not acks.is_new(4)
    assert acks.is_new(5)
