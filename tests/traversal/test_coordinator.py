from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from netmesh_trio.identity import PeerId
from netmesh_trio.traversal.coordinator import Neighbor, choose_coordinator

T, A, B, C, D = (PeerId(bytes([n]) * 32) for n in range(5))
RELAY = Neighbor(relay_capable=True, rtt=0.1)
PLAIN = Neighbor(relay_capable=False, rtt=0.01)


@pytest.mark.parametrize(
    ("neighbors", "extra", "chosen"),
    [
        ({}, {}, None),
        ({T: RELAY}, {}, None),  # who is a neighbor itself needs no introduction
        ({A: PLAIN}, {}, A),
        ({A: PLAIN, B: RELAY}, {}, B),
        ({A: PLAIN, B: RELAY}, {"forwarding": A}, A),
        ({A: PLAIN, B: RELAY}, {"forwarding": C}, B),
        ({A: PLAIN, B: RELAY}, {"forwarding": A, "exclude": {A}}, B),
        ({A: PLAIN, B: RELAY}, {"exclude": {A, B}}, None),
        ({A: RELAY, B: RELAY}, {"target_relays": {A}}, A),
        ({A: PLAIN, B: RELAY}, {"target_relays": {A}}, B),
        ({A: PLAIN, B: PLAIN}, {"target_relays": {B}}, B),
        ({A: RELAY, B: Neighbor(True, 0.2)}, {}, A),
        ({A: Neighbor(True), B: Neighbor(True, 9.0)}, {}, B),
    ],
)
def test_choice(neighbors: dict[PeerId, Neighbor], extra: dict[str, Any], chosen: PeerId | None) -> None:
    for seed in range(10):
        assert choose_coordinator(T, neighbors, random.Random(seed).randrange, **extra) == chosen


def test_the_load_is_spread_over_all_but_the_slowest() -> None:
    neighbors = {p: Neighbor(True, 0.01 * n) for n, p in enumerate((A, B, C, D), 1)}
    draw = random.Random(1).randrange
    counts = Counter(choose_coordinator(T, neighbors, draw) for _ in range(6000))
    # the faster of two different ones of four: 3, 2, 1, 0 sixths
    assert [round(counts[p] / 1000) for p in (A, B, C, D)] == [3, 2, 1, 0]


def test_it_is_a_function_of_its_arguments() -> None:
    neighbors = dict.fromkeys((A, B, C, D), RELAY)
    backwards = dict(reversed(neighbors.items()))
    for seed in range(20):
        assert choose_coordinator(T, neighbors, random.Random(seed).randrange) == choose_coordinator(
            T, backwards, random.Random(seed).randrange
        )
