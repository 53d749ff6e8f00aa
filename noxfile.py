"""Everything that is checked before a change goes in: ``nox`` runs it, ``nox -l`` lists it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import nox
import nox.command

PROJECT = nox.project.load_toml("pyproject.toml")["project"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
NEWEST_PYTHON = PYTHONS[-1]
ROOT = Path(__file__).parent
#: Enough to know that an sdist is whole; all of them run from the checkout.
QUICK_TESTS = [
    "tests/values",
    "tests/wire",
    "tests/test_floors.py",
    "tests/test_public_api.py",
    "tests/test_docs_text.py",
]
TEST_TOOLS = (
    "coverage fastapi h11 httpx hypercorn hypothesis noiseprotocol prometheus-client pytest pytest-timeout pytest-trio"
    " pytest-xdist segno trio-websocket trustme uvicorn"
).split()

nox.needs_version = ">=2024.4"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
# An interpreter that is missing is skipped, and nox says so.
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "docs", "package", "tests", "kernel"]


def _offer_all_pyenv_versions() -> None:
    """Without this, pyenv has a command for each Python but lets only the chosen one start."""
    if "PYENV_VERSION" in os.environ or shutil.which("pyenv") is None:
        return
    listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True)
    versions = [line.strip() for line in listed.stdout.splitlines()]
    usable = [v for v in versions if re.fullmatch(r"3\.1[0-3]\.\d+", v)]
    if usable:
        os.environ["PYENV_VERSION"] = ":".join(sorted(usable, key=lambda v: v.split(".")))


_offer_all_pyenv_versions()


def _test_requirements() -> list[str]:
    """Those of the extra ``dev`` that tests need: no type checkers, linters or nox."""
    dev: list[str] = PROJECT["optional-dependencies"]["dev"]
    return [line for line in dev if re.split(r"[^\w-]", line)[0] in TEST_TOOLS]


def _oldest() -> list[str]:
    """The lower bound of each dependency, as an exact requirement."""
    dependencies: list[str] = PROJECT["dependencies"]
    return [re.sub(r">=\s*", "==", line) for line in dependencies]


def _pytest(session: nox.Session, *arguments: str) -> None:
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("dependencies", [nox.param(name, id=name) for name in ("oldest", "newest")])
def tests(session: nox.Session, dependencies: str) -> None:
    """All tests but those of the kernel, with the oldest and the newest supported dependencies."""
    pins = _oldest() if dependencies == "oldest" else ["--upgrade", "--upgrade-strategy=eager"]
    session.install("-e", ".", *_test_requirements(), *pins)
    try:
        _pytest(session, "-m", "not kernel", "--numprocesses=auto", "--dist=worksteal")
    except nox.command.CommandFailed:
        # Some tests measure time on a machine that others use, too: what fails counts if it fails again, alone.
        session.run("python", "-m", "pytest", "--last-failed", "--last-failed-no-failures=none")


@nox.session(python=NEWEST_PYTHON)
def coverage(session: nox.Session) -> None:
    """All tests, and which lines and branches they reach."""
    session.install("-e", ".", *_test_requirements())
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Types, by two checkers that disagree often enough."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "netmesh_trio", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, in docs/_build/html; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """Wheel and sdist: built, complete, installed as a user does, and run."""
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    session.install("build", "twine")
    session.run("python", "-m", "build", "-q", "--outdir", str(folder / "dist"))
    [wheel], [sdist] = ((folder / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))

    # The wheel, with nothing else of ours, and away from the checkout.
    session.run("python", "-m", "venv", "--clear", str(folder / "venv"))
    python = str(folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", str(wheel), external=True)
    with session.chdir(folder):
        session.run(python, "-I", str(ROOT / "tests" / "smoke.py"), PROJECT["version"], external=True)
        # The sdist, by its own tests.
        shutil.rmtree(folder / "sdist", ignore_errors=True)
        shutil.unpack_archive(sdist, folder / "sdist", filter="data")
        session.run(python, "-m", "pip", "install", "-q", *_test_requirements(), external=True)
    [unpacked] = (folder / "sdist").iterdir()
    with session.chdir(unpacked):
        session.run(python, "-m", "pytest", "-q", *(session.posargs or QUICK_TESTS), external=True)


@nox.session
def api(session: nox.Session) -> None:
    """Write tests/public-api.txt anew, after a change of the public interface that is meant."""
    session.install("-e", ".")
    session.run("python", "-m", "tests.public_api")


@nox.session
def kernel(session: nox.Session) -> None:
    """NATs of the Linux kernel in network namespaces; needs root and nftables."""
    session.install("-e", ".", *_test_requirements())
    _pytest(session, "-m", "kernel")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Every benchmark, beside the peers that PyPI offers: ``nox -s benchmarks -- bulk --runs 5``."""
    session.install(".", "-r", "benchmarks/rivals.txt")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The demonstration, from an installation as a user has it."""
    session.install(".")
    session.run("netmesh-trio", "demo", *session.posargs)
