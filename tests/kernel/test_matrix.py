"""Direct paths across real NATs: all pairs of kinds, how soon they are found, and by which clock."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

import netmesh_trio
from netmesh_trio.testing.namespaces import KernelInternet, NatKind
from tests.kernel.inside import CONES, KINDS, all_pairs, build_side, nat_type, open_world, table
from tests.kernel.mesh import PORT, Mesh

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
        if isinstance(node, ast.Import) and any(a.name == "datetime" for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            return True
        read = node.attr if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time" else "monotonic"
        if read not in ("perf_counter", "monotonic"):  # how long something takes is nobody's time of day
            return True
    return False


# mapping and filtering in the words of RFC 4787, and whether ports are kept
ANY, HOST, BOTH = "endpoint-independent", "address-dependent", "address-and-port-dependent"
BEHAVIOR: dict[NatKind, tuple[str | None, str, bool]] = {
    "none": (ANY, ANY, True),
    "firewall": (ANY, BOTH, True),
    "full-cone": (ANY, ANY, False),
    "address-restricted": (ANY, HOST, False),
    "port-restricted": (ANY, BOTH, False),
    "port-preserving": (ANY, BOTH, True),
    # on what the mapping depends would take observers that share a host
    "symmetric": (None, BOTH, False),
    "symmetric-sequential": (None, BOTH, False),
    "double": (ANY, BOTH, False),
}


def test_netcheck(lab: KernelInternet, tmp_path: Path) -> None:
    """The command says what kind of NAT it is behind."""
    with Mesh(tmp_path) as mesh:
        for name in ("r1", "r2"):
            mesh.relay(lab.host(name))
        # strangers to those who ask: whether they let them in shows what they filter by
        for name in ("r3", "r4"):
            mesh.run(lab.host(name), "node", "--bind", f"0.0.0.0:{PORT}", *mesh.bootstrap).wait_for("ready")
        kinds = list(BEHAVIOR)
        hosts = {kind: lab.nat(f"n-{kind}", kind=kind).host(f"h-{kind}") for kind in kinds}
        found = {}
        # a few at a time: whoever helps does so within a budget
        for some in (kinds[n : n + 3] for n in range(0, len(kinds), 3)):
            programs = {kind: mesh.run(hosts[kind], "netcheck", *mesh.bootstrap) for kind in some}
            for kind, program in programs.items():
                nat = program.wait_for("nat")
                assert program.finish() == 0, program.errors
                assert nat["nat_type"] == nat_type(kind).value, kind
                assert len(nat["observers"]) >= 2, kind
                found[kind] = (nat["mapping"], nat["filtering"], nat["port_preservation"])
                print(f"{kind:21}{nat['nat_type']:10} {found[kind]} after {nat['t']:.1f} s")
    assert found == BEHAVIOR
