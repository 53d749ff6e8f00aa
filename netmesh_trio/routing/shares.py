"""Who holds how many of the places of a table, so that whoever holds most makes room when it is full."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

__all__ = ["Places", "Shares"]

K = TypeVar("K", bound=Hashable)
P = TypeVar("P", bound=Hashable)

_LOOKED_AT = 32
"""Places of one holder among which the idlest is sought."""


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


class Places(Generic[K, P]):
    """The places of a table, each with its holder.  When the table is full, one of whoever holds most is given up for
    somebody who holds fewer.  Every step takes constant time, however many places there are."""

    __slots__ = ("_places", "_shares")

    def __init__(self) -> None:
        self._shares: Shares[K] = Shares()
        # by holder; those first that were not looked at for longest
        self._places: dict[K, dict[P, None]] = {}

    @property
    def holders(self) -> int:
        """Holders of at least one place."""
        return len(self._shares)

    def held(self, holder: K) -> int:
        """Places of *holder*."""
        return self._shares.held(holder)

    def add(self, holder: K, place: P) -> None:
        """*holder* takes a place."""
        self._shares.add(holder)
        self._places.setdefault(holder, {})[place] = None

    def remove(self, holder: K, place: P) -> None:
        """*holder* gives it back; :class:`KeyError` if it is not *holder*'s."""
        places = self._places[holder]
        del places[place]
        if not places:
            del self._places[holder]
        self._shares.remove(holder)

    def may_displace(self, holder: K) -> bool:
        """Whether a place of whoever has most is given up for *holder*: only if that one still has as many afterwards,
        else the two would take it from each other for ever."""
        return self._shares.held(holder) + 1 < self._shares.most

    def idlest(self, last_used: Callable[[P], Any]) -> P:
        """The place of whoever has most that comes first by *last_used*, as far as one looks at a few of them in turn.
        :class:`KeyError` if nobody has any."""
        places = self._places[self._shares.greatest()]
        some = list(itertools.islice(places, _LOOKED_AT))
        for place in some:
            places[place] = places.pop(place)  # at the end
        return min(some, key=last_used)
