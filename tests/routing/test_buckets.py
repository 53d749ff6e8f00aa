from __future__ import annotations

from netmesh_trio.routing import TokenBucket


def test_burst_then_rate() -> None:
    bucket = TokenBucket(rate=0.5, burst=5.0, now=100.0)
    assert [bucket.take(1.0, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(1.0, 101.9)
    assert bucket.take(1.0, 102.0)
    assert not bucket.take(1.0, 102.0)
    assert bucket.available(1000.0) == 5.0
    assert bucket.is_full(1000.0)


def test_a_refused_amount_takes_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=5.0, now=0.0)
    assert not bucket.take(6.0, 0.0)
    assert bucket.take(5.0, 0.0)


def test_an_earlier_now_gives_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0, now=10.0)
    assert bucket.take(1.0, 10.0)
    assert not bucket.take(1.0, 5.0)
    assert not bucket.take(1.0, 10.5)
