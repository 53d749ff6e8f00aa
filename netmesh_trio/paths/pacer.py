"""Pacing (RFC 9002, section 7.7): a token bucket filled at a little more than the window per round trip."""

from __future__ import annotations

__all__ = ["Pacer"]

#: An event loop wakes to the millisecond, so a burst covers this many seconds of the path's rate at least.
_BURST_TIME = 0.002
_BURST_SEGMENTS = 10


class Pacer:
    """Says how many bytes may go out now, and when the next may."""

    __slots__ = ("_capacity", "_rate", "_tokens", "_updated")

    def __init__(self, segment: int) -> None:
        self._capacity = float(_BURST_SEGMENTS * segment)
        self._tokens = self._capacity
        self._rate = 0.0
        self._updated = 0.0

    def allowance(self, window: float, rtt: float, segment: int, slow_start: bool, now: float) -> float:
        """Bytes that may be sent at ``now`` when ``window`` bytes may be in flight for ``rtt`` seconds."""
        # asked for each packet: comparisons take a third of what min() and max() do
        rate = self._rate = (2.0 if slow_start else 1.25) * window / (rtt if rtt > 1e-6 else 1e-6)
        capacity = rate * _BURST_TIME
        if capacity < _BURST_SEGMENTS * segment:
            capacity = float(_BURST_SEGMENTS * segment)
        self._capacity = capacity
        tokens = self._tokens + (now - self._updated) * rate
        self._tokens = tokens if tokens < capacity else capacity
        self._updated = now
        return self._tokens

    def on_sent(self, size: int) -> None:
        """``size`` bytes went out."""
        self._tokens -= size

    def next_time(self, segment: int) -> float:
        """When a burst worth waking for is allowed: a packet on a slow path, else what 2 ms bring, or half a burst."""
        worth = max(segment, min(self._capacity / 2, self._rate * _BURST_TIME))
        # one byte more, so that rounding does not leave the allowance just below a packet
        wanted = worth + 1.0 - self._tokens
        return self._updated + max(wanted, 0.0) / self._rate if self._rate else self._updated
