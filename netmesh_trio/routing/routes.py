"""Which neighbor leads to a peer: pure functions of the map, the neighbors and their round-trip
times."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from netmesh_trio.buckets import TokenBucket
from netmesh_trio.identity import PeerId
from netmesh_trio.routing.circuits import MAX_HOPS
from netmesh_trio.routing.graph import Effort, MeshGraph

__all__ = ["RouteFinder", "find_next_hops"]

_MAX_EDGES = 1 << 16
"""Edges of the map that one search looks at: all of a mesh of a thousand relays, some 4 ms."""
_EDGES_PER_SECOND = 1 << 20
"""Edges that all searches together look at, in the long run: some 7 % of the CPU."""


def find_next_hops(
    target: PeerId,
    neighbors: Mapping[PeerId, float | None],
    graph: MeshGraph,
    *,
    self_id: PeerId,
    exclude: Collection[PeerId] = (),
    hints: Collection[PeerId] = (),
    max_hops: int = MAX_HOPS,
    limit: int = 8,
    effort: Effort | None = None,
) -> list[PeerId]:
    """The neighbors to whom a circuit to *target* may be opened, best first, at most *limit* of
    them.

    *neighbors* maps those with a direct session to their round-trip time in seconds (None: unknown,
    which sorts last).  Fewer legs come first, then the lower round-trip time, then the smaller peer
    id: first the target itself, then relays that the target announces, then the first relays of
    longer ways, found breadth first from the target.

    Only relay-capable nodes are passed through, at most *max_hops* - 1 of them (a relay that goes
    on with a request passes one less than the request's ``hops_left``), never *self_id* nor any of
    *exclude*: for a relay, who asked; for an asker, what has failed.  If *target* itself is in
    *exclude*, the leg straight to it is left out.  *hints* are more relays of the target, such as
    the ``via`` of a URI; a person vouches for them, so they need no tag.

    At most *effort* edges of the map are looked at.  When that is not enough, what is next to the part that was
    seen is still found, so ways of up to three legs always are.
    """
    if effort is None:
        effort = Effort(_MAX_EDGES)
    ranked: list[PeerId] = []
    if target in neighbors and target not in exclude and max_hops >= 1:
        ranked.append(target)

    announced = graph.live.get(target)
    sources = {relay.raw for relay in hints}
    if announced is not None:
        sources.update(relay.raw for relay in announced.relays if graph.is_relay(relay))
    by_raw = {neighbor.raw: neighbor for neighbor in neighbors}
    # Breadth first from the target; who is in the frontier is `legs` - 1 legs away from it.
    seen = {self_id.raw, target.raw, *(peer_id.raw for peer_id in exclude)}
    frontier = sources - seen
    legs = 2
    last = False
    while frontier and legs <= max_hops and len(ranked) < limit:
        # Sorted by all that matters, so the order of sets does not show.
        ranked += sorted(
            (by_raw[raw] for raw in frontier if raw in by_raw),
            key=lambda relay: (_cost(neighbors[relay]), relay.raw),
        )
        if last:
            break
        seen |= frontier
        last = not effort.spend(graph.edges_of(frontier))
        if last:
            # one step more, from the side of the neighbors: there are not so many of them
            near = (raw for raw, relay in by_raw.items() if raw not in seen and graph.is_relay(relay))
            frontier = {raw for raw in near if graph.touches(raw, frontier)}
        else:
            frontier = graph.relays_next_to(frontier) - seen
        legs += 1
    return ranked[:limit]


class RouteFinder:
    """:func:`find_next_hops` for a node that others have search: all searches together take a bounded share of its
    time.  While that is used up, only short ways are found."""

    def __init__(self, graph: MeshGraph, self_id: PeerId) -> None:
        self._graph = graph
        self._self_id = self_id
        self._edges = TokenBucket(_EDGES_PER_SECOND, _EDGES_PER_SECOND)

    def next_hops(
        self,
        target: PeerId,
        neighbors: Mapping[PeerId, float | None],
        now: float,
        *,
        exclude: Collection[PeerId] = (),
        hints: Collection[PeerId] = (),
        max_hops: int = MAX_HOPS,
    ) -> list[PeerId]:
        """The neighbors to whom a circuit to *target* may be opened, best first."""
        allowed = min(_MAX_EDGES, int(self._edges.available(now)))
        effort = Effort(allowed)
        hops = find_next_hops(
            target,
            neighbors,
            self._graph,
            self_id=self._self_id,
            exclude=exclude,
            hints=hints,
            max_hops=max_hops,
            effort=effort,
        )
        self._edges.take(now, allowed - effort.edges)
        return hops


def _cost(rtt: float | None) -> float:
    return math.inf if rtt is None else rtt
