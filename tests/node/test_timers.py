"""Deadlines of many items, one task."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from netmesh_trio.node.timers import Scheduled, Timers


class Item(Scheduled):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[float] = []


async def test_an_item_is_called_at_its_earliest_deadline_and_only_once(autojump_clock: trio.testing.MockClock) -> None:
    timers: Timers[Item] = Timers(lambda item, now: item.calls.append(now))
    item, other = Item(), Item()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.set(item, start + 5)
        timers.set(item, start + 2)
        timers.set(item, start + 9)
        timers.set(other, start + 3)
        timers.set(other, float("inf"))
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert item.calls == [pytest.approx(start + 2)]
    assert other.calls == [pytest.approx(start + 3)]


async def test_what_is_forgotten_is_not_called(autojump_clock: trio.testing.MockClock) -> None:
    timers: Timers[Item] = Timers(lambda item, now: item.calls.append(now))
    item = Item()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.set(item, trio.current_time() + 5)
        timers.forget(item)
        await trio.sleep(10)
        assert not item.calls
        timers.set(item, trio.current_time() + 1)
        await trio.sleep(2)
        assert len(item.calls) == 1
        nursery.cancel_scope.cancel()


async def test_setting_for_now_while_called_lets_others_have_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    order: list[Item] = []

    def fire(item: Item, now: float) -> None:
        order.append(item)
        if len(order) < 6:
            timers.set(item, now)

    timers: Timers[Item] = Timers(fire)
    one, two = Item(), Item()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.set(one, trio.current_time())
        timers.set(two, trio.current_time())
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert order[:6] == [one, two] * 3


@pytest.mark.parametrize("seed", range(5))
async def test_against_a_list_of_deadlines(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    """As sessions use it: called, an item says anew when; in between it asks for earlier times, or later ones."""
    rng = random.Random(seed)
    items = [Item() for _ in range(10)]
    wanted = dict.fromkeys(items, float("inf"))
    late = 0.0

    def fire(item: Item, now: float) -> None:
        nonlocal late
        assert wanted[item] <= now
        late = max(late, now - wanted[item])
        item.calls.append(now)
        wanted[item] = now + rng.choice((0.001, 0.025, 25.0, float("inf")))
        timers.set(item, wanted[item])

    timers: Timers[Item] = Timers(fire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        for _ in range(500):
            await trio.sleep(rng.choice((0.0001, 0.01, 1.0)))
            item = rng.choice(items)
            deadline = trio.current_time() + rng.choice((0.0, 0.005, 3.0, 30.0))
            timers.set(item, deadline)
            wanted[item] = min(wanted[item], deadline)
            if rng.random() < 0.05:
                timers.forget(item)
                wanted[item] = float("inf")
        nursery.cancel_scope.cancel()
    assert late < 1e-3
    assert sum(len(i.calls) for i in items) > 100


async def test_the_heap_stays_small(autojump_clock: trio.testing.MockClock) -> None:
    """A busy session: a keep-alive far away again and again, and something near in between."""
    timers: Timers[Item] = Timers(lambda item, now: timers.set(item, now + 25))
    items = [Item() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        for _ in range(1000):
            for item in items:
                timers.set(item, trio.current_time() + 0.01)
            await trio.sleep(0.02)
        assert len(timers._heap) <= 4 * len(items)
        nursery.cancel_scope.cancel()
