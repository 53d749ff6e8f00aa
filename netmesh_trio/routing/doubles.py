"""Whether another program runs with our key, as its announcements tell."""

from __future__ import annotations

from typing import Final

from netmesh_trio.routing.announcements import Announcement

__all__ = ["CERTAIN", "KeyWatch"]

CERTAIN: Final = 600.0
"""For so many seconds after an announcement of it another program is taken to run: a lifetime of announcements."""

# Seconds that an announcement may have been under way: its age does not count them.
_UNDER_WAY = 10.0


class KeyWatch:
    """Tells announcements that another program makes with our key from those of our own earlier life.

    Those of an earlier life were made before this one began.  But the age that says so is not signed, and a node that
    slept did not count on while it did.  So one that seems to be newer is a suspicion only.  We answer it, as we do
    all of them, with a higher number; and when something comes that goes beyond that, there is a program that heard us.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._suspected: int | None = None
        self._certain_until = float("-inf")
        self.highest: int = 0
        """The highest sequence number that was heard: what we announce has to go beyond it."""
        self.announcements: int = 0
        """Those that were made since we began, and not by us."""

    def hear(self, announcement: Announcement, age: float, said: int, now: float) -> bool:
        """An announcement with a valid signature of ours came in that is not ours, and not below what we *said* last.

        Returns whether it shows that another program runs with our key.
        """
        sequence = announcement.sequence
        if sequence <= self.highest:
            return False  # a copy
        self.highest = sequence
        if now - age <= self._started + _UNDER_WAY:
            return False
        self.announcements += 1
        if announcement.is_withdrawal:
            self._suspected = None
            self._certain_until = now
            return False
        if self._suspected is None or said <= self._suspected:
            self._suspected = sequence
            return False
        self._certain_until = now + CERTAIN
        return True

    def is_certain(self, now: float) -> bool:
        """Whether another program is taken to run with our key now."""
        return now < self._certain_until
