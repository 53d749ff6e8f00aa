"""The token bucket that budgets are made of."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """At most *burst* takings at once and *rate* a second in the long run; full at first.

    *now*, in seconds of any clock that does not go back, is an argument of every call.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated: float | None = None

    def available(self, now: float) -> float:
        """Tokens that could be taken."""
        if self._updated is None:
            self._updated = now
        elif now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
            self._updated = now
        return self._tokens

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take *amount* tokens, if there are as many, else none."""
        if self.available(now) < amount:
            return False
        self._tokens -= amount
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting this bucket and making a new one."""
        return self.available(now) >= self._burst
