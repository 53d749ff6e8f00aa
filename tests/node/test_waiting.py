"""A place where one task waits."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from netmesh_trio.node.waiting import WaitingPlace


async def test_a_wake_lets_the_waiting_task_go_on_once() -> None:
    place = WaitingPlace()
    place.wake()  # nobody: it is not kept for later
    went_on: list[int] = []

    async def wait_twice() -> None:
        for number in range(2):
            await place.wait()
            went_on.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_twice)
        await wait_all_tasks_blocked()
        place.wake()
        place.wake()  # it has not run yet
        await wait_all_tasks_blocked()
        assert went_on == [0]
        place.wake()
    assert went_on == [0, 1]


async def test_a_cancelled_task_leaves_the_place() -> None:
    place = WaitingPlace()
    with trio.move_on_after(0.01) as scope:
        await place.wait()
    assert scope.cancelled_caught
    place.wake()
    await trio.lowlevel.checkpoint()
