"""The pytest plugin: the fixtures ``virtual_internet`` and ``mesh``, for tests in virtual time.

pytest imports it at each start where netmesh_trio is installed.  So it stands beside the package, imports nothing of it
before a test asks for a fixture, and has no hook but the one that registers its markers.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netmesh_trio.testing import Mesh, VirtualInternet

__all__ = ["mesh", "netmesh_virtual_time", "pytest_configure", "virtual_internet"]

_MARKERS = (
    "virtual_internet(**settings): arguments of netmesh_trio.testing.VirtualInternet for the fixture virtual_internet",
    "mesh(alice, bob, **settings): NATs and other arguments of netmesh_trio.testing.open_mesh for the fixture mesh",
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for line in _MARKERS:
        config.addinivalue_line("markers", line)


def _run_virtual(
    run: Callable[..., Any], main: Callable[..., Awaitable[object]], *, clock: Any = None, **options: Any
) -> Any:
    import trio.testing

    return run(main, clock=trio.testing.MockClock(autojump_threshold=0) if clock is None else clock, **options)


@pytest.fixture
def netmesh_virtual_time(request: pytest.FixtureRequest) -> None:
    """Has pytest-trio run this test by a clock that jumps, unless the test takes a clock of its own."""
    if request.node.get_closest_marker("trio") is not None:
        runs = (marker.kwargs.get("run") for marker in request.node.iter_markers("trio"))
        run = next((run for run in runs if run is not None), None)
        if run is None:
            import trio

            run = trio.run
        virtual = functools.partial(_run_virtual, run)
        request.node.add_marker(pytest.mark.trio(run=virtual), append=False)
    elif "anyio_backend" not in request.fixturenames:
        pytest.fail(
            "virtual_internet and mesh are for async tests run by pytest-trio: install it, write 'async def', and set"
            " trio_mode = true or mark the test with pytest.mark.trio",
            pytrace=False,
        )


def _check_clock() -> None:
    import trio.testing

    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:
        pytest.fail("virtual_internet and mesh run on trio: give anyio_backend as 'trio'", pytrace=False)
    if not isinstance(clock, trio.testing.MockClock):
        pytest.fail(
            "virtual_internet and mesh need virtual time, and this test runs by another clock: with anyio's plugin, let"
            " anyio_backend return ('trio', {'clock': trio.testing.MockClock(autojump_threshold=0)})",
            pytrace=False,
        )


def _settings(request: pytest.FixtureRequest, name: str, *positions: str) -> dict[str, Any]:
    """The arguments that the markers of that name give, the closest first, and before all an indirect parametrization.

    ``positions`` are the names of those that may stand without one.
    """
    settings: dict[str, Any] = {}

    def update(arguments: Sequence[Any]) -> None:
        if len(arguments) > len(positions):
            pytest.fail(f"{name} takes {len(positions)} arguments without a name, not {len(arguments)}", pytrace=False)
        settings.update(zip(positions, arguments, strict=False))

    for marker in reversed(list(request.node.iter_markers(name))):
        update(marker.args)
        settings.update(marker.kwargs)
    given = getattr(request, "param", None)
    if isinstance(given, dict):
        settings.update(given)
    elif isinstance(given, tuple | list):
        update(given)
    elif given is not None:
        update((given,))
    return settings


@pytest.fixture
async def virtual_internet(
    netmesh_virtual_time: None, request: pytest.FixtureRequest
) -> AsyncGenerator[VirtualInternet, None]:
    """An internet in memory, in virtual time; the marker ``virtual_internet`` has its settings."""
    _check_clock()
    from netmesh_trio.testing import VirtualInternet

    async with VirtualInternet(**_settings(request, "virtual_internet")) as net:
        yield net


@pytest.fixture
async def mesh(
    virtual_internet: VirtualInternet, netmesh_virtual_time: None, request: pytest.FixtureRequest
) -> AsyncGenerator[Mesh, None]:
    """Two nodes behind NATs on ``virtual_internet``, connected to two relays; the marker ``mesh`` says which NATs."""
    from netmesh_trio.testing import open_mesh

    async with open_mesh(net=virtual_internet, **_settings(request, "mesh", "alice", "bob")) as made:
        yield made
