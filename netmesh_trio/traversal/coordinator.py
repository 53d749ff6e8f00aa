"""Whom to ask for an introduction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import attrs

from ..identity import PeerId

__all__ = ["Neighbor", "choose_coordinator"]


@attrs.frozen
class Neighbor:
    """What is known of a peer with a direct session."""

    #: Whether its announcement carries the tag ``relay-capable``.
    relay_capable: bool
    #: Round-trip time in seconds; None if it was never measured.
    rtt: float | None = None


def choose_coordinator(
    target: PeerId,
    neighbors: Mapping[PeerId, Neighbor],
    random_below: Callable[[int], int],
    *,
    forwarding: PeerId | None = None,
    target_relays: Collection[PeerId] = (),
    exclude: Collection[PeerId] = (),
) -> PeerId | None:
    """The connected peer to ask for an introduction to ``target``, or None if there is none.

    In this order: the relay that now forwards to the target; of the peers tagged ``relay-capable``, the faster one of
    two drawn at random (which spreads the load without piling all of it on the fastest); any connected peer,
    likewise.  In both draws, those that the target itself announced as its relays go first, for others will most
    likely have to decline.

    ``random_below(n)`` gives an integer from 0 to n - 1, as :meth:`random.Random.randrange` does.  ``exclude`` are
    peers that declined already.
    """
    usable = {p: n for p, n in neighbors.items() if p != target and p not in exclude}
    if forwarding in usable:
        return forwarding
    groups = (
        [p for p in usable if usable[p].relay_capable and p in target_relays],
        [p for p in usable if usable[p].relay_capable],
        [p for p in usable if p in target_relays],
        list(usable),
    )
    for group in groups:
        if group:
            return _faster_of_two(sorted(group), usable, random_below)
    return None


def _faster_of_two(
    group: list[PeerId], neighbors: Mapping[PeerId, Neighbor], random_below: Callable[[int], int]
) -> PeerId:
    if len(group) == 1:
        return group[0]
    first = random_below(len(group))
    second = random_below(len(group) - 1)
    second += second >= first  # two different ones

    def time(peer: PeerId) -> float:
        rtt = neighbors[peer].rtt
        return float("inf") if rtt is None else rtt

    return min(group[first], group[second], key=time)
