"""When to try again to move a relayed session to a direct path."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["UpgradeBackoff"]

K = TypeVar("K", bound=Hashable)


class UpgradeBackoff(Generic[K]):
    """For each peer, the earliest time of the next attempt: ``first`` seconds after the first failure, twice as long
    after each further one, at most ``longest``.

    A change of network on either side makes all of it obsolete.  Beyond ``max_keys`` peers, the one that failed
    longest ago is forgotten and may be tried at once.
    """

    __slots__ = ("_entries", "_first", "_longest", "_max_keys")

    def __init__(self, first: float = 30.0, longest: float = 600.0, *, max_keys: int = 4096) -> None:
        self._first = first
        self._longest = longest
        self._max_keys = max_keys
        self._entries: dict[K, tuple[float, float]] = {}  # the last delay, and when it is over

    def failed(self, peer: K, now: float) -> float:
        """An attempt failed; return when the next one may begin."""
        last = self._entries.pop(peer, None)
        delay = self._first if last is None else min(2 * last[0], self._longest)
        while len(self._entries) >= self._max_keys:
            del self._entries[next(iter(self._entries))]
        self._entries[peer] = (delay, now + delay)
        return now + delay

    def ready_at(self, peer: K) -> float:
        """When the next attempt may begin; minus infinity if at once."""
        entry = self._entries.get(peer)
        return float("-inf") if entry is None else entry[1]

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
