"""Which neighbor leads to a peer: pure functions of the map, the neighbors and their round-trip
times."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from netmesh_trio.identity import PeerId
from netmesh_trio.routing.circuits import MAX_HOPS
from netmesh_trio.routing.graph import MeshGraph

__all__ = ["find_next_hops"]


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

    Takes time in proportion to the edges of the map, at worst.
    """
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
    while frontier and legs <= max_hops and len(ranked) < limit:
        # Sorted by all that matters, so the order of sets does not show.
        ranked += sorted(
            (by_raw[raw] for raw in frontier if raw in by_raw),
            key=lambda relay: (_cost(neighbors[relay]), relay.raw),
        )
        seen |= frontier
        frontier = graph.relays_next_to(frontier) - seen
        legs += 1
    return ranked[:limit]


def _cost(rtt: float | None) -> float:
    return math.inf if rtt is None else rtt
