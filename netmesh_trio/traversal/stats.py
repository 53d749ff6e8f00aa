"""Counters of what the search for shorter paths did.

The rules of the first three, which together tell how calls of ``connect_direct`` ended:

* a punch is *attempted* once its introduction came back from the coordinator; what fails before that does not count;
* a punch *succeeded* if it gave a direct path within its deadline;
* a *relay fallback* is counted when a call ends on the relay and the relay carries: a pair that is not tried, a
  punch or a direct attempt that failed.  One whose relayed session fails, too, is not counted.
"""

from __future__ import annotations

from bisect import bisect_left

import attrs

from ..addresses import Address
from ..reprs import show_changed

__all__ = ["TIME_TO_DIRECT_BOUNDS", "Histogram", "TraversalStats", "TraversalStatsSnapshot"]

#: Upper bounds, in seconds, of all buckets of the time-to-direct histogram but the last, which has none.
TIME_TO_DIRECT_BOUNDS = (0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@attrs.frozen(kw_only=True, repr=False)
class Histogram:
    """How often a duration fell into which bucket."""

    #: Upper bounds in seconds, inclusive; one bucket more than bounds, for what is longer than all of them.
    bounds: tuple[float, ...] = TIME_TO_DIRECT_BOUNDS
    #: How many fell into each bucket (and into no lower one).
    counts: tuple[int, ...] = (0,) * (len(TIME_TO_DIRECT_BOUNDS) + 1)
    #: Sum of all durations, seconds.
    sum: float = 0.0

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.counts)

    def __repr__(self) -> str:
        mean = f", mean {self.sum / self.count:.3g} s" if self.count else ""
        return f"<Histogram of {self.count} durations{mean}>"


@attrs.frozen(kw_only=True, repr=False)
class TraversalStatsSnapshot:
    """The counters at one moment.  All only grow but the three of the present port mapping."""

    #: Punches that a coordinator mediated: its introduction came back.
    punches_attempted: int = 0
    #: Those that gave a direct path; never more than ``punches_attempted``.
    punches_succeeded: int = 0
    #: Calls of ``connect_direct`` that ended on the relay, which carries.
    relay_fallbacks: int = 0
    #: Whether a port mapping is in place and announced.
    port_mapping_active: bool = False
    #: The outside address of the port mapping; None while there is none.
    port_mapping_external: Address | None = None
    #: Renewals of the present port mapping.
    port_mapping_renewals: int = 0
    #: Punches whose deadline passed without an answered probe.
    punch_timeouts: int = 0
    #: Requests that a coordinator declined.
    punch_rejections: int = 0
    #: Attempts of peers that this node answered with challenges of its own.
    answers: int = 0
    #: Attempts of peers that it put off: too many at once, or too often.
    answers_put_off: int = 0
    #: Introductions that it dropped: too many, or to an address at which the peer is not known to be.
    introductions_dropped: int = 0
    #: Times that nobody could be asked to introduce a pair.
    rendezvous_no_relay: int = 0
    #: Background attempts to move a relayed session to a direct path.
    upgrades_attempted: int = 0
    #: Those after which the session was on a direct path.
    upgrades_succeeded: int = 0
    #: Sessions that left a path which did not answer any more.
    path_failovers: int = 0
    #: Seconds to a direct path, from the first session with a peer, or from the call that looked for it.  A search in
    #: the background that was not a session's first counts from its own beginning.
    time_to_direct: Histogram = attrs.field(factory=Histogram)

    @property
    def punches_failed(self) -> int:
        """Attempted punches that have not (or not yet) given a direct path."""
        return self.punches_attempted - self.punches_succeeded

    def __repr__(self) -> str:
        return show_changed(self)


