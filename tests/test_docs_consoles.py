"""What README and pages tell people to type: commands that there are, with the options and arguments that they take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from netmesh_trio.cli.commands import cli

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("**/*.rst"))]

#: Programs of others that we name.
OTHERS = frozenset(
    (
        ". cd curl docker grep install journalctl mkdir nox pip podman pytest python python3 sphinx-build ssh sudo"
        " sysctl systemctl uvicorn"
    ).split()
)
THEIRS = ("build", "pip", "pytest", "trio", "venv")


def typed(text: str) -> Iterator[str]:
    """Each line that is typed at a prompt of a console block, continued lines joined.

    The prompt is ``$`` or ``alice$``; where there is none of those, ``#``, which in other blocks begins some output.
    """
    for block in re.findall(r"^\.\. code-block:: console\n(?:   :.*\n)*\n((?:(?:   .*)?\n)+)", text, re.MULTILINE):
        joined = re.sub(r"\\\n +(?:> )?", "", block)
        lines = re.findall(r"^   \w*\$ (.+)", joined, re.MULTILINE)
        yield from lines or re.findall(r"^   # (.+)", joined, re.MULTILINE)


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without assignments in front."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in {"|", "&&", "||", ";", "&"}:
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words:
                yield words
            words = []
        elif word in {"<", ">", ">>"}:
            continue
        else:
            words.append(word)


def fault(words: list[str]) -> str | None:
    """What is wrong with a command, or None."""
    program, *arguments = words
    program = program.rpartition("/")[2]
    if program == "sudo":
        return fault(arguments)
    if program == "netmesh-trio":
        return fault_of_ours(arguments)
    if program in {"python", "python3"} and arguments[:1] == ["-m"]:
        path = ROOT.joinpath(*arguments[1].split("."))
        ours = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        return None if ours or arguments[1] in THEIRS else f"no module {arguments[1]!r} that we name"
    return None if program in OTHERS else f"no program {program!r} that we name"


def fault_of_ours(arguments: list[str]) -> str | None:
    if any(word.startswith("[") or (word.isupper() and word.isalpha()) for word in arguments[:2]):
        return None  # a synopsis
    root = click.Context(cli, info_name="netmesh-trio", resilient_parsing=True)
    try:
        cli.make_parser(root).parse_args(list(arguments))
        rest = [word for word in arguments if word not in {"-v", "--verbose"}]
        if not rest or rest[0] in {"--version", "--help", "-h"}:
            return None
        command = cli.get_command(root, rest[0])
        if command is None:
            return f"no command {rest[0]!r}"
        context = click.Context(command, parent=root, info_name=rest[0])
        values, left, _ = command.make_parser(context).parse_args(rest[1:])
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"{rest[0]} takes no {left}"
    for parameter in command.params:
        # What is missing is None or, in newer versions, a mark of click's own.
        given = values.get(parameter.name or "")
        if isinstance(parameter, click.Argument) and parameter.required and not isinstance(given, str):
            return f"{rest[0]} wants {parameter.human_readable_name}"
    return None


def test_there_is_something_to_check() -> None:
    assert len([line for path in TEXTS for line in typed(path.read_text(encoding="utf-8"))]) > 20


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_typed_exists(path: Path) -> None:
    lines = typed(path.read_text(encoding="utf-8"))
    faults = {line: wrong for line in lines for words in commands(line) if (wrong := fault(words))}
    assert faults == {}


@pytest.mark.parametrize(
    "line",
    [
        "netmesh-trio pong PEER-ID",
        "netmesh-trio ping",
        "netmesh-trio ping a b",
        "netmesh-trio ping PEER-ID --until-relayed",
        "netmesh-trio demo --size",
        "netmesh-trio identity && netmesh-trio nodes",
        "FOO=1 .venv/bin/netmesh-trio ping PEER-ID --frobnicate",
        "python -m netmesh_trio.clients",
        "netcat 127.0.0.1",
        "sudo netmesh-trio nod",
    ],
)
def test_what_does_not_exist_is_found(line: str) -> None:
    assert any(fault(words) for words in commands(line))


def test_continued_lines_and_prompts_are_read() -> None:
    head = ".. code-block:: console\n\n"
    text = head + "   $ one \\\n       two\n   output\n   bob$ three | four\n   # output\n\nText\n"
    assert list(typed(text)) == ["one two", "three | four"]
    assert list(typed(head + "   # as root\n   # no output\n")) == ["as root", "no output"]
    assert list(commands("A=1 x 'y z' > f | b && c")) == [["x", "y z", "f"], ["b"], ["c"]]
