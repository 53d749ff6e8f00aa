from __future__ import annotations

import functools
import random
from collections import deque

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.identity import Identity, PeerId
from netmesh_trio.routing import (
    TAG_RELAY_CAPABLE,
    Announcement,
    AnnouncementStore,
    Decision,
    Envelope,
    StoreLimits,
    Verdict,
    withdrawal,
)


@functools.cache
def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def peer(number: int) -> PeerId:
    return identity(number).peer_id


ME, A, B, C = peer(1), peer(2), peer(3), peer(4)


@functools.cache
def signed(number: int, sequence: int, lifetime: int = 100, relays: tuple[PeerId, ...] = (), hops: int = 0) -> Envelope:
    announcement = Announcement(
        peer_id=peer(number),
        sequence=sequence,
        lifetime_s=lifetime,
        tags=() if lifetime == 0 else (TAG_RELAY_CAPABLE,),
        relays=relays,
    )
    return attrs.evolve(announcement.sign(identity(number).sign), hops=hops)


def far(number: int, sequence: int, hops: int = 1, age: float = 0.0, lifetime: int = 100) -> Envelope:
    return attrs.evolve(signed(number, sequence, lifetime), hops=hops, age=age)


def forged(number: int, sequence: int, hops: int = 1) -> Envelope:
    return attrs.evolve(far(number, sequence, hops), signature=bytes(64))


def store(**limits: float) -> AnnouncementStore:
    return AnnouncementStore(ME, StoreLimits(**limits))  # type: ignore[arg-type]


def test_new_is_kept_and_passed_on() -> None:
    table = store()
    decision = table.accept(signed(2, 5), A, 10.0)
    assert decision == Decision(verdict=Verdict.NEW, forward=far(2, 5))
    assert table.get(A) == signed(2, 5).announcement
    assert table.graph.is_relay(A)
    decision = table.accept(far(3, 1, hops=3, age=2.5), A, 10.0)
    assert decision.forward == far(3, 1, hops=4, age=2.5)
    assert table.stats().live == 2


def test_it_is_not_passed_on_for_ever() -> None:
    decision = store().accept(far(3, 1, hops=16), A, 0.0)
    assert decision == Decision(verdict=Verdict.NEW)


def test_duplicates_and_older_ones_cost_no_signature_check() -> None:
    table = store()
    table.accept(signed(2, 5), A, 0.0)
    assert table.accept(far(2, 5, hops=2), B, 0.0) == Decision(verdict=Verdict.DUPLICATE)
    assert table.accept(far(2, 4, hops=2), B, 0.0) == Decision(verdict=Verdict.STALE)
    assert table.stats().verified == 1
    assert table.stats().verdicts["duplicate"] == 1


def test_newer_takes_the_place_of_older() -> None:
    table = store()
    table.accept(signed(2, 5, relays=(B,)), A, 0.0)
    table.accept(far(3, 1), A, 0.0)
    assert table.graph.relays_next_to([B.raw]) == {A.raw}
    assert table.accept(signed(2, 6), A, 1.0).verdict is Verdict.NEW
    assert table.graph.relays_next_to([B.raw]) == set()
    assert table.stats().live == 2


@pytest.mark.parametrize("sequence", [3, 5])
def test_a_restarted_origin_is_told_what_it_said_before(sequence: int) -> None:
    table = store()
    table.accept(signed(2, 5), A, 0.0)
    again = signed(2, sequence, 99)  # not byte for byte the same
    decision = table.accept(again, A, 7.0)
    assert decision == Decision(verdict=Verdict.STALE, reply=far(2, 5, hops=1, age=7.0))

    # And at the origin:
    origin = AnnouncementStore(A)
    origin.publish(again, 7.0)
    assert decision.reply is not None
    decision = origin.accept(decision.reply, ME, 7.1)
    assert decision == Decision(verdict=Verdict.OWN)
    origin.publish(signed(2, 6), 7.1)
    assert table.accept(signed(2, 6), A, 7.2).verdict is Verdict.NEW


