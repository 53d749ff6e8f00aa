"""One heap of deadlines and one task per node, instead of a task per session."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

__all__ = ["Scheduled", "Timers"]

_INFINITY = float("inf")


class Scheduled:
    """Something that has a deadline."""

    __slots__ = ("_entries", "deadline")

    def __init__(self) -> None:
        #: When it is called, or a little before.
        self.deadline: float = _INFINITY
        #: The times of its entries in the heap, the earliest last.
        self._entries: list[float] = []


T = TypeVar("T", bound=Scheduled)


class Timers(Generic[T]):
    """Calls ``fire(item, now)`` when an item's deadline passes.  Setting a deadline is O(log n); one that is not
    earlier than what an item has in the heap anyway, costs nothing until that passes."""

    def __init__(self, fire: Callable[[T, float], None]) -> None:
        self._fire = fire
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        self._scope = trio.CancelScope()

    def set(self, item: T, deadline: float) -> None:
        """``item`` wants to be called at ``deadline``, or a little before; it then says again when."""
        if deadline < item.deadline:
            item.deadline = deadline
            self._push(item)

    def _push(self, item: T) -> None:
        at = item.deadline
        if not item._entries or at < item._entries[-1]:
            item._entries.append(at)
            self._count += 1
            heapq.heappush(self._heap, (at, self._count, item))
            if at < self._scope.deadline:
                self._scope.deadline = at

    def forget(self, item: T) -> None:
        """``item`` is not to be called any more; its entries fall out when their time comes."""
        item.deadline = _INFINITY

    async def run(self) -> None:
        """Run for ever."""
        heap = self._heap
        while True:
            self._scope = trio.CancelScope(deadline=heap[0][0] if heap else _INFINITY)
            with self._scope:
                await trio.sleep_forever()
            now = trio.current_time()
            # only what is due now: what this sets for now again waits until others have had their turn
            due = []
            while heap and heap[0][0] <= now:
                _, _, item = heapq.heappop(heap)
                item._entries.pop()
                if item.deadline <= now:
                    item.deadline = _INFINITY
                    due.append(item)
                elif item.deadline < _INFINITY:
                    self._push(item)
            for item in due:
                self._fire(item, now)
