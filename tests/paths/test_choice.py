"""Which path: a table, and no flapping."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.paths.choice import better_path, choose_path
from netmesh_trio.paths.path import Path


def path(kind: str, rtt: float | None = None, *, usable: bool = True, suspect: bool = False) -> Path:
    key = b"circuit1" if kind == "relayed" else (0, Address("192.0.2.1", 1))
    made = Path(key, via=None, mtu_limit=1400, now=0.0)
    made.validated = usable
    made.suspect = suspect
    if rtt is not None:
        made.rtt.sample(rtt, 0.0)
    return made


@pytest.mark.parametrize(
    ("candidate", "present", "better"),
    [
        (("direct", 0.2), ("relayed", 0.01), True),
        (("relayed", 0.01), ("direct", 0.2), False),
        (("direct", None), ("relayed", 0.01), True),
        (("direct", 0.05), ("direct", 0.1), True),
        (("direct", 0.079), ("direct", 0.1), False),
        (("direct", 0.001), ("direct", 0.004), False),
        (("direct", None), ("direct", 0.1), False),
        (("relayed", 0.05), ("relayed", None), False),
        (("relayed", 0.05), ("relayed", 0.1), True),
    ],
)
def test_better(candidate: tuple[str, float | None], present: tuple[str, float | None], better: bool) -> None:
    assert better_path(path(*candidate), path(*present)) is better


@pytest.mark.parametrize("controlling", [True, False])
def test_a_path_that_answers_is_left_by_the_controlling_side_only(controlling: bool) -> None:
    relayed, direct = path("relayed", 0.1), path("direct", 0.1)
    assert choose_path(relayed, [relayed, direct], controlling=controlling) is (direct if controlling else relayed)
    assert choose_path(direct, [relayed, direct], controlling=controlling) is direct
    assert choose_path(None, [relayed, direct], controlling=controlling) is direct


@pytest.mark.parametrize("controlling", [True, False])
def test_a_path_that_does_not_answer_is_left_for_any_that_does(controlling: bool) -> None:
    direct, relayed = path("direct", 0.01, suspect=True), path("relayed", 0.5)
    assert choose_path(direct, [direct, relayed], controlling=controlling) is relayed
    relayed.suspect = True
    assert choose_path(direct, [direct, relayed], controlling=controlling) is direct
    direct.failed = True
    assert choose_path(direct, [direct, relayed], controlling=controlling) is None
    assert choose_path(None, [path("direct", usable=False)], controlling=controlling) is None


def test_two_good_paths_do_not_alternate_though_traffic_slows_the_one_in_use() -> None:
    rng = random.Random(1)
    first, second = path("direct", 0.020), path("direct", 0.022)
    present: Path | None = first
    switches = 0
    for _ in range(2000):
        for each in (first, second):
            queue = rng.uniform(0, 0.2) if each is present else 0.0
            each.rtt.sample(0.02 + queue + rng.uniform(0, 0.004), 0.0)
        best = choose_path(present, [first, second], controlling=True)
        switches += best is not present
        present = best
    assert switches == 0