def test_heals_also_after_expiry_and_withdrawal() -> None:
    table = store()
    table.accept(signed(2, 5), A, 0.0)
    table.expire(150.0)
    decision = table.accept(signed(2, 1), A, 150.0)
    assert decision.verdict is Verdict.STALE
    assert decision.reply is not None
    assert Envelope.decode_untrusted(decision.reply.encode()).age == 150.0
    assert AnnouncementStore(A).accept(decision.reply, ME, 0.0).verdict is Verdict.OWN

    table.accept(signed(2, 6, 0), A, 151.0)
    decision = table.accept(signed(2, 1), A, 152.0)
    assert decision.reply is not None
    assert AnnouncementStore(A).accept(decision.reply, ME, 0.0).verdict is Verdict.OWN


def test_own() -> None:
    table = store()
    table.publish(signed(1, 5), 0.0)
    assert table.accept(far(1, 5), A, 0.0).verdict is Verdict.DUPLICATE
    assert table.accept(far(1, 4), A, 0.0).verdict is Verdict.STALE
    assert table.accept(far(1, 5, lifetime=99), A, 0.0).verdict is Verdict.OWN
    assert table.accept(far(1, 9), A, 0.0).verdict is Verdict.OWN
    assert table.accept(far(1, 2**64 - 1), A, 0.0).verdict is Verdict.OWN
    assert table.accept(forged(1, 10), A, 0.0).verdict is Verdict.INVALID
    assert table.get(ME) is None
    with pytest.raises(ValueError, match="grow"):
        table.publish(signed(1, 5), 0.0)
    with pytest.raises(ValueError, match="another"):
        table.publish(signed(2, 5), 0.0)


def test_forged_and_impossible_ones() -> None:
    table = store()
    assert table.accept(forged(2, 5), B, 0.0).verdict is Verdict.INVALID
    assert table.accept(signed(2, 5), B, 0.0).verdict is Verdict.INVALID  # B is not its origin
    assert table.accept(far(2, 5), A, 0.0).verdict is Verdict.INVALID  # A passes on its own
    assert table.stats().live == 0
    assert table.stats().verified == 1


def test_rate_of_an_origin() -> None:
    table = store(origin_rate=0.5, origin_burst=5.0)
    verdicts = [table.accept(signed(2, number), A, 0.0).verdict for number in range(6)]
    assert verdicts == [Verdict.NEW] * 5 + [Verdict.RATE_LIMITED]
    assert table.stats().verified == 5
    assert table.accept(signed(2, 7), A, 1.9).verdict is Verdict.RATE_LIMITED
    assert table.accept(signed(2, 7), A, 2.0).verdict is Verdict.NEW


def test_forgeries_do_not_use_up_the_rate_of_their_victim() -> None:
    table = store()
    for number in range(20):
        assert table.accept(forged(2, 10 + number), B, 0.0).verdict is Verdict.INVALID
    assert table.accept(signed(2, 1), A, 0.0).verdict is Verdict.NEW


def test_signature_checks_are_rationed_by_neighbor() -> None:
    table = store(verify_rate=1.0, verify_burst=3.0)
    verdicts = [table.accept(forged(10 + number, 1), A, 0.0).verdict for number in range(4)]
    assert verdicts == [Verdict.INVALID] * 3 + [Verdict.RATE_LIMITED]
    assert table.accept(far(10, 1), B, 0.0).verdict is Verdict.NEW
    assert table.accept(far(11, 1), A, 1.0).verdict is Verdict.NEW


def test_budgets_of_neighbors_are_bounded() -> None:
    table = store(max_neighbors=2, verify_rate=1.0, verify_burst=3.0)
    assert table.accept(far(10, 1), A, 0.0).verdict is Verdict.NEW
    assert table.accept(far(11, 1), B, 0.0).verdict is Verdict.NEW
    assert table.accept(far(12, 1), C, 0.0).verdict is Verdict.RATE_LIMITED
    assert table.accept(far(12, 1), C, 1.0).verdict is Verdict.NEW  # the others are full again
    table.forget_neighbor(C)
    assert len(table._neighbors) == 0


