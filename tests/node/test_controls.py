"""The queue between the socket loop and the handlers of control messages."""

from __future__ import annotations

from typing import Any, cast

import trio
import trio.testing

from netmesh_trio.node.controls import Control, ControlQueue


class Session:
    """Stands for a session."""


def put(queue: ControlQueue, live: Session, *payloads: int) -> list[bool]:
    return [queue.put_nowait(Control(cast(Any, live), bytes((p,)), cast(Any, None))) for p in payloads]


async def take(queue: ControlQueue) -> list[int]:
    return [(await queue.__anext__()).payload[0] for _ in range(len(queue))]


async def test_sessions_take_turns() -> None:
    queue = ControlQueue(100)
    a, b, c = Session(), Session(), Session()
    put(queue, a, 1, 2, 3, 4)
    put(queue, b, 11, 12)
    put(queue, c, 21)
    assert await take(queue) == [1, 11, 21, 2, 12, 3, 4]
    assert len(queue) == 0


async def test_who_fills_it_loses_its_own() -> None:
    queue = ControlQueue(8)
    flood, honest, third = Session(), Session(), Session()
    assert put(queue, flood, *range(20)) == [True] * 8 + [False] * 12
    assert put(queue, honest, 100, 101, 102) == [False] * 3
    assert put(queue, flood, 20, 21) == [False] * 2
    assert put(queue, honest, 103, 104) == [False] * 2  # the last is one too many of its own
    assert put(queue, third, 200) == [False]
    assert len(queue) == 8
    order = await take(queue)
    assert [p for p in order if p < 100] in ([0, 1, 2], [0, 1, 2, 3])
    assert [p for p in order if 100 <= p < 200] in ([100, 101, 102, 103], [100, 101, 102])
    assert 200 in order


async def test_what_came_first_stays() -> None:
    queue = ControlQueue(8)
    put(queue, Session(), *range(20))
    assert await take(queue) == list(range(8))


async def test_waiting_cancelling_and_closing(autojump_clock: trio.testing.MockClock) -> None:
    queue = ControlQueue(8)
    live = Session()
    with trio.move_on_after(1) as scope:
        await queue.__anext__()
    assert scope.cancelled_caught
    got: list[int] = []

    async def handle() -> None:
        async with queue:
            async for control in queue:
                got.append(control.payload[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle)
        await trio.testing.wait_all_tasks_blocked()
        put(queue, live, 1, 2)
        await trio.testing.wait_all_tasks_blocked()
        put(queue, live, 3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert got == [1, 2, 3]
    assert put(queue, live, 4) == [False]
    assert len(queue) == 0


async def test_a_message_is_a_checkpoint() -> None:
    queue = ControlQueue(8)
    put(queue, Session(), 1)
    with trio.testing.assert_checkpoints():
        await queue.__anext__()
