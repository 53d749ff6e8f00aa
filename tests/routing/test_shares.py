from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.routing import Shares


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
