"""Direct paths across real NATs: all pairs of kinds, how soon they are found, and by which clock."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

import netmesh_trio
from netmesh_trio.testing.namespaces import KernelInternet
from tests.kernel.inside import CONES, KINDS, all_pairs, build_side, open_world, table

pytestmark = pytest.mark.kernel

WITHOUT_WALL_CLOCK = ("node", "paths", "routing", "session", "traversal", "wire")


async def test_all_pairs(lab: KernelInternet) -> None:
    """Direct wherever that is possible without guessing ports; else a typed reason."""
    sides = [build_side(lab, name) for name in "ab"]
    async with open_world(lab.host("r1"), lab.host("r2")) as world:
        outcomes = await all_pairs(world, *sides)
    print(table(outcomes))
    assert len(outcomes) == len(KINDS) ** 2
    wrong = [str(outcome) for outcome in outcomes if not outcome.right]
    assert not wrong, "\n".join(wrong)


async def test_time_to_direct(lab: KernelInternet) -> None:
    """The first byte on the direct path arrives within four round trips over the relay and 50 ms."""
    sides = [build_side(lab, name, CONES, delay=0.020) for name in "ab"]
    async with open_world(lab.host("r1"), lab.host("r2")) as world:
        outcomes = await all_pairs(world, *sides, at_once=1)
    arrived = [outcome.arrived for outcome in outcomes if outcome.arrived is not None]
    assert len(arrived) == len(CONES) ** 2
    rtt = 0.080
    print(f"median {statistics.median(arrived) * 1e3:.0f} ms, {statistics.median(arrived) / rtt:.2f} round trips")
    print(table(outcomes))
    assert statistics.median(arrived) <= 4 * rtt + 0.050


def test_no_wall_clock() -> None:
    """Clocks of hosts may be hours apart: nothing that two nodes agree upon reads them."""
    package = Path(netmesh_trio.__file__).parent
    readers = [
        str(path)
        for floor in WITHOUT_WALL_CLOCK
        for path in (package / floor).rglob("*.py")
        if _reads_wall_clock(ast.parse(path.read_text()))
    ]
    assert readers == []


def _reads_wall_clock(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(a.name in ("time", "datetime") for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            return True
    return False
