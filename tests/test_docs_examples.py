"""Every program in docs/examples runs, as a reader would run it.

An example has a ``main`` without parameters, async or not, that comes to an end by itself, and may
run it when started as a script.  A folder with a ``pytest.ini`` is a project with tests of its own.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

FOLDER = Path(__file__).parent.parent / "docs" / "examples"
PROJECTS = sorted(path.parent for path in FOLDER.glob("*/pytest.ini"))
PROGRAMS = FOLDER / "programs"
EXAMPLES = sorted(path for path in FOLDER.glob("**/*.py") if path.parent not in [*PROJECTS, PROGRAMS])
TIME_LIMIT = 60  # seconds of trio's clock


def run_example(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"docs_example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main = getattr(module, "main", None)
    assert callable(main), f"{path.name} has no main()"
    assert not inspect.signature(main).parameters, f"main() of {path.name} takes parameters"
    if not inspect.iscoroutinefunction(main):
        main()
        return

    async def limited() -> None:
        with trio.fail_after(TIME_LIMIT):
            await main()

    trio.run(limited)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What an example writes goes where nobody looks.
    monkeypatch.chdir(tmp_path)
    run_example(path)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_project(project: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^\d+ passed in ", result.stdout, re.MULTILINE), result.stdout


def test_two_programs_talk(tmp_path: Path) -> None:
    """As in two terminals: what the first prints is typed into the second."""
    greeter = [sys.executable, str(PROGRAMS / "greeter.py")]
    with subprocess.Popen(greeter, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            words = first.stdout.readline().split()
            assert words[:2] == ["python", "caller.py"]
            caller = [sys.executable, str(PROGRAMS / words[1]), *words[2:]]
            second = subprocess.run(caller, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        finally:
            first.terminate()
    assert re.match(r"Hello caller, you are \w{8} \| <Peer \w{8}, direct at 127.0.0.1:", second.stdout), second.stderr


def test_every_example_is_documented() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in FOLDER.parent.glob("**/*.rst"))
    files = [
        *EXAMPLES,
        *PROGRAMS.glob("*.py"),
        *(path for project in PROJECTS for path in project.iterdir() if path.is_file()),
    ]
    orphans = [path.name for path in files if f"examples/{path.relative_to(FOLDER).as_posix()}" not in pages]
    assert orphans == [], "shown on no page"


@pytest.mark.parametrize("prefix", ["", "async "])
def test_a_main_is_run(tmp_path: Path, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "example.py"
    path.write_text(f"{prefix}def main():\n    print('ran')\n")
    run_example(path)
    assert capsys.readouterr().out == "ran\n"


@pytest.mark.parametrize("prefix", ["", "async "])
def test_a_failing_main_fails(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "example.py"
    path.write_text(f"{prefix}def main():\n    raise ZeroDivisionError\n")
    with pytest.raises(ZeroDivisionError):
        run_example(path)


@pytest.mark.parametrize("source", ["", "main = 1", "def main(x): pass"])
def test_an_example_without_a_main_fails(tmp_path: Path, source: str) -> None:
    path = tmp_path / "example.py"
    path.write_text(source)
    with pytest.raises(AssertionError, match="main"):
        run_example(path)
