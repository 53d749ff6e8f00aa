"""README and pages say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import netmesh_trio
import netmesh_trio.anyio
import netmesh_trio.lowlevel
import netmesh_trio.testing
import netmesh_trio.traversal
from netmesh_trio.cli.commands import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.rst"))
README = (ROOT / "README.rst").read_text(encoding="utf-8")
COMMAND_LINE = (DOCS / "command-line.rst").read_text(encoding="utf-8")
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
    "module",
    [netmesh_trio, netmesh_trio.anyio, netmesh_trio.lowlevel, netmesh_trio.testing, netmesh_trio.traversal],
    ids=lambda module: module.__name__,
)
def test_every_public_name_is_in_the_reference(module: object) -> None:
    names = set(module.__all__) - {"__version__", "Event"}  # type: ignore[attr-defined]
    documented = set(re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)", REFERENCE, re.MULTILINE))
    assert names - documented == set()


def sections(text: str, underline: str) -> dict[str, str]:
    """The sections with that kind of heading, by their titles."""
    parts = re.split(rf"^(.+)\n\{underline}{{4,}}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options(text: str) -> set[str]:
    """The options that a definition list names."""
    terms = re.findall(r"^(``-.+)\n   \S", text, re.MULTILINE)
    return {option for term in terms for option in re.findall(r"``(--?[a-z][a-z-]*)", term)}


def test_every_command_and_option_is_documented() -> None:
    pages = sections(COMMAND_LINE, "-")
    common = options(pages["Common options"])
    documented = sections(pages["Commands"], "~")
    assert common <= {o for p in cli.commands["ping"].params for o in p.opts}
    for name, command in cli.commands.items():
        text = documented[f"netmesh-trio {name}"]
        own = {o for p in command.params if isinstance(p, click.Option) for o in p.opts} - common - {"-v", "--verbose"}
        assert options(text) == own, name
        usage = text.strip().splitlines()[0]
        assert usage.startswith(f"``netmesh-trio {name}")
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                assert parameter.human_readable_name in usage
    assert documented.keys() - {f"netmesh-trio {name}" for name in cli.commands} <= {"Streams of the service"}