def test_expiry_counts_from_receipt_less_age() -> None:
    table = store(tombstone=600.0)
    table.accept(far(2, 5, age=30.0), B, 10.0)
    table.accept(far(3, 5, age=0.0), A, 10.0)
    assert table.expire(79.9) == []
    assert table.expire(80.0) == [A]
    assert table.get(A) is None
    assert table.get(B) is not None
    # No copy of it comes to life again, however young it says it is.
    assert table.accept(far(2, 5), C, 81.0).verdict is Verdict.DUPLICATE
    assert table.expire(110.0) == [B]
    assert table.expire(10_000.0) == []
    assert not table._entries


def test_a_late_call_to_expire_forgets_at_once() -> None:
    table = store(tombstone=600.0)
    table.accept(signed(2, 5), A, 0.0)
    assert table.expire(10_000.0) == [A]
    assert not table._entries


def test_too_old_at_arrival() -> None:
    table = store()
    assert table.accept(far(2, 5, age=100.0), B, 0.0).verdict is Verdict.STALE
    assert table.stats().verified == 0


def test_withdrawal() -> None:
    table = store(tombstone=600.0)
    table.accept(signed(2, 5), A, 0.0)
    decision = table.accept(signed(2, 6, 0), A, 1.0)
    assert decision.verdict is Verdict.NEW
    assert decision.forward is not None
    assert table.get(A) is None
    assert table.accept(far(2, 5), B, 2.0).verdict is Verdict.STALE
    assert (table.stats().live, table.stats().remembered) == (0, 1)
    assert table.all_for(B) == [A]  # B may not have heard
    assert table.envelope(A, 11.0) == far(2, 6, age=10.0, lifetime=0)
    assert table.accept(signed(2, 7), A, 12.0).verdict is Verdict.NEW
    assert table.get(A) is not None
    assert table.stats().remembered == 0


def test_a_withdrawal_of_somebody_unknown_is_remembered_too() -> None:
    table = store()
    late = withdrawal(A, 9).sign(identity(2).sign)
    assert table.accept(late, A, 0.0).verdict is Verdict.NEW
    assert table.accept(far(2, 8), B, 0.0).verdict is Verdict.STALE


def test_exchange_with_a_new_neighbor() -> None:
    table = store()
    table.publish(signed(1, 1), 0.0)
    table.accept(far(5, 1, hops=7), A, 0.0)
    table.accept(signed(2, 1), A, 0.0)
    table.accept(signed(3, 1), B, 0.0)
    table.accept(far(6, 1, hops=16), A, 0.0)
    table.accept(far(7, 1, lifetime=5), A, 0.0)
    assert table.all_for(B) == [ME, A, peer(7), peer(5), peer(6)]
    assert table.envelope(ME, 3.0) == attrs.evolve(signed(1, 1), age=3.0)
    assert table.envelope(A, 3.0) == far(2, 1, age=3.0)
    assert table.envelope(peer(6), 3.0) is None  # it has gone as far as it may
    assert table.envelope(peer(7), 5.0) is None  # over, though nobody called expire
    table.expire(5.0)
    assert peer(7) not in table.all_for(B)
    assert table.envelope(peer(7), 5.0) is None
    assert table.envelope(peer(8), 3.0) is None
    assert store().envelope(ME, 0.0) is None
    assert store().all_for(B) == []


