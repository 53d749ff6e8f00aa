"""The pytest plugin, as the test suite of somebody else uses it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

HEAD = """
import pytest
import trio
import trio.testing
from netmesh_trio import PathKind
"""


def run_pytest(
    folder: Path, source: str, *options: str, ini: str = "trio_mode = true"
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: what is imported, and when, is part of the matter."""
    (folder / "test_it.py").write_text(HEAD + textwrap.dedent(source))
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n{ini}\n")
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


def check(result: subprocess.CompletedProcess[str], outcome: str) -> str:
    assert outcome in result.stdout.splitlines()[-1], result.stdout + result.stderr
    return result.stdout


def test_virtual_time_needs_no_clock_in_the_signature(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        async def test_hour(virtual_internet):
            assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
            assert virtual_internet.seed == 0
            await trio.sleep(3600)

        @pytest.mark.virtual_internet(seed=7, delay=0.1)
        async def test_settings(virtual_internet):
            assert virtual_internet.seed == 7
            assert virtual_internet.host("x").link.outbound.delay == 0.1

        async def test_own_clock(virtual_internet, mock_clock):
            assert trio.lowlevel.current_clock() is mock_clock
            mock_clock.jump(5)
            assert trio.current_time() == 5

        async def test_other_tests_keep_theirs():
            assert not isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)

        ran = []

        def run(main, **options):
            ran.append(type(options["clock"]).__name__)
            return trio.run(main, **options)

        @pytest.mark.trio(run=run)
        async def test_own_run_function(virtual_internet):
            assert ran == ["MockClock"]

        async def test_failing():
            raise ZeroDivisionError

        async def test_failing_on_a_mesh(mesh):
            raise ZeroDivisionError
        """,
    )
    output = check(result, "2 failed, 5 passed")
    # the test's own error comes out as without the fixtures, in whatever pytest-trio wraps it
    reasons = re.findall(r"^FAILED test_it.py::test_failing.* - (\w+)", output, re.MULTILINE)
    assert len(reasons) == 2
    assert len(set(reasons)) == 1


def test_mesh_behind_the_nats_of_the_marker_or_the_parameters(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        pytestmark = pytest.mark.mesh(bob="full-cone")

        def behaviors(mesh):
            return [[nat.behavior.mapping.name for nat in mesh.host(node).nats] for node in (mesh.alice, mesh.bob)]

        async def test_module(mesh):
            assert behaviors(mesh) == [["ENDPOINT_INDEPENDENT"], ["ENDPOINT_INDEPENDENT"]]
            peer = await mesh.connect()
            with trio.fail_after(60):
                await peer.wait_direct()

        @pytest.mark.mesh("symmetric", "symmetric", delay=0.1)
        async def test_closest_wins(mesh, virtual_internet):
            assert mesh.net is virtual_internet
            assert behaviors(mesh)[0] == ["ADDRESS_AND_PORT_DEPENDENT"]
            assert mesh.host(mesh.alice).link.outbound.delay == 0.1
            peer = await mesh.connect()
            await trio.sleep(600)
            assert peer.path.kind is PathKind.RELAYED and peer.why_not_direct is not None

        @pytest.mark.parametrize("mesh", [dict(alice="none"), ["double-symmetric", "none"], "none"], indirect=True)
        async def test_parameters(mesh, request):
            assert len(mesh.host(mesh.alice).nats) == {"mesh0": 0, "mesh1": 2, "none": 0}[request.node.callspec.id]
        """,
    )
    check(result, "5 passed")


def test_without_trio_mode(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        @pytest.mark.trio
        async def test_marked(mesh):
            await mesh.connect()
            await trio.sleep(600)

        def test_not_async(virtual_internet):
            pass

        @pytest.mark.trio
        @pytest.mark.mesh("none", "none", "none")
        async def test_three(mesh):
            pass
        """,
        ini="",
    )
    output = check(result, "1 failed, 1 passed, 1 error")
    assert "virtual_internet and mesh are for async tests run by pytest-trio" in output
    assert "mesh takes 2 arguments without a name, not 3" in output


def test_anyio_runs_them_too(tmp_path: Path) -> None:
    result = run_pytest(
        tmp_path,
        """
        pytestmark = pytest.mark.anyio

        @pytest.fixture
        def anyio_backend():
            return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}

        async def test_it(mesh):
            await mesh.connect()
            await trio.sleep(600)

        class TestOthers:
            @pytest.fixture(params=["trio", "asyncio"])
            def anyio_backend(self, request):
                return request.param

            async def test_it(self, mesh):
                pass
        """,
        ini="",
    )
    output = check(result, "1 passed, 2 errors")
    assert "need virtual time, and this test runs by another clock" in output
    assert "run on trio" in output


def test_nothing_is_imported_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "    assert '_netmesh_trio_pytest' in loaded\n"
        "    assert not {'netmesh_trio', 'nacl', 'cryptography'} & loaded\n"
    )
    # pytest-trio, which imports trio, is not ours
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:trio", "-p", "no:anyio"]
    result = subprocess.run(
        [*command, "-p", "no:hypothesispytest"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    check(result, "1 passed")


def test_the_markers_are_listed(tmp_path: Path) -> None:
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider"]
    markers = subprocess.run([*command, "--markers"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "@pytest.mark.mesh(alice, bob, **settings):" in markers.stdout
