from __future__ import annotations

from collections.abc import Iterator

import pytest

from netmesh_trio.testing.namespaces import KernelInternet, unavailable_reason


@pytest.fixture(scope="session")
def kernel() -> None:
    """Skip what needs namespaces where there are none."""
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def lab(kernel: None) -> Iterator[KernelInternet]:
    """An empty internet of the test's own."""
    with KernelInternet() as internet:
        yield internet