def test_a_full_table_forgets_the_farthest_and_soonest_over() -> None:
    table = store(capacity=4)
    table.accept(far(10, 1, hops=5, lifetime=100), A, 0.0)
    table.accept(far(11, 1, hops=5, lifetime=50), A, 0.0)
    table.accept(far(12, 1, hops=2, lifetime=10), A, 0.0)
    table.accept(far(13, 1, hops=2, lifetime=0), A, 0.0)

    def known() -> set[int]:
        return {number for number in range(10, 30) if peer(number) in table._entries}

    assert table.accept(far(14, 1, hops=5), A, 0.0).verdict is Verdict.NEW
    assert known() == {10, 11, 12, 14}  # tombstones go first
    assert table.accept(far(15, 1, hops=6), A, 0.0).verdict is Verdict.OVERFULL
    assert table.accept(far(15, 1, hops=5, lifetime=50), A, 0.0).verdict is Verdict.OVERFULL
    assert table.accept(far(15, 1, hops=5, lifetime=60), A, 0.0).verdict is Verdict.NEW
    assert known() == {10, 12, 14, 15}  # 11 would have been over first
    assert table.accept(far(16, 1, hops=3), A, 0.0).verdict is Verdict.NEW
    assert known() == {10, 12, 14, 16}
    assert table.accept(forged(17, 1), A, 0.0).verdict is Verdict.INVALID
    assert known() == {10, 12, 14, 16}  # nobody goes for a forgery
    assert table.accept(far(18, 1, hops=1, lifetime=0), A, 0.0).verdict is Verdict.OVERFULL
    assert table.accept(far(10, 2, hops=9), A, 0.0).verdict is Verdict.NEW  # already in
    assert set(table.graph.live) == set(map(peer, known()))
    assert table.stats().evicted == 3


def known(table: AnnouncementStore) -> list[int]:
    return [number for number in range(10, 200) if table.get(peer(number)) is not None]


def test_who_has_most_in_a_full_table_makes_room() -> None:
    table = store(capacity=8)
    for number in range(10, 13):
        assert table.accept(far(number, 1, hops=4), A, 0.0).verdict is Verdict.NEW
    for number in range(20, 60):
        # nearer, fresher, for longer
        table.accept(far(number, 1, hops=1, lifetime=3600), B, 1.0 + number)
    assert [n for n in known(table) if n < 20] == [10, 11, 12]
    assert table.stats().evicted == 35
    # and they get in where B has filled everything, until both have as much
    assert table.accept(far(13, 1, hops=9), A, 70.0).verdict is Verdict.NEW
    assert table.accept(far(14, 1, hops=9), A, 70.0).verdict is Verdict.OVERFULL
    assert table.accept(far(18, 1, hops=3), C, 70.0).verdict is Verdict.NEW
    assert 18 in known(table)
    assert {share: table._shares.held(share) for share in (A, B, C)} in ({A: 3, B: 4, C: 1}, {A: 4, B: 3, C: 1})


def test_neighbors_that_may_be_one_share() -> None:
    table = store(capacity=8)
    for number in range(10, 14):
        table.accept(far(number, 1, hops=4), A, 0.0, "here")
    for number in range(20, 60):
        table.accept(far(number, 1, hops=1), peer(100 + number), 1.0 + number, "there")
    assert [n for n in known(table) if n < 20] == [10, 11, 12, 13]


def test_a_long_lifetime_is_no_rank() -> None:
    table = store(capacity=2, rank_lifetime=600.0)
    table.accept(far(10, 1, lifetime=3600), A, 0.0)
    table.accept(far(11, 1, lifetime=3600), A, 0.0)
    assert table.accept(far(12, 1, lifetime=600), A, 1.0).verdict is Verdict.NEW
    assert len(known(table)) == 2


def test_who_passes_on_quickly_does_not_own_what_others_say() -> None:
    table = store(capacity=8)
    for number in range(20, 28):
        table.accept(far(number, 1), B, 0.0)
    # of the honest ones B brings the first copy, and A another
    for number in (10, 11):
        assert table.accept(far(number, 1, hops=2, lifetime=101), B, 1.0).verdict is not Verdict.NEW
        assert table.accept(far(number, 1, hops=1, lifetime=101), B, 1.0).verdict is Verdict.NEW
        assert table.accept(far(number, 1, hops=2, lifetime=101), A, 1.0).verdict is Verdict.DUPLICATE
    for number in range(30, 60):
        table.accept(far(number, 1), B, 2.0 + number)
    assert [n for n in known(table) if n < 20] == [10, 11]
    assert sum(len(shelf.entries) for shelf in table._shared.values()) == 8
    table.expire(1000.0)
    assert not table._shared
    assert not len(table._shares)


