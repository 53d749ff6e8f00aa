"""How often somebody may have us do something: so many times in so many seconds, counted exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["WindowBudget"]

K = TypeVar("K", bound=Hashable)


class WindowBudget(Generic[K]):
    """At most ``limit`` takings by one key within any ``period`` seconds.

    Each taking costs a look-up.  A token bucket would allow twice the limit within a period, after a pause.  The
    table holds at most ``max_keys`` keys; while it is full of keys whose period is not over, new ones are refused:
    making identities buys nobody a larger budget.
    """

    __slots__ = ("_limit", "_max_keys", "_period", "_taken", "refused")

    def __init__(self, limit: int, period: float, max_keys: int = 4096) -> None:
        self._limit = limit
        self._period = period
        self._max_keys = max_keys
        # ordered by the last taking, so that the first is the first to be forgotten
        self._taken: dict[K, deque[float]] = {}
        #: How often a taking was refused.
        self.refused: int = 0

    def take(self, key: K, now: float) -> bool:
        """Take once, if the budget of the key allows it."""
        times = self._taken.get(key)
        if times is None:
            if len(self._taken) >= self._max_keys and not self._forget_one(now):
                self.refused += 1
                return False
            times = deque(maxlen=self._limit)
        elif len(times) == self._limit and now - times[0] < self._period:
            self.refused += 1
            return False
        else:
            del self._taken[key]
        times.append(now)
        self._taken[key] = times
        return True

    def _forget_one(self, now: float) -> bool:
        key = next(iter(self._taken))
        if now - self._taken[key][-1] < self._period:
            return False
        del self._taken[key]
        return True

    def __len__(self) -> int:
        return len(self._taken)
