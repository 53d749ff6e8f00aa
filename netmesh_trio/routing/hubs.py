"""Who keeps the whole map: a few *hubs*, so that the others need not.

Told to everybody, the announcements of n nodes around one relay are n**2 messages.  But only a node that leads from
one neighbor to another needs to know who is where.  Such nodes make themselves hubs, and say so by a tag.  What a hub
announces goes to everybody, what others announce goes to hubs and to their own neighbors; who is no hub asks one, by
the request for a circuit itself.

Hubs are found as in Wu and Li's connected dominating sets (1999) with the pruning of Dai and Wu (2004), from nothing
but what neighbors and hubs announce: a node is needed if two of its neighbors are not neighbors of each other, unless
hubs of higher rank, connected to each other, already reach all of them.  So every node is a hub or next to one, and
the hubs are connected among themselves wherever the mesh is.  To take a node for needed that is not costs messages;
the reverse would cost reach.  So whatever is not known counts as missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from netmesh_trio.identity import PeerId
from netmesh_trio.routing.announcements import MAX_RELAYS, Announcement
from netmesh_trio.routing.graph import Effort, MeshGraph

__all__ = ["HUB_EFFORT", "choose_listed", "hub_rank", "is_hub_needed"]

_ALWAYS = 32
"""Neighbors from which on a node is a hub whatever others announce."""
HUB_EFFORT = 1024
"""Edges and hubs that are looked at to find out whether a node is needed as one; some 5 microseconds each.  When that
is not enough it is taken to be needed, which costs messages and not reach."""


def hub_rank(neighbors: int, present: int | None) -> int:
    """The rank of a hub: about the logarithm of how many neighbors it has.  It clings to its *present* one, for each
    change is told to everybody."""
    if present is not None and 0.35 * 2**present <= neighbors <= 1.4 * 2**present:
        return present
    return min(neighbors.bit_length(), 63)


def is_hub_needed(
    self_id: PeerId, rank: int, neighbors: Collection[PeerId], graph: MeshGraph, effort: Effort | None = None
) -> bool:
    """Whether the mesh needs the node *self_id*, which would be of that *rank*, as a hub.

    Hubs are looked at from the neighbors on, as far as *effort* goes: the map may be full of hubs that nobody has.
    """
    if len(neighbors) < 2:
        return False
    if len(neighbors) > _ALWAYS:
        return True
    if effort is None:
        effort = Effort(HUB_EFFORT)
    known = {peer_id: graph.live[peer_id] for peer_id in neighbors if peer_id in graph.live}
    if len(known) < len(neighbors):
        return True
    if effort.spend(len(known) ** 2 // 2) and all(_adjacent(a, b) for a, b in combinations(known.values(), 2)):
        return False
    search = _Search(self_id, rank, known, graph, effort)
    # whatever reaches all, reaches the one that has the fewest around it
    return not search.any_island_reaches_all(min(known, key=lambda peer_id: graph.edges_of((peer_id.raw,))))


class _Search:
    """Whether hubs of higher rank that are connected to each other reach all the *neighbors*."""

    def __init__(
        self, self_id: PeerId, rank: int, neighbors: Mapping[PeerId, Announcement], graph: MeshGraph, effort: Effort
    ) -> None:
        self._self_id = self_id
        self._rank = rank
        self._neighbors = neighbors
        self._graph = graph
        self._effort = effort
        self._seen: set[PeerId] = set()
        self._named_by: dict[PeerId, list[PeerId]] = {}
        for peer_id, announcement in neighbors.items():
            for relay in announcement.relays:
                self._named_by.setdefault(relay, []).append(peer_id)

    def any_island_reaches_all(self, first: PeerId) -> bool:
        """Try all the islands that reach *first*."""
        around = self._graph.hubs_next_to(first, self._effort)
        if around is None:
            return False
        # the map has no edges of who is no relay, but it says itself whom it has
        for hub in (first, *around, *self._neighbors[first].relays):
            if self._is_above(hub) and (hub == first or first in self._reached_by(hub)) and self._reaches_all(hub):
                return True
        return False

    def _reaches_all(self, start: PeerId) -> bool:
        graph = self._graph
        missing = set(self._neighbors)
        self._seen.add(start)
        frontier = [start]
        while frontier:
            hub = frontier.pop()
            missing -= self._reached_by(hub)
            if not missing:
                return True
            around = graph.hubs_next_to(hub, self._effort)
            if around is None:
                return False
            for other in around:
                if self._is_above(other) and _adjacent(graph.live[hub], graph.live[other]):
                    self._seen.add(other)
                    frontier.append(other)
        return False

    def _is_above(self, hub: PeerId) -> bool:
        """Whether it may take our place, and was not looked at."""
        rank = self._graph.hubs.get(hub)
        return (
            rank is not None
            and hub not in self._seen
            and hub != self._self_id
            and (rank, hub.raw) > (self._rank, self._self_id.raw)
            and self._graph.is_relay(hub)
        )

    def _reached_by(self, hub: PeerId) -> set[PeerId]:
        says = self._graph.live[hub]
        maybe = {peer_id for peer_id in says.relays if peer_id in self._neighbors}
        maybe.update(self._named_by.get(hub, ()))
        reached = {peer_id for peer_id in maybe if _adjacent(says, self._neighbors[peer_id])}
        if hub in self._neighbors:
            reached.add(hub)
        return reached


def choose_listed(
    neighbors: Collection[PeerId], is_hub: bool, graph: MeshGraph, listed: Collection[PeerId]
) -> tuple[PeerId, ...]:
    """The neighbors that a node names in its announcement: all if there is room, else hubs first, and if it is a hub
    only those: the others name it, and each change is told to everybody.  Who was *listed* before stays."""
    only_hubs = is_hub and len(neighbors) > MAX_RELAYS
    candidates = [peer_id for peer_id in neighbors if not only_hubs or peer_id in graph.hubs]
    candidates.sort(key=lambda peer_id: (peer_id not in graph.hubs, peer_id not in listed, peer_id.raw))
    return tuple(candidates[:MAX_RELAYS])


def _adjacent(a: Announcement, b: Announcement) -> bool:
    """Whether both say that they are neighbors.  Who has no room, or is a hub and does not name others, need not."""
    a_names, b_names = b.peer_id in a.relays, a.peer_id in b.relays
    return (a_names or b_names) and (a_names or _excused(a, b)) and (b_names or _excused(b, a))


def _excused(who: Announcement, other: Announcement) -> bool:
    return len(who.relays) >= MAX_RELAYS or (who.hub_rank is not None and other.hub_rank is None)