@pytest.mark.parametrize(("capacity", "theirs", "ours", "moves"), [(7, 4, 3, False), (7, 5, 2, True), (8, 5, 2, False)])
def test_another_copy_counts_where_it_levels_a_full_table(capacity: int, theirs: int, ours: int, moves: bool) -> None:
    table = store(capacity=capacity)
    for number in range(20, 20 + theirs):
        table.accept(far(number, 1), B, 0.0)
    for number in range(10, 10 + ours):
        table.accept(far(number, 1), A, 0.0)
    assert table.accept(far(20, 1), A, 1.0).verdict is Verdict.DUPLICATE
    assert (table._shares.held(A), table._shares.held(B)) == (ours + moves, theirs - moves)


def test_a_copy_of_what_need_not_make_room_changes_nothing() -> None:
    table = store(capacity=9)
    for neighbor, numbers in ((A, range(10, 11)), (C, range(40, 43)), (B, range(20, 25))):
        for number in numbers:
            table.accept(far(number, 1), neighbor, 0.0)
    table.accept(far(40, 1), A, 1.0)
    assert [table._shares.held(neighbor) for neighbor in (A, B, C)] == [1, 5, 3]


def test_a_withdrawal_of_somebody_unknown_displaces_nobody() -> None:
    table = store(capacity=2)
    for number in (10, 11):
        table.accept(far(number, 1), A, 0.0)
    assert table.accept(far(12, 1, lifetime=0), B, 1.0).verdict is Verdict.OVERFULL
    assert known(table) == [10, 11]


def test_a_busy_origin_does_not_grow_the_heaps() -> None:
    table = store()
    for number in range(1, 500):
        assert table.accept(signed(2, number), A, 2.0 * number).verdict is Verdict.NEW
    assert sum(len(shelf._heap) for shelf in (*table._shelves, *table._shared.values())) < 90


def test_who_passes_on_quickly_does_not_end_what_others_say() -> None:
    """Age and hops are not signed: a liar says that it is nearly over, and an honest copy comes a moment later."""
    table = store()
    lie = table.accept(far(2, 1, hops=1, age=99.9), B, 0.0)
    assert lie.verdict is Verdict.NEW
    truth = table.accept(far(2, 1, hops=2, age=0.1), C, 0.05)
    assert truth.verdict is Verdict.NEW
    assert truth.forward is not None
    assert truth.forward.age == pytest.approx(0.1)
    assert table.accept(far(2, 1, hops=2, age=0.1), C, 0.06).verdict is Verdict.DUPLICATE
    table.expire(50.0)
    assert table.get(A) is not None
    envelope = table.envelope(A, 50.0)
    assert envelope is not None
    assert envelope.age == pytest.approx(0.1 + 49.95)
    assert table.expire(101.0) == [A]
    # what is over stays over, whatever a copy says
    assert table.accept(far(2, 1), C, 101.0).verdict is Verdict.DUPLICATE


def test_a_lie_about_the_age_that_has_come_true_is_corrected_too() -> None:
    table = store()
    table.accept(far(2, 1, hops=1, age=99.9), B, 0.0)
    assert table.expire(1.0) == [A]
    assert table.get(A) is None
    assert table.accept(far(2, 1, hops=2, age=0.5), C, 1.5).verdict is Verdict.NEW
    assert table.get(A) is not None
    assert len(table.graph.live) == table.stats().live == 1


def test_who_passes_on_quickly_does_not_keep_others_from_passing_on() -> None:
    table = store()
    assert table.accept(far(2, 1, hops=16), B, 0.0).forward is None
    truth = table.accept(far(2, 1, hops=2), C, 0.05)
    assert truth.forward is not None
    assert truth.forward.hops == 3
    # a shorter way of the ordinary sort is no news
    assert table.accept(far(2, 1, hops=1), B, 0.1).verdict is Verdict.DUPLICATE


