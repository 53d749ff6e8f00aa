"""Path MTU discovery against links of every size."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.paths.mtu import MtuSearch


def probe_all(search: MtuSearch, carries: int, now: float = 0.0) -> list[int]:
    """Probe until there is nothing left to; the sizes."""
    sizes = []
    while size := search.next_probe(now):
        assert search.current < size <= search.limit
        sizes.append(size)
        search.on_probe_sent(size)
        assert search.next_probe(now) == 0  # one at a time
        if size <= carries:
            search.on_probe_acked(size)
        else:
            search.on_probe_lost(size, now)
        assert len(sizes) < 60
    return sizes


@pytest.mark.parametrize("limit", [1200, 1201, 1232, 1400, 1472, 8952, 16336])
@pytest.mark.parametrize("carries", [1200, 1240, 1399, 1400, 1472, 1500, 8952, 65507])
def test_the_largest_step_that_fits_is_found(limit: int, carries: int) -> None:
    search = MtuSearch(limit)
    probe_all(search, carries)
    steps = [s for s in (1200, 1232, 1350, 1400, 1452, 1472, 4000, 8952, 16336, limit) if s <= min(limit, carries)]
    assert search.current == max(steps)


def test_a_step_that_fails_is_left_alone_for_ten_minutes() -> None:
    search = MtuSearch(8952)
    assert probe_all(search, 1472) == [1232, 1350, 1400, 1452, 1472, 4000, 4000, 4000]
    assert search.next_probe(599.0) == 0
    assert search.quiet_until == 600.0
    assert probe_all(search, 8952, 600.0) == [4000, 8952]
    assert search.current == search.limit == 8952


def test_a_lost_probe_is_not_yet_a_limit() -> None:
    rng = random.Random(1)
    found = 0
    for _ in range(200):
        search = MtuSearch(1472)
        while size := search.next_probe(0.0):
            search.on_probe_sent(size)
            if rng.random() < 0.05:
                search.on_probe_lost(size, 0.0)
            else:
                search.on_probe_acked(size)
        found += search.current == 1472
    assert found >= 195


def test_the_kernel_may_say_what_is_too_large() -> None:
    search = MtuSearch(8952)
    size = search.next_probe(0.0)
    search.on_probe_sent(size)
    search.too_large(size, 0.0)
    assert search.current == 1200
    assert search.next_probe(0.0) == 0
    search.too_large(1200, 1.0)
    assert search.current == 1200


def test_a_black_hole_leads_back_to_the_base_and_up_again_below_it() -> None:
    search = MtuSearch(1472)
    probe_all(search, 1472)
    assert search.on_black_hole(10.0)
    assert search.current == 1200
    assert not search.on_black_hole(10.0)
    probe_all(search, 1300, 10.0)
    assert search.current == 1232


def test_large_packets_lost_again_and_again_are_a_black_hole_too() -> None:
    search = MtuSearch(1400)
    probe_all(search, 1400)
    for _ in range(5):
        assert not search.on_large_lost(1.0)
    search.large_lost = 0  # one came through
    assert [search.on_large_lost(2.0) for _ in range(6)] == [False] * 5 + [True]
    assert search.current == 1200
    assert search.large_lost == 0


def test_a_limit_below_the_base_is_kept() -> None:
    search = MtuSearch(1000)
    assert search.current == 1000
    assert search.next_probe(0.0) == 0
    assert not search.on_black_hole(0.0)
