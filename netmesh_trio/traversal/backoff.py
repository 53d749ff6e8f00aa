"""When to try again to move a relayed session to a direct path."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

__all__ = ["UpgradeBackoff"]

K = TypeVar("K", bound=Hashable)


#: Seconds after which a peer that was busy is tried again for the first time.
_BUSY = 2.0


@attrs.define
class _Entry:
    """The last delays, before chance shortens them, and when the present one is over."""

    failure: float = 0.0
    busy: float = 0.0
    until: float = 0.0


class UpgradeBackoff(Generic[K]):
    """For each peer, the earliest time of the next attempt: ``first`` seconds after the first failure, twice as long
    after each further one, at most ``longest``.

    A peer that was only busy is tried again after 2 seconds, then twice as long each time up to ``first``.  Chance
    takes up to half of each delay, or all that failed together would come again together: ``random`` gives numbers
    from 0 to 1.  A change of network on either side makes all of it obsolete.  Beyond ``max_keys`` peers, the one
    that failed longest ago is forgotten and may be tried at once.
    """

    __slots__ = ("_entries", "_first", "_longest", "_max_keys", "_random")

    def __init__(
        self, random: Callable[[], float], first: float = 30.0, longest: float = 600.0, *, max_keys: int = 4096
    ) -> None:
        self._random = random
        self._first = first
        self._longest = longest
        self._max_keys = max_keys
        self._entries: dict[K, _Entry] = {}

    def failed(self, peer: K, now: float, *, busy: bool = False) -> float:
        """An attempt failed, or the peer was too busy to take part; return when the next one may begin."""
        entry = self._entries.pop(peer, None) or _Entry()
        if busy:
            delay = entry.busy = min(2 * entry.busy or _BUSY, self._first)
        else:
            delay = entry.failure = min(2 * entry.failure or self._first, self._longest)
            entry.busy = 0.0
        entry.until = now + delay * (0.5 + 0.5 * self._random())
        while len(self._entries) >= self._max_keys:
            del self._entries[next(iter(self._entries))]
        self._entries[peer] = entry
        return entry.until

    def ready_at(self, peer: K) -> float:
        """When the next attempt may begin; minus infinity if at once."""
        entry = self._entries.get(peer)
        return float("-inf") if entry is None else entry.until

    def ready(self, peer: K, now: float) -> bool:
        """Whether an attempt may begin."""
        return now >= self.ready_at(peer)

    def forget(self, peer: K) -> None:
        """The peer is connected directly, is gone, or its network changed: begin anew."""
        self._entries.pop(peer, None)

    def network_changed(self) -> None:
        """Our own network changed: what failed before may succeed now, with every peer."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
