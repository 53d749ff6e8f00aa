"""The router's own clock: does it tell that the router has forgotten its mappings?"""

from __future__ import annotations

__all__ = ["EpochClock"]


class EpochClock:
    """Compares what a router says with how much time went by here.

    A router counts the seconds since it lost its mappings last.  By RFC 6887, 8.5, its clock may run a sixteenth slower
    or faster than ours; what is said may be two seconds older or newer.  By RFC 6886, 3.6, for NAT-PMP, only one that
    is behind counts, by more than an eighth (``strict`` off); likewise with UPnP, whose clock is the connection's.
    """

    __slots__ = ("_at", "_epoch", "_strict")

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._epoch: float | None = None
        self._at = 0.0

    def observe(self, epoch: float | None, now: float) -> bool:
        """The router said this, at ``now``; returns whether it has lost its mappings since it spoke last.

        None is a router that does not say.
        """
        if epoch is None:
            return False
        before, at = self._epoch, self._at
        self._epoch, self._at = epoch, now
        if before is None:
            return False
        theirs, ours = epoch - before, now - at
        if not self._strict:
            return theirs < ours * 7 / 8 - 2
        return theirs < -1 or ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16
