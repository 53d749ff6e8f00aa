"""The coordinator's part: introduce two peers to each other so that both send at the same moment.

The coordinator knows its round-trip time to both ends, and tells each how long to wait; nobody's clock is read.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ..addresses import Address
from ..identity import PeerId
from .budgets import WindowBudget
from .rendezvous import MAX_DELAY_US, PunchIntroduce, PunchReject, PunchRequest, RejectReason

__all__ = ["Coordinator", "Introduction", "Seen", "firing_delays"]

_ASSUMED_RTT = 0.1
_MARGIN = 0.01


@attrs.frozen
class Seen:
    """What a coordinator knows of a peer that it has a session with."""

    observed: Address | None
    """The address at which it sees the peer; None if their session is relayed."""
    announced: Address | None = None
    """The reflex address, of the family of ``observed``, that the peer announces."""
    rtt: float | None = None
    """Round-trip time of their session in seconds."""
    takes_part: bool = True
    """Whether it announces that it looks for direct paths.  Where a node is that does not, nobody is told."""


@attrs.frozen
class Introduction:
    """The two messages of a coordinator that agrees."""

    to_requester: PunchIntroduce
    to_target: PunchIntroduce


def firing_delays(
    rtt_a: float | None, rtt_b: float | None, max_lead: float = 0.5, margin: float = _MARGIN
) -> tuple[float, float]:
    """How long two ends are to wait after receipt so that both fire together, seconds.

    The moment of fire is as far ahead as a message takes to the slower end, plus a margin, but no more than
    ``max_lead``.  An end that the message reaches later than that fires at once.
    """
    way_a = (_ASSUMED_RTT if rtt_a is None else rtt_a) / 2
    way_b = (_ASSUMED_RTT if rtt_b is None else rtt_b) / 2
    lead = min(max(way_a, way_b) + margin, max_lead)
    return max(lead - way_a, 0.0), max(lead - way_b, 0.0)


def _same_realm(a: Address, b: Address) -> bool:
    """Whether two observed addresses mean something to each other: of one family, and both public, or both not."""
    return a.family == b.family and _is_inside(a) == _is_inside(b)


def _is_inside(address: Address) -> bool:
    return address.is_private or address.is_loopback or address.is_link_local


class Coordinator:
    """Decides about requests.

    A request beyond the budget (4 per requester in 10 s) costs a look-up and the rejection, nothing else.  The address
    that an end is told is one at which this node itself sees the other: at the same host, the port that the peer
    claims (a mapped port differs from the one it sends from), else what is observed.
    """

    __slots__ = ("_budget", "_max_lead", "introduced", "rejected")

    def __init__(
        self, *, max_lead: float = 0.5, limit: int = 4, period: float = 10.0, max_requesters: int = 4096
    ) -> None:
        self._max_lead = max_lead
        self._budget: WindowBudget[PeerId] = WindowBudget(limit, period, max_requesters)
        #: Pairs introduced.
        self.introduced: int = 0
        #: Requests declined, by reason.
        self.rejected: dict[RejectReason, int] = dict.fromkeys(RejectReason, 0)

    def on_request(
        self,
        request: PunchRequest,
        requester: PeerId,
        lookup: Callable[[PeerId], Seen | None],
        now: float,
    ) -> Introduction | PunchReject:
        """The messages to send in answer to a request.

        ``lookup`` gives what is known of a peer with a session, else None; it is called for the requester and the
        target.
        """
        if not self._budget.take(requester, now):
            return self._reject(request, RejectReason.RATE_LIMITED)
        asking = lookup(requester)
        if asking is None or asking.observed is None:
            return self._reject(request, RejectReason.UNKNOWN_REFLEX)
        if request.reflex.host != asking.observed.host:
            return self._reject(request, RejectReason.ADDRESS_MISMATCH)
        target = None if request.target == requester else lookup(request.target)
        if target is None:
            return self._reject(request, RejectReason.NO_SESSION)
        if target.observed is None or not target.takes_part or not _same_realm(asking.observed, target.observed):
            return self._reject(request, RejectReason.UNKNOWN_REFLEX)
        reflex = target.observed
        if target.announced is not None and target.announced.host == target.observed.host:
            reflex = target.announced
        wait_a, wait_b = firing_delays(asking.rtt, target.rtt, self._max_lead)
        self.introduced += 1
        return Introduction(
            PunchIntroduce(request.punch_id, request.target, reflex, _microseconds(wait_a), True),
            PunchIntroduce(request.punch_id, requester, request.reflex, _microseconds(wait_b), False),
        )

    def _reject(self, request: PunchRequest, reason: RejectReason) -> PunchReject:
        self.rejected[reason] += 1
        return PunchReject(request.punch_id, reason)


def _microseconds(seconds: float) -> int:
    return min(round(seconds * 1e6), MAX_DELAY_US)
