"""Who holds how many of the places of a table, so that whoever holds most makes room when it is full."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Shares"]

K = TypeVar("K", bound=Hashable)


class Shares(Generic[K]):
    """Counts by holder, and the greatest of them.  Every step takes constant time, however many holders there are."""

    __slots__ = ("_by_count", "_held", "most")

    def __init__(self) -> None:
        self._held: dict[K, int] = {}
        self._by_count: dict[int, dict[K, None]] = {}
        #: Places of whoever holds most.
        self.most: int = 0

    def __len__(self) -> int:
        """Holders of at least one place."""
        return len(self._held)

    def held(self, holder: K) -> int:
        """Places of *holder*."""
        return self._held.get(holder, 0)

    def greatest(self) -> K:
        """Whoever holds most, of several the one that has done so for the longest time.  :class:`KeyError` if nobody
        holds any."""
        return next(iter(self._by_count[self.most]))

    def add(self, holder: K) -> None:
        """*holder* takes a place."""
        self._move(holder, self._held.get(holder, 0), 1)

    def remove(self, holder: K) -> None:
        """*holder* gives one back; :class:`KeyError` if it has none."""
        self._move(holder, self._held[holder], -1)

    def _move(self, holder: K, count: int, step: int) -> None:
        if count:
            same = self._by_count[count]
            del same[holder]
            if not same:
                del self._by_count[count]
        now = count + step
        if now:
            self._held[holder] = now
            self._by_count.setdefault(now, {})[holder] = None
        else:
            del self._held[holder]
        if now > self.most or self.most not in self._by_count:
            self.most = now  # they change by one, so the next lower count is that of this holder
