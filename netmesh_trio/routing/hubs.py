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

from collections.abc import Collection
from itertools import combinations

from netmesh_trio.identity import PeerId
from netmesh_trio.routing.announcements import MAX_RELAYS, Announcement
from netmesh_trio.routing.graph import MeshGraph

__all__ = ["choose_listed", "hub_rank", "is_hub_needed"]

_ALWAYS = 32
"""Neighbors from which on a node is a hub whatever others announce."""


def hub_rank(neighbors: int, present: int | None) -> int:
    """The rank of a hub: about the logarithm of how many neighbors it has.  It clings to its *present* one, for each
    change is told to everybody."""
    if present is not None and 0.35 * 2**present <= neighbors <= 1.4 * 2**present:
        return present
    return min(neighbors.bit_length(), 63)


def is_hub_needed(self_id: PeerId, rank: int, neighbors: Collection[PeerId], graph: MeshGraph) -> bool:
    """Whether the mesh needs the node *self_id*, which would be of that *rank*, as a hub."""
    if len(neighbors) < 2:
        return False
    if len(neighbors) > _ALWAYS:
        return True
    known = {peer_id: graph.live[peer_id] for peer_id in neighbors if peer_id in graph.live}
    if len(known) == len(neighbors) and all(_adjacent(a, b) for a, b in combinations(known.values(), 2)):
        return False
    above = {
        hub
        for hub, other in graph.hubs.items()
        if hub != self_id and (other, hub.raw) > (rank, self_id.raw) and graph.is_relay(hub)
    }
    while above:
        island = _island(above.pop(), above, graph)
        above -= island
        if all(peer_id in island or _reaches(island, known.get(peer_id), graph) for peer_id in neighbors):
            return False
    return True


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


def _island(start: PeerId, among: Collection[PeerId], graph: MeshGraph) -> set[PeerId]:
    """The hubs among those that are connected to *start*."""
    island = {start}
    frontier = [start]
    while frontier:
        here = graph.live[frontier.pop()]
        for raw in graph.relays_next_to((here.peer_id.raw,)):
            there = graph.live[PeerId(raw)]
            if there.peer_id in among and there.peer_id not in island and _adjacent(here, there):
                island.add(there.peer_id)
                frontier.append(there.peer_id)
    return island


def _reaches(island: Collection[PeerId], announcement: Announcement | None, graph: MeshGraph) -> bool:
    if announcement is None:
        return False
    if any(relay in island and _adjacent(graph.live[relay], announcement) for relay in announcement.relays):
        return True
    return any(_adjacent(graph.live[hub], announcement) for hub in island)
