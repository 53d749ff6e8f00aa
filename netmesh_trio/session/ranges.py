"""A set of integers kept as runs: packet numbers received, stream bytes received or acknowledged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

__all__ = ["RangeSet"]


class RangeSet:
    """Disjoint half-open runs ``[start, stop)``, ascending.  Adding at the end is O(1), elsewhere O(log n) to find.

    The caller bounds the number of runs (``len``), for example with :meth:`forget_lowest`.
    """

    __slots__ = ("starts", "stops")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.stops: list[int] = []

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> zip[tuple[int, int]]:
        return zip(self.starts, self.stops, strict=True)

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self.starts, value) - 1
        return at >= 0 and value < self.stops[at]

    def add(self, start: int, stop: int) -> int:
        """Add ``[start, stop)``; return how many of its members are new."""
        starts, stops = self.starts, self.stops
        if stops and start == stops[-1]:
            stops[-1] = stop
            return stop - start
        if not stops or start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return stop - start
        # the runs [low, high) touch or overlap the new one
        low = bisect_left(stops, start)
        high = bisect_right(starts, stop)
        if low == high:
            starts.insert(low, start)
            stops.insert(low, stop)
            return stop - start
        had = sum(max(0, min(stop, stops[i]) - max(start, starts[i])) for i in range(low, high))
        starts[low:high] = [min(start, starts[low])]
        stops[low:high] = [max(stop, stops[high - 1])]
        return stop - start - had

    def forget_lowest(self, count: int) -> int:
        """Forget the ``count`` lowest runs; return where the last of them stopped."""
        floor = self.stops[count - 1]
        del self.starts[:count]
        del self.stops[:count]
        return floor

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The runs of ``[start, stop)`` that are not in the set."""
        gaps = []
        at = bisect_right(self.stops, start)
        while start < stop:
            if at == len(self.starts) or self.starts[at] >= stop:
                gaps.append((start, stop))
                break
            if start < self.starts[at]:
                gaps.append((start, self.starts[at]))
            start = max(start, self.stops[at])
            at += 1
        return gaps
