"""What all tests share."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline: how long an example takes says more about the machine than about us.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

KERNEL_TOOLS = ("ip", "nft", "ethtool", "unshare")


@functools.cache
def why_no_kernel_tests() -> str | None:
    """The reason not to run tests marked ``kernel``, or None."""
    if sys.platform != "linux":
        return "kernel NATs need Linux"
    if os.geteuid() != 0:
        return "kernel NATs need root: run as root, or in a container of your own"
    missing = [tool for tool in KERNEL_TOOLS if shutil.which(tool) is None]
    if missing:
        return f"kernel NATs need {', '.join(missing)}: apt-get install nftables iproute2 ethtool"
    tried = subprocess.run(["unshare", "--net", "nft", "list", "ruleset"], capture_output=True, timeout=30, text=True)
    if tried.returncode:
        reason = tried.stderr.strip().partition("\n")[0]
        return f"kernel NATs need network namespaces with nftables: {reason}"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot do, and say why."""
    if item.get_closest_marker("kernel") is not None:
        reason = why_no_kernel_tests()
        if reason is not None:
            pytest.skip(reason)


class Faults(logging.Handler):
    """Collects what a node contained instead of raising it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "netmesh_trio" and record.exc_info:
            self.found.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def faults() -> Iterator[list[str]]:
    """A fault that ends a session only is one all the same: the test fails, unless it clears this list."""
    handler = Faults()
    logger = logging.getLogger()
    logger.addHandler(handler)
    yield handler.found
    logger.removeHandler(handler)
    if handler.found:
        pytest.fail("a node contained a fault:\n" + "\n".join(handler.found), pytrace=False)
