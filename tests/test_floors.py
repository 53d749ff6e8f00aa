"""The floors: imports go down only, and the core has no clock, chance or I/O.

Read from the source, so an import for type checkers or inside a function counts like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "netmesh_trio"

# By the longest prefix that fits.
FLOORS = {
    f"{PACKAGE}.{name}": floor
    for floor, names in enumerate(
        [
            # wire.errors is DecodeError alone, which addresses raise when they are unpacked; NodeConfig holds a
            # TraversalConfig, and events hold a NatType and errors of traversal.
            "identity addresses buckets checks config errors events octets reprs stats wire.errors"
            " traversal.classify traversal.config traversal.errors",
            "wire",
            "session paths",
            "traversal routing",
            "node",
            "lowlevel",
            "cli testing anyio __main__",
        ]
    )
    for name in names.split()
}
# The door of most programs, and of what stands above it.
FLOORS[PACKAGE] = FLOORS[f"{PACKAGE}.lowlevel"]

SANS_IO = ("wire", "session", "paths")
FORBIDDEN_MODULES = frozenset(
    "anyio asyncio datetime importlib multiprocessing random secrets select selectors signal socket"
    " socketserver ssl subprocess threading time trio uuid".split()
)
FORBIDDEN_NAMES = frozenset({"os.urandom", "os.getrandom", "nacl.utils.random"})


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def floor_of(module: str) -> int:
    prefix = module
    while prefix not in FLOORS or (prefix == PACKAGE and module != PACKAGE):
        prefix = prefix.rpartition(".")[0]
        if not prefix:
            raise LookupError(f"{module} is on no floor: put it on one in {Path(__file__).name}")
    return FLOORS[prefix]


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported; for ``from a import b`` that is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, base] if base else kept)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def climbs(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports that go up a floor."""
    found = []
    for line, name in imports(ast.parse(source), module, is_package=is_package):
        if name != PACKAGE and not name.startswith(PACKAGE + "."):
            continue
        # "from netmesh_trio import Node" is an import of netmesh_trio: its names are not modules.
        target = name
        while target not in SOURCES and target not in FLOORS and target != PACKAGE:
            target = target.rpartition(".")[0]
        if floor_of(target) > floor_of(module):
            found.append(f"{module}:{line} imports {name}")
    return found


def impurities(source: str, module: str) -> list[str]:
    """What a sans-IO module takes from the world instead of from its arguments."""
    tree = ast.parse(source)
    found = [
        f"{module}:{line} imports {name}"
        for line, name in imports(tree, module, is_package=False)
        if name.partition(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_NAMES
    ]
    found += [
        f"{module}:{node.lineno} uses {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in FORBIDDEN_NAMES
    ]
    return found


def definitions(source: str) -> list[str]:
    """What an ``__init__`` does besides re-exporting."""
    found = []
    for position, node in enumerate(ast.parse(source).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if [ast.unparse(target) for target in targets] in (["__all__"], ["__version__"]):
                continue
        found.append(f"line {node.lineno}: {ast.unparse(node).partition(chr(10))[0]}")
    return found


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 10
    assert {"netmesh_trio", "netmesh_trio.errors", "netmesh_trio.wire.errors"} <= SOURCES.keys()


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module: str) -> None:
    path = SOURCES[module]
    source = path.read_text(encoding="utf-8")
    assert climbs(source, module, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("module", [m for m in SOURCES if m.split(".")[1:2] and m.split(".")[1] in SANS_IO])
def test_the_core_has_no_clock_chance_or_io(module: str) -> None:
    assert impurities(SOURCES[module].read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize("module", [m for m, path in SOURCES.items() if path.name == "__init__.py"])
def test_an_init_defines_nothing(module: str) -> None:
    assert definitions(SOURCES[module].read_text(encoding="utf-8")) == []


# The checks themselves


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("netmesh_trio.errors", "import netmesh_trio"),
        ("netmesh_trio.errors", "from netmesh_trio import Node"),
        ("netmesh_trio.errors", "from netmesh_trio import wire"),
        ("netmesh_trio.errors", "from netmesh_trio.wire import frames"),
        ("netmesh_trio.errors", "from .wire.frames import Frame"),
        ("netmesh_trio.errors", "from . import wire"),
        ("netmesh_trio.wire.frames", "import netmesh_trio.session.noise as noise"),
        ("netmesh_trio.wire.frames", "from ..session import noise"),
        ("netmesh_trio.wire.frames", "def f():\n    from netmesh_trio.paths import x"),
        ("netmesh_trio.session.x", "if TYPE_CHECKING:\n    from netmesh_trio.node.y import Node"),
        ("netmesh_trio.paths.x", "from netmesh_trio.routing import table"),
        ("netmesh_trio.routing.x", "try:\n    import netmesh_trio.node\nexcept ImportError: pass"),
        ("netmesh_trio.node.x", "from netmesh_trio.testing import Internet"),
        ("netmesh_trio.node.x", "from netmesh_trio import lowlevel"),
        ("netmesh_trio", "from netmesh_trio.cli import main"),
    ],
)
def test_climbing_is_found(module: str, source: str) -> None:
    assert len(climbs(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("netmesh_trio.addresses", "from netmesh_trio.wire.errors import DecodeError"),
        ("netmesh_trio.wire.frames", "from netmesh_trio.errors import NetmeshError"),
        ("netmesh_trio.session.x", "from netmesh_trio.paths.rtt import RttEstimator"),
        ("netmesh_trio.node.x", "from netmesh_trio import errors, session"),
        ("netmesh_trio.cli.main", "import netmesh_trio\nfrom netmesh_trio import open_node"),
        ("netmesh_trio", "from netmesh_trio.node import open_node"),
        ("netmesh_trio.wire.frames", "import trio, netmesh_trio_other"),
    ],
)
def test_going_down_is_fine(module: str, source: str) -> None:
    assert climbs(source, module) == []


def test_a_relative_import_in_an_init_is_of_its_own_folder() -> None:
    assert climbs("from .frames import Frame", "netmesh_trio.wire", is_package=True) == []
    assert len(climbs("from ..node import x", "netmesh_trio.wire", is_package=True)) == 1


def test_a_module_without_a_floor_is_found() -> None:
    with pytest.raises(LookupError, match="netmesh_trio.helpers is on no floor"):
        floor_of("netmesh_trio.helpers")


@pytest.mark.parametrize(
    "source",
    [
        "import trio",
        "import trio.lowlevel as t",
        "from trio import sleep",
        "if TYPE_CHECKING:\n    import socket",
        "def f():\n    import time",
        "from random import Random",
        "from os import urandom",
        "import os\nx = os.urandom(4)",
        "import nacl.utils\nx = nacl.utils.random(4)",
        "from nacl.utils import random",
    ],
)
def test_impurities_are_found(source: str) -> None:
    assert len(impurities(source, "netmesh_trio.wire.x")) == 1


def test_purity_is_fine() -> None:
    assert impurities("import os, struct\nimport attrs\nx = os.path", "netmesh_trio.wire.x") == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("", 0),
        ('"""Doc."""\nfrom __future__ import annotations\nfrom a import b\n__all__ = ["b"]', 0),
        ('__version__: str = "1"', 0),
        ("x = 1", 1),
        ("def f(): pass", 1),
        ("class C: pass", 1),
        ("from a import b\nb()", 1),
        ("if TYPE_CHECKING:\n    import a", 1),
    ],
)
def test_definitions_are_found(source: str, count: int) -> None:
    assert len(definitions(source)) == count