def test_lies_about_the_age_are_not_passed_on_often() -> None:
    table = store()
    table.accept(far(2, 1, age=99.9), B, 0.0)
    ages = [table.accept(far(2, 1, age=99.9 - n * 0.1), B, n * 0.01).verdict for n in range(1, 999)]
    assert ages.count(Verdict.NEW) <= 7
    assert table.stats().verified == 1


def test_a_withdrawal_is_not_revived_by_a_younger_copy() -> None:
    table = store()
    table.accept(attrs.evolve(signed(2, 2, 0), hops=1, age=50.0), B, 0.0)
    assert table.accept(attrs.evolve(signed(2, 2, 0), hops=1, age=0.0), C, 0.0).verdict is Verdict.DUPLICATE
    assert table.get(A) is None


@given(
    st.lists(
        st.tuples(st.integers(2, 8), st.integers(0, 3), st.sampled_from([0, 5, 20]), st.integers(1, 3)),
        max_size=40,
    ),
    st.integers(0, 2**32),
)
def test_invariants(arrivals: list[tuple[int, int, int, int]], seed: int) -> None:
    chance = random.Random(seed)
    table = store(capacity=4, tombstone=10.0)
    now = 0.0
    for number, sequence, lifetime, hops in arrivals:
        now += chance.choice([0.0, 0.5, 4.0])
        before = table.get(peer(number))
        decision = table.accept(far(number, sequence, hops, lifetime=lifetime), chance.choice((A, B, C)), now)
        assert (decision.forward is not None) == (decision.verdict is Verdict.NEW)
        after = table.get(peer(number))
        if decision.verdict is Verdict.NEW:
            assert (after is None) == (lifetime == 0)
        else:
            assert after == before
        if chance.random() < 0.5:
            table.expire(now)
            assert all(entry.until > now for entry in table._entries.values())
        stats = table.stats()
        assert len(table._entries) <= 4
        assert stats.live == len(table.graph.live)
        assert len(table._entries) == sum(len(shelf.entries) for shelf in table._shelves)
        assert stats.live == sum(len(shelf.entries) for shelf in table._shared.values())
        assert {share: len(shelf.entries) for share, shelf in table._shared.items()} == table._shares._held


@given(st.integers(0, 2**32))
def test_flooding_reaches_everybody_once(seed: int) -> None:
    """Ten nodes, a random connected mesh, messages that overtake each other."""
    chance = random.Random(seed)
    size = 10
    links: dict[int, set[int]] = {number: set() for number in range(1, size + 1)}
    for number in range(2, size + 1):
        for other in {chance.randrange(1, number), chance.randrange(1, number)}:
            links[number].add(other)
            links[other].add(number)
    stores = {number: AnnouncementStore(peer(number)) for number in links}
    flying: deque[tuple[int, int, Envelope]] = deque()
    for number in links:
        for sequence in (1, 2):
            own = signed(number, sequence)
            stores[number].publish(own, 0.0)
            flying += [(number, neighbor, own) for neighbor in sorted(links[number])]
    delivered = 0
    while flying:
        flying.rotate(chance.randrange(len(flying)))
        source, destination, envelope = flying.popleft()
        delivered += 1
        decision = stores[destination].accept(envelope, peer(source), 0.0)
        if decision.forward is not None:
            flying += [(destination, neighbor, decision.forward) for neighbor in sorted(links[destination] - {source})]
        if decision.reply is not None:
            flying.append((destination, source, decision.reply))
    edges = sum(map(len, links.values()))
    assert delivered <= 2 * size * edges * 2
    for number, table in stores.items():
        expected = {peer(other): 2 for other in links if other != number}
        assert {origin: announcement.sequence for origin, announcement in table.graph.live.items()} == expected
