"""Path MTU discovery by probes of the packet layer (DPLPMTUD, RFC 8899)."""

from __future__ import annotations

from ..wire.packets import BASE_DATAGRAM_SIZE

__all__ = ["MtuSearch"]

# UDP payloads worth trying: IPv6 minimum link, common tunnels, Ethernet with IPv6 and IPv4 headers, jumbo frames,
# loopback.  A table converges in fewer round trips than a binary search, and its steps are what networks are made of.
_STEPS = (1232, 1350, 1400, 1452, 1472, 4000, 8952, 16336)
_MAX_PROBES = 3
# Losses of large packets, none of them acknowledged in between, that make a black hole while small ones get through.
_MAX_LARGE_LOST = 6
_RAISE_INTERVAL = 600.0


class MtuSearch:
    """Finds the largest datagram (UDP payload, bytes) that a path carries, from :data:`BASE_DATAGRAM_SIZE` up."""

    __slots__ = ("_ceiling", "_failures", "_retry_at", "current", "large_lost", "limit", "outstanding", "quiet_until")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.current: int = min(BASE_DATAGRAM_SIZE, limit)
        #: Size of the probe in flight, or 0.
        self.outstanding: int = 0
        self._ceiling = limit + 1
        self._failures = 0
        self._retry_at = float("inf")
        #: Before this time there is nothing to probe.
        self.quiet_until: float = float("-inf")
        #: Times that packets above the base size were lost since one of them was last acknowledged.
        self.large_lost: int = 0

    def next_probe(self, now: float) -> int:
        """The size to probe now, or 0.  Sizes go up; a step that fails three times is the ceiling for ten minutes."""
        if self.outstanding:
            return 0
        if now >= self._retry_at:
            self._ceiling = self.limit + 1
            self._retry_at = float("inf")
        if self.limit > self.current and (self.limit < self._ceiling):
            steps = (*(s for s in _STEPS if s < self.limit), self.limit)
        else:
            steps = _STEPS
        for size in steps:
            if self.current < size < self._ceiling:
                return size
        self.quiet_until = self._retry_at
        return 0

    def on_probe_sent(self, size: int) -> None:
        """A probe of ``size`` bytes went out."""
        self.outstanding = size
        self.quiet_until = float("inf")

    def on_probe_acked(self, size: int) -> bool:
        """A probe came through; True when the path's size grew."""
        self.outstanding = 0
        self.quiet_until = float("-inf")
        self._failures = 0
        if size > self.current:
            self.current = size
            return True
        return False

    def on_probe_lost(self, size: int, now: float) -> None:
        """A probe was lost."""
        self.outstanding = 0
        self.quiet_until = float("-inf")
        self._failures += 1
        if self._failures >= _MAX_PROBES:
            self.too_large(size, now)

    def too_large(self, size: int, now: float) -> None:
        """The path does not carry ``size`` (the kernel said so, or probes were lost)."""
        self.outstanding = 0
        self.quiet_until = float("-inf")
        self._failures = self.large_lost = 0
        self._ceiling = min(self._ceiling, size)
        self._retry_at = now + _RAISE_INTERVAL
        if self.current >= size:
            self.current = min(BASE_DATAGRAM_SIZE, self.limit)

    def on_large_lost(self, now: float) -> bool:
        """Packets above the base size were lost, though others came through.  True when the size was reduced."""
        self.large_lost += 1
        return self.large_lost >= _MAX_LARGE_LOST and self.on_black_hole(now)

    def on_black_hole(self, now: float) -> bool:
        """Nothing comes through any more: maybe because of the size.  True when the size was reduced."""
        base = min(BASE_DATAGRAM_SIZE, self.limit)
        if self.current <= base:
            return False
        self.too_large(self.current, now)
        return True
