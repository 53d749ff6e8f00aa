"""Round-trip time by RFC 9002, section 5."""

from __future__ import annotations

import pytest

from netmesh_trio.paths.rtt import GRANULARITY, MAX_ACK_DELAY, RttEstimator


def test_the_first_sample_sets_everything() -> None:
    rtt = RttEstimator()
    assert rtt.pto() == pytest.approx(0.2 + 0.4 + MAX_ACK_DELAY)
    rtt.sample(0.08, 0.02)
    assert (rtt.smoothed, rtt.variation, rtt.minimum, rtt.latest) == (0.08, 0.04, 0.08, 0.08)


def test_later_samples_are_smoothed_less_the_peers_delay() -> None:
    rtt = RttEstimator()
    rtt.sample(0.08, 0.0)
    rtt.sample(0.12, 0.02)
    assert rtt.variation == pytest.approx(0.75 * 0.04 + 0.25 * 0.02)
    assert rtt.smoothed == pytest.approx(0.875 * 0.08 + 0.125 * 0.10)
    assert rtt.minimum == 0.08


def test_a_delay_never_takes_a_sample_below_the_minimum_nor_counts_beyond_the_limit() -> None:
    rtt = RttEstimator()
    rtt.sample(0.08, 0.0)
    rtt.sample(0.09, 0.02)
    assert rtt.smoothed == pytest.approx(0.875 * 0.08 + 0.125 * 0.09)
    other = RttEstimator()
    other.sample(0.08, 0.0)
    other.sample(1.0, 4000.0)
    assert other.smoothed == pytest.approx(0.875 * 0.08 + 0.125 * (1.0 - MAX_ACK_DELAY))


def test_timers_have_a_floor_and_follow_the_latest() -> None:
    rtt = RttEstimator()
    for _ in range(100):
        rtt.sample(0.0, 0.0)
    assert rtt.loss_delay() == GRANULARITY
    assert rtt.pto() >= GRANULARITY + MAX_ACK_DELAY
    rtt.sample(2.0, 0.0)
    assert rtt.loss_delay() == pytest.approx(9 / 8 * 2.0)


@pytest.mark.parametrize(("rtt", "pto"), [(0.001, 0.175), (0.1, 0.325), (3.0, 0.625)])
def test_what_is_expected_before_the_first_sample(rtt: float, pto: float) -> None:
    estimator = RttEstimator()
    estimator.expect(rtt)
    assert estimator.pto() == pytest.approx(pto)
    assert estimator.samples == 0
    estimator.sample(0.01, 0.0)
    estimator.expect(rtt)
    assert estimator.smoothed == 0.01