class TraversalStats:
    """The recorder behind :class:`TraversalStatsSnapshot`; one per node."""

    def __init__(self) -> None:
        self._punches_attempted = 0
        self._punches_succeeded = 0
        self._relay_fallbacks = 0
        self._port_mapping_active = False
        self._port_mapping_external: Address | None = None
        self._port_mapping_renewals = 0
        self._punch_timeouts = 0
        self._punch_rejections = 0
        self._answers = 0
        self._answers_put_off = 0
        self._introductions_dropped = 0
        self._rendezvous_no_relay = 0
        self._upgrades_attempted = 0
        self._upgrades_succeeded = 0
        self._path_failovers = 0
        self._time_counts = [0] * (len(TIME_TO_DIRECT_BOUNDS) + 1)
        self._time_sum = 0.0

    def __repr__(self) -> str:
        return f"<TraversalStats, now {self.snapshot()}>"

    def snapshot(self) -> TraversalStatsSnapshot:
        """All counters as they are now."""
        return TraversalStatsSnapshot(
            punches_attempted=self._punches_attempted,
            punches_succeeded=self._punches_succeeded,
            relay_fallbacks=self._relay_fallbacks,
            port_mapping_active=self._port_mapping_active,
            port_mapping_external=self._port_mapping_external,
            port_mapping_renewals=self._port_mapping_renewals,
            punch_timeouts=self._punch_timeouts,
            punch_rejections=self._punch_rejections,
            answers=self._answers,
            answers_put_off=self._answers_put_off,
            introductions_dropped=self._introductions_dropped,
            rendezvous_no_relay=self._rendezvous_no_relay,
            upgrades_attempted=self._upgrades_attempted,
            upgrades_succeeded=self._upgrades_succeeded,
            path_failovers=self._path_failovers,
            time_to_direct=Histogram(counts=tuple(self._time_counts), sum=self._time_sum),
        )

    def record_punch_attempt(self) -> None:
        """The introduction that we asked a coordinator for came back; whatever becomes of the punch."""
        self._punches_attempted += 1

    def record_punch_success(self) -> None:
        """A punch counted as attempted gave a direct path within its deadline."""
        self._punches_succeeded += 1

    def record_relay_fallback(self) -> None:
        """A call ended on the relay, and the relayed session carries."""
        self._relay_fallbacks += 1

    def record_port_mapping_install(self, external: Address) -> None:
        """A router granted a mapping; it counts its renewals from zero."""
        self._port_mapping_external = external
        self._port_mapping_renewals = 0
        self._port_mapping_active = True

    def record_port_mapping_renewal(self) -> None:
        """The router renewed the present mapping."""
        self._port_mapping_renewals += 1

    def replace_port_mapping_external(self, external: Address) -> None:
        """A renewal gave another outside address; neither the renewals nor whether it is active change."""
        self._port_mapping_external = external

    def record_port_mapping_revoke(self) -> None:
        """The mapping is gone: given back, or not renewed."""
        self._port_mapping_active = False
        self._port_mapping_external = None

    def record_punch_timeout(self) -> None:
        """A punch counted as attempted found no path before its deadline."""
        self._punch_timeouts += 1

    def record_punch_rejection(self) -> None:
        """A coordinator declined our request."""
        self._punch_rejections += 1

    def record_answer(self) -> None:
        """We send challenges because a peer asks us to."""
        self._answers += 1

    def record_answer_put_off(self) -> None:
        """A peer's attempt was not answered: too many at once, or too often."""
        self._answers_put_off += 1

    def record_introduction_dropped(self) -> None:
        """An introduction was not believed, or was one too many."""
        self._introductions_dropped += 1

    def record_rendezvous_no_relay(self) -> None:
        """There was nobody to ask for an introduction."""
        self._rendezvous_no_relay += 1

    def record_upgrade_attempt(self) -> None:
        """The background upgrade tries to move a session to a direct path."""
        self._upgrades_attempted += 1

    def record_upgrade_success(self) -> None:
        """A session that the background upgrade worked on is on a direct path."""
        self._upgrades_succeeded += 1

    def record_path_failover(self) -> None:
        """A session left a path that did not answer any more."""
        self._path_failovers += 1

    def record_time_to_direct(self, seconds: float) -> None:
        """A session that was on a relay is on a direct path after so many seconds."""
        self._time_counts[bisect_left(TIME_TO_DIRECT_BOUNDS, seconds)] += 1
        self._time_sum += seconds
