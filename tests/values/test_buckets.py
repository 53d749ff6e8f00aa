from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.buckets import TokenBucket


def test_burst_then_rate() -> None:
    bucket = TokenBucket(rate=0.5, burst=5.0)
    assert [bucket.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(101.9)
    assert bucket.take(102.0)
    assert not bucket.take(102.0)
    assert not bucket.is_full(103.0)
    assert bucket.available(1000.0) == 5.0
    assert bucket.is_full(1000.0)


def test_many_at_once_or_none() -> None:
    bucket = TokenBucket(rate=1.0, burst=5.0)
    assert bucket.take(0.0, 3.0)
    assert not bucket.take(0.0, 2.5)
    assert bucket.available(0.0) == 2.0


def test_it_is_full_at_first_and_an_empty_one_stays_so() -> None:
    assert TokenBucket(2.0, 3.0).is_full(1e9)
    assert not TokenBucket(0.0, 0.0).take(1e9)


def test_an_earlier_now_gives_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.5)


@given(
    st.floats(0.1, 50),
    st.integers(1, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=80),
)
def test_it_never_gives_more_than_burst_plus_rate(rate: float, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    now = taken = 0.0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
    assert taken <= burst + rate * (now - gaps[0]) + 1e-6
