"""Runs of integers against a plain set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.session.ranges import RangeSet

pieces = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=40)


def members(ranges: RangeSet) -> set[int]:
    return {x for start, stop in ranges for x in range(start, stop)}


def check_shape(ranges: RangeSet) -> None:
    before = -1
    for start, stop in ranges:
        assert before < start < stop  # neither overlapping nor touching
        before = stop


@given(pieces)
def test_adding_is_the_union_and_counts_what_is_new(added: list[tuple[int, int]]) -> None:
    ranges = RangeSet()
    model: set[int] = set()
    for start, length in added:
        new = set(range(start, start + length))
        assert ranges.add(start, start + length) == len(new - model)
        model |= new
        check_shape(ranges)
        assert members(ranges) == model
    assert [x in ranges for x in range(80)] == [x in model for x in range(80)]


@given(pieces, st.integers(0, 70), st.integers(0, 20))
def test_missing_is_the_complement(added: list[tuple[int, int]], start: int, length: int) -> None:
    ranges = RangeSet()
    for low, size in added:
        ranges.add(low, low + size)
    gaps = ranges.missing(start, start + length)
    missing = {x for low, high in gaps for x in range(low, high)}
    assert missing == set(range(start, start + length)) - members(ranges)
    assert all(low < high for low, high in gaps)
    assert gaps == sorted(gaps)


@given(pieces.filter(len), st.data())
def test_forgetting_the_lowest_leaves_the_rest(added: list[tuple[int, int]], data: st.DataObject) -> None:
    ranges = RangeSet()
    for low, size in added:
        ranges.add(low, low + size)
    runs = list(ranges)
    count = data.draw(st.integers(1, len(runs)))
    assert ranges.forget_lowest(count) == runs[count - 1][1]
    assert list(ranges) == runs[count:]
    assert len(ranges) == len(runs) - count


def test_repr_names_the_runs() -> None:
    ranges = RangeSet()
    ranges.add(3, 5)
    assert repr(ranges) == "RangeSet([(3, 5)])"
