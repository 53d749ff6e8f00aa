"""A token bucket whose rate is the window per round trip."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.paths.pacer import Pacer


@pytest.mark.parametrize("window", [2400.0, 14000.0, 1e6, 1e8])
@pytest.mark.parametrize("rtt", [1e-5, 0.001, 0.04, 3.0])
@pytest.mark.parametrize("start", [0.0, 1e7])
def test_waking_when_told_keeps_the_rate_and_always_gets_on(window: float, rtt: float, start: float) -> None:
    segment = 1200
    pacer = Pacer(segment)
    now = start
    sent = 0
    wakes = 0
    rate = 1.25 * window / rtt
    burst = max(10 * segment, rate * 0.002)
    for _ in range(2000):
        allowed = pacer.allowance(window, rtt, segment, False, now)
        if allowed >= segment:
            pacer.on_sent(segment)
            sent += segment
            continue
        wakes += 1
        at = pacer.next_time(segment)
        assert at > now
        # never longer than what a few packets take at this rate, or an event loop's resolution
        assert at - now <= max(2 * segment / rate, 0.0025) + 1e-6
        now = at
        assert pacer.allowance(window, rtt, segment, False, now) >= segment
    assert wakes or burst > 1999 * segment
    assert sent <= burst + rate * (now - start) + segment
    assert sent + burst >= rate * (now - start) * 0.99


def test_a_pause_saves_up_one_burst_and_no_more() -> None:
    pacer = Pacer(1000)
    assert pacer.allowance(10_000, 1.0, 1000, False, 0.0) == 10_000
    pacer.on_sent(10_000)
    assert pacer.allowance(10_000, 1.0, 1000, False, 0.4) == pytest.approx(5000)
    assert pacer.allowance(10_000, 1.0, 1000, False, 500.0) == 10_000


def test_slow_start_is_paced_at_twice_the_window() -> None:
    pacer = Pacer(1000)
    pacer.on_sent(10_000)
    assert pacer.allowance(10_000, 1.0, 1000, True, 0.1) == pytest.approx(2000)


def test_before_the_first_allowance_there_is_nothing_to_wait_for() -> None:
    assert Pacer(1000).next_time(1000) == 0.0


def test_any_windows_and_times() -> None:
    rng = random.Random(1)
    pacer = Pacer(1200)
    now = 0.0
    for _ in range(5000):
        now += rng.choice((0.0, 1e-9, 0.001, 1.0))
        window, rtt = 10 ** rng.uniform(3.3, 9), 10 ** rng.uniform(-7, 1)
        allowed = pacer.allowance(window, rtt, rng.choice((1200, 8952)), rng.random() < 0.5, now)
        if allowed > 0:
            pacer.on_sent(int(allowed))
        assert pacer.next_time(1200) >= now
