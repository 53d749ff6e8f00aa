"""CUBIC (RFC 9438) and HyStart++ (RFC 9406), a round trip at a time."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.paths.congestion import Cubic

SEGMENT = 1200


class Sender:
    """Sends a full window, or ``limit`` bytes, each round trip and hears of all of it one round trip later."""

    def __init__(self) -> None:
        self.cubic = Cubic(SEGMENT)
        self.number = 0
        self.now = 0.0

    def round(self, rtt: float, *, lose: int = 0, limit: float = float("inf"), acks: int = 20) -> None:
        cubic = self.cubic
        first = self.number
        sent_at = self.now
        budget = min(limit, cubic.available())
        while budget >= SEGMENT:
            cubic.on_sent(SEGMENT)
            self.number += 1
            budget -= SEGMENT
        cubic.limited = limit == float("inf")
        self.now += rtt
        count = self.number - first
        if lose:
            lose = min(lose, count)
            cubic.on_lost(lose * SEGMENT, sent_at, self.now)
            count -= lose
        done = 0
        for i in range(1, acks + 1):
            upto = count * i // acks
            if upto > done:
                limited = cubic.limited
                cubic.on_acked((upto - done) * SEGMENT, sent_at, rtt, first + upto - 1, self.number, self.now)
                cubic.limited = limited
                done = upto
        assert cubic.in_flight == 0
        self.now += 1e-6  # what is sent next is sent after the cut


def test_slow_start_doubles_each_round() -> None:
    sender = Sender()
    windows = []
    for _ in range(5):
        windows.append(sender.cubic.window / SEGMENT)
        sender.round(0.05)
    assert windows == [10, 20, 40, 80, 160]


def test_a_loss_cuts_the_window_by_three_tenths_once_per_round() -> None:
    sender = Sender()
    for _ in range(3):
        sender.round(0.05)
    cubic = sender.cubic
    before = cubic.window
    sent_at = sender.now
    for _ in range(10):
        cubic.on_sent(SEGMENT)
    cubic.on_lost(SEGMENT, sent_at, sender.now + 0.05)
    cubic.on_lost(3 * SEGMENT, sent_at, sender.now + 0.06)
    assert cubic.window == cubic.ssthresh == pytest.approx(0.7 * before)
    cubic.on_acked(6 * SEGMENT, sent_at, 0.05, 9, 10, sender.now + 0.07)
    assert cubic.window == pytest.approx(0.7 * before)  # sent before the cut
    assert cubic.in_flight == 0


def test_the_window_comes_back_to_where_it_was_after_k_seconds() -> None:
    sender = Sender()
    cubic = sender.cubic
    cubic.window = 1000.0 * SEGMENT
    sender.round(0.1, lose=1)
    started = sender.now
    k = (0.3 * 1000 / 0.4) ** (1 / 3)
    while sender.now < started + k / 2:
        sender.round(0.1)
    assert 920 * SEGMENT < cubic.window < 1000 * SEGMENT  # quickly most of the way
    while sender.now < started + k:
        sender.round(0.1)
    assert cubic.window == pytest.approx(1000 * SEGMENT, rel=0.02)
    while sender.now < started + k + 3:
        sender.round(0.1)
    assert 1005 * SEGMENT < cubic.window < 1025 * SEGMENT  # 0.4 * 3^3 segments more


def test_on_short_paths_it_is_as_fast_as_reno() -> None:
    sender = Sender()
    cubic = sender.cubic
    cubic.window = 50.0 * SEGMENT
    sender.round(0.01, lose=1)
    rounds = 0
    while cubic.window < 50 * SEGMENT:
        sender.round(0.01)
        rounds += 1
    assert rounds == pytest.approx(15 / (3 * 0.3 / 1.7), abs=3)
    before = cubic.window
    for _ in range(5):
        sender.round(0.01)
    assert cubic.window - before == pytest.approx(5 * SEGMENT, rel=0.1)  # RFC 9438, section 4.3: then by one a round


def test_a_second_loss_below_the_old_peak_makes_room_for_others() -> None:
    sender = Sender()
    cubic = sender.cubic
    cubic.window = 100.0 * SEGMENT
    sender.round(0.1, lose=1)
    sender.round(0.1, lose=1)
    assert cubic._window_max == pytest.approx(0.7 * 100 * SEGMENT * 0.85)


@pytest.mark.parametrize("idle", [0.0, 60.0, 3600.0])
def test_a_pause_does_not_grow_the_window(idle: float) -> None:
    sender = Sender()
    cubic = sender.cubic
    cubic.window = 100.0 * SEGMENT
    sender.round(0.1, lose=1)
    for _ in range(10):
        sender.round(0.1)
    before = cubic.window
    sender.now += idle
    sender.round(0.1)
    after_idle = cubic.window
    assert after_idle - before < 3 * SEGMENT


def test_a_slow_program_does_not_grow_the_window() -> None:
    for slow_start in (True, False):
        sender = Sender()
        if not slow_start:
            sender.cubic.window = 100.0 * SEGMENT
            sender.round(0.1, lose=1)
        before = sender.cubic.window
        for _ in range(200):
            sender.round(0.1, limit=2 * SEGMENT)
        assert sender.cubic.window == before
        sender.round(0.1)
        assert sender.cubic.window <= 2 * before
        if not slow_start:
            assert sender.cubic.window < before + 3 * SEGMENT


def test_rising_delay_ends_slow_start_before_a_loss() -> None:
    sender = Sender()
    for _ in range(4):
        sender.round(0.05)
    assert not sender.cubic._in_css
    for _ in range(8):
        sender.round(0.07)
    cubic = sender.cubic
    assert cubic.ssthresh < float("inf")
    assert cubic.window < 160 * SEGMENT * 1.25**7


def test_a_passing_delay_does_not_end_slow_start() -> None:
    sender = Sender()
    for _ in range(4):
        sender.round(0.05)
    sender.round(0.07)
    assert sender.cubic._in_css
    sender.round(0.05)
    assert not sender.cubic._in_css
    before = sender.cubic.window
    sender.round(0.05)
    assert sender.cubic.window == pytest.approx(2 * before, rel=0.02)


def test_persistent_congestion_starts_over() -> None:
    sender = Sender()
    for _ in range(4):
        sender.round(0.05)
    sender.round(0.05, lose=10)
    sender.cubic.on_persistent_congestion()
    assert sender.cubic.window == 2 * SEGMENT
    sender.round(0.05)
    assert sender.cubic.window == 4 * SEGMENT


def test_a_larger_datagram_raises_the_smallest_window() -> None:
    cubic = Cubic(SEGMENT)
    cubic.set_segment(8952)
    assert cubic.window == 2 * 8952


@pytest.mark.parametrize("seed", range(20))
def test_the_window_never_goes_wild(seed: int) -> None:
    rng = random.Random(seed)
    sender = Sender()
    for _ in range(300):
        before = sender.cubic.window
        sender.now += rng.choice((0.0, 0.0, 5.0))
        lose = rng.choice((0, 0, 0, 1, 5))
        sender.round(rng.choice((0.001, 0.05, 0.5)), lose=lose, limit=rng.choice((float("inf"), 5 * SEGMENT)))
        assert 2 * SEGMENT <= sender.cubic.window <= 2 * before
        if sender.cubic.window > 5000 * SEGMENT:
            sender.round(0.05, lose=1)


def test_a_cut_is_undone_when_all_that_was_lost_arrives() -> None:
    cubic = Cubic(1000)
    cubic.on_sent(10_000)
    assert cubic.on_lost(2000, sent_at=0.1, now=0.2)
    assert not cubic.on_lost(1000, sent_at=0.15, now=0.21)  # the same round trip
    assert cubic.window == pytest.approx(7000)
    cubic.on_late(2000, sent_at=0.1)
    assert cubic.window == pytest.approx(7000), "one packet is still missing"
    cubic.on_late(1000, sent_at=0.15)
    assert cubic.window == pytest.approx(10_000)
    assert cubic.ssthresh == float("inf")
    # once only
    cubic.on_late(1000, sent_at=0.15)
    assert cubic.window == pytest.approx(10_000)
    assert cubic.on_lost(1000, sent_at=0.18, now=0.3), "it is as if there had been no cut"


def test_what_arrives_late_from_before_does_not_undo_a_later_cut() -> None:
    cubic = Cubic(1000)
    cubic.on_sent(20_000)
    cubic.on_lost(1000, sent_at=0.1, now=0.2)
    cubic.on_lost(3000, sent_at=0.3, now=0.4)
    cubic.on_late(1000, sent_at=0.1)
    assert cubic.window == pytest.approx(4900)
