from __future__ import annotations

import pytest

from netmesh_trio.traversal.lifetime import WAITS, LifetimeSearch, keep_alive_for


def search(lifetime: float) -> tuple[list[float], LifetimeSearch]:
    """The waits tried against a NAT that forgets after so many seconds."""
    found = LifetimeSearch()
    tried = []
    while (wait := found.wait) is not None:
        tried.append(wait)
        found.record(wait < lifetime)
    return tried, found


@pytest.mark.parametrize(
    ("lifetime", "tried", "alive", "gone"),
    [
        (5, [30, 15, 7.5], 0, 7.5),
        (10, [30, 15, 7.5], 7.5, 15),
        (20, [30, 15], 15, 30),
        (45, [30, 60], 30, 60),
        (90, [30, 60, 120], 60, 120),
        (180, [30, 60, 120, 300], 120, 300),
        (3600, [30, 60, 120, 300], 300, None),
    ],
)
def test_a_search(lifetime: float, tried: list[float], alive: float, gone: float | None) -> None:
    waits, found = search(lifetime)
    assert waits == tried
    assert (found.alive, found.gone) == (alive, gone)
    assert found.wait is None
    with pytest.raises(ValueError, match="over"):
        found.record(True)


def test_waits_grow() -> None:
    assert list(WAITS) == sorted(set(WAITS))


@pytest.mark.parametrize(
    ("wanted", "alive", "gone", "expected"),
    [
        (25, 0, None, 25),  # nothing is known
        (25, 300, None, 25),
        (25, 60, 120, 25),
        (25, 30, 60, 22.5),  # forgets between 30 and 60: 25 would do, but not if one keep-alive is late
        (25, 15, 30, 11.25),
        (25, 0, 7.5, 2.8125),
        (5, 7.5, 15, 5),
        (2, 0, 7.5, 2),
    ],
)
def test_keep_alives(wanted: float, alive: float, gone: float | None, expected: float) -> None:
    assert keep_alive_for(wanted, alive, gone) == expected
