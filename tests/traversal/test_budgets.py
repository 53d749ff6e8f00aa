from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.backoff import UpgradeBackoff
from netmesh_trio.traversal.budgets import WindowBudget


@given(st.lists(st.floats(0, 8), max_size=60), st.integers(1, 5))
def test_never_more_than_the_limit_in_any_period(pauses: list[float], limit: int) -> None:
    budget: WindowBudget[str] = WindowBudget(limit, 10.0)
    now = 0.0
    taken: list[float] = []
    for pause in pauses:
        now += pause
        allowed = len([t for t in taken if now - t < 10.0]) < limit
        assert budget.take("a", now) is allowed
        if allowed:
            taken.append(now)
    assert budget.refused == len(pauses) - len(taken)


def test_keys_have_budgets_of_their_own() -> None:
    budget: WindowBudget[str] = WindowBudget(1, 10.0)
    assert budget.take("a", 0.0)
    assert not budget.take("a", 9.9)
    assert budget.take("b", 9.9)
    assert budget.take("a", 10.0)


def test_a_full_table_forgets_only_what_is_over() -> None:
    budget: WindowBudget[int] = WindowBudget(1, 10.0, max_keys=3)
    assert all(budget.take(key, float(key)) for key in range(3))
    assert not budget.take(7, 9.9)
    assert len(budget) == 3
    assert budget.take(7, 10.0)  # in the place of 0
    assert not budget.take(0, 10.5)
    assert len(budget) == 3
    assert not budget.take(1, 10.5)  # its own budget still counts


def _longest() -> float:
    return 1.0


def test_backoff_doubles_up_to_the_longest() -> None:
    backoff: UpgradeBackoff[str] = UpgradeBackoff(_longest, 30.0, 600.0)
    assert backoff.ready("a", -1e9)
    now = 0.0
    waits: list[float] = []
    for _ in range(7):
        ready = backoff.failed("a", now)
        assert not backoff.ready("a", ready - 0.001)
        assert backoff.ready("a", ready)
        waits.append(ready - now)
        now = ready
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    assert backoff.ready("b", 0.0)
    backoff.forget("a")
    assert backoff.ready("a", now)
    assert backoff.failed("a", now) == now + 30


def test_a_change_of_network_makes_all_ready() -> None:
    backoff: UpgradeBackoff[str] = UpgradeBackoff(_longest)
    backoff.failed("a", 0.0)
    backoff.failed("b", 0.0)
    backoff.network_changed()
    assert backoff.ready("a", 0.0)
    assert backoff.ready("b", 0.0)
    assert backoff.failed("a", 0.0) == 30.0


def test_backoff_is_bounded() -> None:
    backoff: UpgradeBackoff[int] = UpgradeBackoff(_longest, max_keys=2)
    for peer in (1, 2, 1, 3):
        backoff.failed(peer, 0.0)
    assert len(backoff) == 2
    assert backoff.ready(2, 0.0)
    assert backoff.ready_at(1) == 60.0


def test_chance_takes_up_to_half_of_a_delay() -> None:
    chance = random.Random(1)
    backoff: UpgradeBackoff[int] = UpgradeBackoff(chance.random, 30.0, 600.0)
    ready = sorted(backoff.failed(peer, 0.0) for peer in range(1000))
    assert 15.0 <= ready[0] < 15.5
    assert 29.5 < ready[-1] <= 30.0
    assert max(b - a for a, b in itertools.pairwise(ready)) < 0.5  # they do not come together again
    assert min(backoff.failed(peer, 0.0) for peer in range(1000)) >= 30.0  # it doubles all the same


def test_who_was_busy_is_tried_again_soon() -> None:
    backoff: UpgradeBackoff[str] = UpgradeBackoff(_longest, 30.0, 600.0)
    assert [backoff.failed("a", 0.0, busy=True) for _ in range(6)] == [2, 4, 8, 16, 30, 30]
    assert backoff.failed("a", 0.0) == 30.0
    assert backoff.failed("a", 0.0, busy=True) == 2.0
    assert backoff.failed("a", 0.0) == 60.0
