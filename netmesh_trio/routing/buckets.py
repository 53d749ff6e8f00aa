"""The token bucket that all budgets of this floor are made of."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """*burst* tokens to begin with, refilled at *rate* tokens per second up to *burst*.

    *now*, in seconds of any clock that does not go back, is an argument of every call.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def available(self, now: float) -> float:
        """Tokens that could be taken at *now*."""
        if now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
            self._updated = now
        return self._tokens

    def take(self, amount: float, now: float) -> bool:
        """Take *amount* tokens if they are there; otherwise take none and return False."""
        if self.available(now) < amount:
            return False
        self._tokens -= amount
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting this bucket and making a new one."""
        return self.available(now) >= self._burst
