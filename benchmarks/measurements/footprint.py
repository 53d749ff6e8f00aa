"""Memory and processor time of what is idle: the serving end alone, and what each more session costs it."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.conduct import Ends
from benchmarks.measurements.measurement import Measurement
from benchmarks.process import End
from benchmarks.record import Metric
from benchmarks.subject import NotOffered, Subject

__all__ = ["FOOTPRINT", "conduct", "hold"]

_METRICS = (
    Metric(key="idle", label="memory of a node", unit="MB"),
    Metric(key="idle_cpu", label="processor of a node", unit="ms/s"),
    Metric(key="session", label="memory of one more session", unit="kB"),
    Metric(key="session_cpu", label="processor of one more session", unit="ms/s"),
)
_FOR_EVER = 3600.0
_WARM = 2
_SESSIONS = 25


async def hold(subject: Subject, where: str, settings: dict[str, Any]) -> dict[str, float]:
    """Connect from so many endpoints, each with one answered message, and stay.

    This never ends: the answer is printed, and the process is ended by who started it.
    """
    async with AsyncExitStack() as stack:
        for _ in range(settings["sessions"]):
            endpoint = await stack.enter_async_context(subject.endpoint())
            link = await stack.enter_async_context(endpoint.connect(where))
            await (await link.echo()).exchange(bytes(100))
        print('{"result": {}}', flush=True)
        await subject.sleep(_FOR_EVER)
    return {}


def conduct(ends: Ends, settings: dict[str, Any]) -> dict[str, float]:
    """Look at the serving end alone, then with sessions.

    The first sessions make it import and fill what it does once, so they are not counted as cost of a session.
    """
    seconds, sessions = settings["seconds"], settings["sessions"]
    idle = _memory(ends.server)
    idle_cpu = _cpu_rate(ends.server, seconds)
    values = {"idle": idle / 1e6, "idle_cpu": idle_cpu * 1e3}
    try:
        with ends.measuring({"sessions": _WARM}) as first:
            first.wait_result(30)
            few = _memory(ends.server)
            with ends.measuring({"sessions": sessions}) as more:
                more.wait_result(60)
                values["session"] = (_memory(ends.server) - few) / sessions / 1e3
                busy = _cpu_rate(ends.server, seconds)
                values["session_cpu"] = (busy - idle_cpu) / (sessions + _WARM) * 1e3
    except NotOffered as reason:
        ends.missing["session"] = str(reason)
    return values


def _memory(end: End) -> float:
    memory = end.memory
    if memory is None:
        raise NotOffered("only /proc of Linux tells the memory of a process")
    return memory


def _cpu_rate(end: End, seconds: float) -> float:
    before, start = end.cpu_seconds, time.monotonic()
    time.sleep(seconds)
    after = end.cpu_seconds
    return 0.0 if before is None or after is None else (after - before) / (time.monotonic() - start)


FOOTPRINT = (
    Measurement(
        name="footprint",
        title="Idle",
        client=f"{__name__}:hold",
        metrics=_METRICS,
        settings={"seconds": 2.0, "sessions": _SESSIONS},
        clients=_WARM + _SESSIONS,
        conduct=conduct,
        without=("limit", "tcp"),
    ),
)
