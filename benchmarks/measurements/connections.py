"""New connections."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measurements.measurement import Measurement
from benchmarks.measurements.round_trip import percentile
from benchmarks.record import Metric
from benchmarks.subject import Endpoint, Subject

__all__ = ["CONNECTIONS", "measure"]

_METRICS = (
    Metric(key="p50", label="connect and first answer, p50", unit="ms"),
    Metric(key="rate", label="of four endpoints at once", unit="1/s", higher=True),
)


async def measure(subject: Subject, where: str, settings: dict[str, Any]) -> dict[str, float]:
    """Connect, get the answer to 100 bytes and close, again and again: from one endpoint, then from several at once."""
    message = bytes(settings["size"])
    times: list[float] = []
    made = 0

    async def cycle(endpoint: Endpoint, ends: float, *, timed: bool) -> None:
        nonlocal made
        while time.perf_counter() < ends:
            start = time.perf_counter()
            async with endpoint.connect(where) as link:
                echo = await link.echo()
                await echo.exchange(message)
                if timed:
                    times.append(time.perf_counter() - start)
                made += 1
                await echo.aclose()

    async def alone(ends: float) -> None:
        async with subject.endpoint() as endpoint:
            await cycle(endpoint, ends, timed=False)

    async with subject.endpoint() as endpoint:
        await cycle(endpoint, time.perf_counter() + settings["seconds"], timed=True)
    made = 0
    start = time.perf_counter()
    ends = start + settings["seconds"]
    await subject.together([lambda: alone(ends)] * settings["at_once"])
    rate = made / (time.perf_counter() - start)
    return {"p50": percentile(times, 0.5) * 1e3, "rate": rate}


CONNECTIONS = (
    Measurement(
        name="connections",
        title="Connections",
        client=f"{__name__}:measure",
        metrics=_METRICS,
        settings={"seconds": 1.0, "size": 100, "at_once": 4},
        without=("limit",),
    ),
)
