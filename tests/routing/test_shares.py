from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.routing import Places, Shares


def test_who_holds_most() -> None:
    shares: Shares[str] = Shares()
    assert (len(shares), shares.most, shares.held("a")) == (0, 0, 0)
    with pytest.raises(KeyError):
        shares.greatest()
    for holder in "abbac":
        shares.add(holder)
    assert (len(shares), shares.most, shares.greatest()) == (3, 2, "b")
    shares.remove("b")
    assert shares.greatest() == "a"
    for holder in "bca":
        shares.remove(holder)
    assert (len(shares), shares.most, shares.greatest()) == (1, 1, "a")
    shares.remove("a")
    assert (len(shares), shares.most) == (0, 0)
    with pytest.raises(KeyError):
        shares.remove("a")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"))))
def test_against_counting(steps: list[tuple[bool, str]]) -> None:
    shares: Shares[str] = Shares()
    counted: Counter[str] = Counter()
    for add, holder in steps:
        if add:
            shares.add(holder)
            counted[holder] += 1
        elif counted[holder]:
            shares.remove(holder)
            counted[holder] -= 1
        assert shares.most == max(counted.values(), default=0)
        assert len(shares) == sum(1 for count in counted.values() if count)
        if shares.most:
            assert counted[shares.greatest()] == shares.most


def test_a_place_is_given_up_by_whoever_has_most() -> None:
    places: Places[str, int] = Places()
    assert not places.may_displace("a")
    with pytest.raises(KeyError):
        places.idlest(abs)
    for place in (3, -1, 2):
        places.add("a", place)
    places.add("b", 0)
    assert (places.holders, places.held("a"), places.held("b")) == (2, 3, 1)
    # who would have as many then, or has most, gets nothing from others
    assert [places.may_displace(holder) for holder in "abc"] == [False, True, True]
    assert places.idlest(abs) == -1
    places.remove("a", -1)
    assert [places.may_displace(holder) for holder in "abc"] == [False, False, True]
    with pytest.raises(KeyError):
        places.remove("b", 2)
    for place in (2, 3):
        places.remove("a", place)
    assert (places.holders, places.idlest(abs)) == (1, 0)


def test_few_places_are_looked_at_and_each_in_turn() -> None:
    places: Places[str, int] = Places()
    for place in range(100):
        places.add("a", place)
    looked_at: list[list[int]] = []

    def last_used(place: int) -> int:
        looked_at[-1].append(place)
        return -place

    found = []
    for _ in range(4):
        looked_at.append([])
        found.append(places.idlest(last_used))
    assert [len(places) for places in looked_at] == [32] * 4
    assert {place for places in looked_at for place in places} == set(range(100))
    assert found[:3] == [31, 63, 95]
