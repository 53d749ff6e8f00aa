"""When things happen on the virtual internet: one heap, and one task that empties it.

A packet under way costs one heap entry for each link with a delay, whatever the number of hosts,
and no task of its own.  Entries of one instant are ordered by the link that they are on, so that
the outcome does not depend on the order in which trio happens to run the senders.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

import trio

from netmesh_trio.testing.packets import Train

__all__ = ["Schedule"]

_BATCH: Final = 512
"""Entries handled before other tasks get their turn, should the world be slower than its clock."""


class Schedule:
    """The heap, and the time of what happens now."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Callable[[Train], None], Train]] = []
        self._sequence = 0
        self._orders = 0
        self._present: float | None = None
        self._nap: trio.CancelScope | None = None
        self._closed = False

    def new_order(self) -> int:
        """A rank among entries of the same instant, in the order of creation."""
        self._orders += 1
        return self._orders

    @property
    def pending(self) -> int:
        """Entries not due yet."""
        return len(self._heap)

    def now(self) -> float:
        """Seconds on trio's clock; while a delivery is handled, exactly when it was due.

        So delays add up without the error of a real clock's late wake-ups.
        """
        return trio.current_time() if self._present is None else self._present

    def push(self, when: float, order: int, action: Callable[[Train], None], train: Train) -> None:
        """Call ``action(train)`` at ``when``."""
        if self._closed:
            return
        self._sequence += 1
        heapq.heappush(self._heap, (when, order, self._sequence, action, train))
        nap = self._nap
        if nap is not None and when < nap.deadline:
            nap.deadline = when

    async def run(self) -> None:
        """Deliver until cancelled."""
        heap = self._heap
        while True:
            with trio.move_on_at(heap[0][0] if heap else math.inf) as self._nap:
                await trio.sleep_forever()
            self._nap = None
            self._handle_due(trio.current_time())

    def _handle_due(self, now: float) -> None:
        heap = self._heap
        try:
            for _ in range(_BATCH):
                if not heap or heap[0][0] > now:
                    return
                when, _order, _sequence, action, train = heapq.heappop(heap)
                self._present = when
                action(train)
        finally:
            self._present = None

    def close(self) -> None:
        """Forget what is under way and take nothing more."""
        self._closed = True
        self._heap.clear()
