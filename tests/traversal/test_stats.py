from __future__ import annotations

from netmesh_trio.addresses import Address
from netmesh_trio.traversal import Histogram, TraversalStats, TraversalStatsSnapshot
from netmesh_trio.traversal.stats import TIME_TO_DIRECT_BOUNDS

HERE = Address("203.0.113.7", 4650)
THERE = Address("203.0.113.8", 4650)


def test_everything_begins_at_zero() -> None:
    assert TraversalStats().snapshot() == TraversalStatsSnapshot()
    assert TraversalStatsSnapshot().time_to_direct.count == 0


def test_punches() -> None:
    stats = TraversalStats()
    for _ in range(3):
        stats.record_punch_attempt()
    stats.record_punch_success()
    stats.record_relay_fallback()
    snapshot = stats.snapshot()
    assert (snapshot.punches_attempted, snapshot.punches_succeeded, snapshot.punches_failed) == (3, 1, 2)
    assert snapshot.relay_fallbacks == 1


def test_a_snapshot_does_not_change() -> None:
    stats = TraversalStats()
    before = stats.snapshot()
    stats.record_punch_attempt()
    stats.record_time_to_direct(0.1)
    assert before == TraversalStatsSnapshot()


def test_a_port_mapping_from_install_to_revoke() -> None:
    stats = TraversalStats()

    def seen() -> tuple[bool, Address | None, int]:
        s = stats.snapshot()
        return s.port_mapping_active, s.port_mapping_external, s.port_mapping_renewals

    stats.record_port_mapping_install(HERE)
    assert seen() == (True, HERE, 0)
    stats.record_port_mapping_renewal()
    stats.record_port_mapping_renewal()
    assert seen() == (True, HERE, 2)
    stats.replace_port_mapping_external(THERE)
    assert seen() == (True, THERE, 2)
    stats.record_port_mapping_revoke()
    assert seen() == (False, None, 2)
    stats.record_port_mapping_install(HERE)
    assert seen() == (True, HERE, 0)


def test_each_other_counter_has_its_recorder() -> None:
    stats = TraversalStats()
    stats.record_punch_timeout()
    stats.record_punch_rejection()
    stats.record_answer()
    stats.record_answer_put_off()
    stats.record_introduction_dropped()
    stats.record_rendezvous_no_relay()
    stats.record_upgrade_attempt()
    stats.record_upgrade_success()
    stats.record_path_failover()
    assert stats.snapshot() == TraversalStatsSnapshot(
        punch_timeouts=1,
        punch_rejections=1,
        answers=1,
        answers_put_off=1,
        introductions_dropped=1,
        rendezvous_no_relay=1,
        upgrades_attempted=1,
        upgrades_succeeded=1,
        path_failovers=1,
    )


def test_the_histogram_has_inclusive_upper_bounds_and_one_bucket_above() -> None:
    stats = TraversalStats()
    for seconds in (0.0, 0.025, 0.026, 30.0, 31.0):
        stats.record_time_to_direct(seconds)
    histogram = stats.snapshot().time_to_direct
    assert histogram.counts == (2, 1, *[0] * (len(TIME_TO_DIRECT_BOUNDS) - 3), 1, 1)
    assert histogram.count == 5
    assert histogram.sum == 61.051
    assert len(Histogram().counts) == len(Histogram().bounds) + 1
