"""The map of the mesh: living announcements, and which relay is a neighbor of which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType

import attrs

from netmesh_trio.identity import PeerId
from netmesh_trio.routing.announcements import Announcement

__all__ = ["Effort", "MeshGraph"]

_NONE: frozenset[bytes] = frozenset()
_FAST = 16
"""Edges that a set operation passes over in the time that it takes to look at one."""


@attrs.define
class Effort:
    """How much of a map one question may look at: anybody can fill it with nodes that do not exist."""

    edges: int
    """Edges that may still be looked at."""

    def spend(self, edges: int) -> bool:
        """Take so many, if they are left."""
        if edges > self.edges:
            return False
        self.edges -= edges
        return True


class MeshGraph:
    """Living announcements by peer, and the edges between relays in both directions.

    An edge joins two *relay-capable* nodes of which at least one announces the other (a relay with
    more neighbors than fit in its announcement leaves some out, so asking for both would lose true
    edges).  It may be a lie, which costs whoever believes it a refusal.  Where an ordinary node is
    reachable, only that node itself says.
    """

    def __init__(self, announcements: Iterable[Announcement] = ()) -> None:
        self._live: dict[PeerId, Announcement] = {}
        self._live_view = MappingProxyType(self._live)
        # Sets of raw ids, so that a search over ten thousand relays is a few set operations.
        self._relays: set[bytes] = set()
        self._hubs: dict[PeerId, int] = {}
        self._hubs_view = MappingProxyType(self._hubs)
        self._hubs_by_raw: dict[bytes, PeerId] = {}
        self._named: dict[bytes, frozenset[bytes]] = {}  # by relays only
        self._edges: dict[bytes, set[bytes]] = {}  # in both directions; one end may be no relay
        for announcement in announcements:
            self.update(announcement)

    @property
    def live(self) -> Mapping[PeerId, Announcement]:
        """A view of the living announcements, by origin."""
        return self._live_view

    @property
    def hubs(self) -> Mapping[PeerId, int]:
        """A view of the nodes that keep the whole map, with their ranks."""
        return self._hubs_view

    def update(self, announcement: Announcement) -> None:
        """Put *announcement* in place of its origin's last; a withdrawal only removes that."""
        self.remove(announcement.peer_id)
        if announcement.is_withdrawal:
            return
        self._live[announcement.peer_id] = announcement
        rank = announcement.hub_rank
        if rank is not None:
            self._hubs[announcement.peer_id] = rank
            self._hubs_by_raw[announcement.peer_id.raw] = announcement.peer_id
        if announcement.relay_capable:
            origin = announcement.peer_id.raw
            self._relays.add(origin)
            self._named[origin] = frozenset(relay.raw for relay in announcement.relays)
            for named in self._named[origin]:
                self._edges.setdefault(origin, set()).add(named)
                self._edges.setdefault(named, set()).add(origin)

    def remove(self, peer_id: PeerId) -> None:
        """Forget what *peer_id* announced, if anything."""
        old = self._live.pop(peer_id, None)
        if self._hubs.pop(peer_id, None) is not None:
            del self._hubs_by_raw[peer_id.raw]
        if old is None or not old.relay_capable:
            return
        origin = peer_id.raw
        self._relays.remove(origin)
        for named in self._named.pop(origin):
            if origin not in self._named.get(named, ()):
                self._disconnect(origin, named)
                self._disconnect(named, origin)

    def is_relay(self, peer_id: PeerId) -> bool:
        """Whether *peer_id* now offers to carry circuits for others."""
        return peer_id.raw in self._relays

    def edges_of(self, nodes: Iterable[bytes]) -> int:
        """What it takes to look at all that is next to *nodes*."""
        edges = self._edges
        return sum(len(edges[raw]) for raw in nodes if raw in edges)

    def touches(self, raw: bytes, nodes: AbstractSet[bytes]) -> bool:
        """Whether the node *raw* has an edge to one of *nodes*."""
        return not self._edges.get(raw, _NONE).isdisjoint(nodes)

    def relays_next_to(self, frontier: Iterable[bytes]) -> set[bytes]:
        """The relays with an edge to any of *frontier*; all as raw peer ids."""
        edges = self._edges
        return set().union(*[edges[raw] for raw in frontier if raw in edges]) & self._relays

    def hubs_next_to(self, peer_id: PeerId, effort: Effort) -> list[PeerId] | None:
        """The hubs with an edge to *peer_id*; None if to find them is too much."""
        edges = self._edges.get(peer_id.raw, _NONE)
        found = edges & self._hubs_by_raw.keys() if len(edges) < len(self._hubs) else self._hubs_by_raw.keys() & edges
        if not effort.spend(1 + len(found) + min(len(edges), len(self._hubs)) // _FAST):
            return None
        return [self._hubs_by_raw[raw] for raw in found]

    def _disconnect(self, one: bytes, other: bytes) -> None:
        edges = self._edges[one]
        edges.remove(other)
        if not edges:
            del self._edges[one]
