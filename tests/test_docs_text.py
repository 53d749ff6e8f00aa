"""README and pages say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import netmesh_trio
import netmesh_trio.testing
import netmesh_trio.traversal
from netmesh_trio.cli.commands import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.rst"))
README = (ROOT / "README.rst").read_text(encoding="utf-8")
REFERENCE = (DOCS / "reference.rst").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and body of each code block."""
    found = re.findall(r"^\.\. code-block:: (\w+)\n\n((?:(?:   .*)?\n)+)", text, re.MULTILINE)
    return [(language, re.sub(r"^   ", "", body, flags=re.MULTILINE).strip() + "\n") for language, body in found]


def test_the_readme_shows_an_example_that_is_run() -> None:
    [sample] = [body for language, body in blocks(README) if language == "python"]
    assert sample == (DOCS / "examples" / "first_mesh.py").read_text(encoding="utf-8")


def plain(code: str) -> str:
    """Without indentation, which is another in the middle of a file."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


TESTED = [
    plain(path.read_text(encoding="utf-8"))
    for folder in ("docs/examples", "tests")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_code_on_pages_is_run(page: Path) -> None:
    """It comes from files that tests run.  A snippet typed into a page stands in one of them, too."""
    text = page.read_text(encoding="utf-8")
    found = blocks(text)
    assert {language for language, _ in found} <= {"console", "text", "python"}
    for _, body in (block for block in found if block[0] == "python"):
        compile(body, str(page), "exec")
        assert any(plain(body) in tested for tested in TESTED), f"this is tested nowhere:\n{body}"
    assert not re.search(r"::\n\n", re.sub(r"^\.\..*", "", text, flags=re.MULTILINE))


def test_readme_and_pages_link_to_what_is_there() -> None:
    for target in re.findall(r"<([\w./-]+\.(?:rst|md))>", README):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize(
    "module", [netmesh_trio, netmesh_trio.testing, netmesh_trio.traversal], ids=lambda module: module.__name__
)
def test_every_public_name_is_in_the_reference(module: object) -> None:
    names = set(module.__all__) - {"__version__", "Event"}  # type: ignore[attr-defined]
    documented = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)", REFERENCE, re.MULTILINE))
    assert names - documented == set()


def test_every_command_and_option_is_in_the_reference() -> None:
    options = {option for parameter in cli.params for option in parameter.opts}
    for name in cli.list_commands(click.Context(cli)):
        assert f"``netmesh-trio {name}" in REFERENCE
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        options |= {o for p in command.params if isinstance(p, click.Option) for o in p.opts}
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", REFERENCE))
    assert options - documented == set()
