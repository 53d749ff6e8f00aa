"""Whether another program runs with our key."""

from __future__ import annotations

import pytest

from netmesh_trio import Identity
from netmesh_trio.routing.announcements import Announcement, withdrawal
from netmesh_trio.routing.doubles import CERTAIN, KeyWatch

ME = Identity(bytes(32)).peer_id
STARTED = 1000.0


def said(sequence: int) -> Announcement:
    return Announcement(peer_id=ME, sequence=sequence)


def test_one_that_goes_beyond_our_answer_is_of_another_program() -> None:
    watch = KeyWatch(STARTED)
    assert not watch.hear(said(5), 3.0, 1, STARTED + 100)
    assert not watch.is_certain(STARTED + 100)
    # we answer with 6
    assert watch.hear(said(7), 0.0, 6, STARTED + 101)
    assert watch.announcements == 2
    assert watch.is_certain(STARTED + 101)
    assert not watch.is_certain(STARTED + 101 + CERTAIN)


def test_two_that_both_said_the_same_number() -> None:
    watch = KeyWatch(STARTED)
    assert not watch.hear(said(2), 0.0, 2, STARTED + 100)
    assert watch.hear(said(3), 0.0, 3, STARTED + 101)


def test_before_we_answered_nothing_is_certain() -> None:
    watch = KeyWatch(STARTED)
    for sequence in (5, 5, 6, 7):  # from several neighbors, what they have of an earlier life
        assert not watch.hear(said(sequence), 3.0, 1, STARTED + 100)
    assert watch.highest == 7
    assert watch.announcements == 3  # but the copy
    assert not watch.hear(said(7), 3.0, 8, STARTED + 101)
    assert watch.announcements == 3


@pytest.mark.parametrize("age", [100.0, 600.0, 91.0])
def test_what_was_made_before_we_began_is_of_our_earlier_life(age: float) -> None:
    watch = KeyWatch(STARTED)
    for sequence in range(1, 20):
        assert not watch.hear(said(2 * sequence), age, 2 * sequence - 1, STARTED + 100)
    assert watch.announcements == 0
    assert watch.highest == 38


def test_the_age_does_not_count_the_way() -> None:
    watch = KeyWatch(STARTED)
    for sequence in (5, 7):
        assert not watch.hear(said(sequence), 0.0, sequence - 1, STARTED + 3)
    assert watch.announcements == 0


def test_a_program_that_leaves_is_no_more() -> None:
    watch = KeyWatch(STARTED)
    watch.hear(said(5), 0.0, 1, STARTED + 100)
    watch.hear(said(7), 0.0, 6, STARTED + 101)
    assert not watch.hear(withdrawal(ME, 9), 0.0, 8, STARTED + 102)
    assert not watch.is_certain(STARTED + 102)
    assert watch.highest == 9
    assert not watch.hear(said(11), 0.0, 10, STARTED + 200)
    assert watch.hear(said(13), 0.0, 12, STARTED + 201)
