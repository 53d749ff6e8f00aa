"""How soon data leaves the relay."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measurements.measurement import Measurement
from benchmarks.record import Metric
from benchmarks.subject import Subject

__all__ = ["DIRECT", "measure"]

_METRICS = (
    Metric(key="first", label="first answer", unit="ms"),
    Metric(key="direct", label="direct path in use", unit="ms"),
)


async def measure(subject: Subject, where: str, settings: dict[str, Any]) -> dict[str, float]:
    """Connect by the relay's help; the first answer and the direct path, from the start of the call."""
    async with subject.endpoint() as endpoint:
        start = time.perf_counter()
        async with endpoint.connect(where) as link:
            echo = await link.echo()
            await echo.exchange(bytes(settings["size"]))
            first = time.perf_counter() - start
            await link.wait_direct()
            return {"first": first * 1e3, "direct": (time.perf_counter() - start) * 1e3}


DIRECT = (
    Measurement(
        name="direct",
        title="From one home router to another",
        place="NATs",
        client=f"{__name__}:measure",
        metrics=_METRICS,
        settings={"size": 100},
        variants=("aioice",),
        without=("limit", "tcp", "iroh", "aiortc"),
    ),
)
