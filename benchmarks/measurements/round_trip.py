"""How long a small message takes there and back, alone and beside bulk."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from benchmarks.measurements.measurement import Measurement
from benchmarks.record import Metric
from benchmarks.subject import Channel, Subject

__all__ = ["ROUND_TRIPS", "measure", "percentile"]

_METRICS = (
    Metric(key="p50", label="round trip p50", unit="us"),
    Metric(key="p99", label="round trip p99", unit="us"),
)
_WRITE = 1 << 18


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * share) - 1]


async def measure(subject: Subject, where: str, settings: dict[str, Any]) -> dict[str, float]:
    """Round trips on one stream, one after the other, for some seconds; beside them a busy stream of the session."""
    times: list[float] = []
    message = os.urandom(settings["size"])

    async with subject.endpoint() as endpoint, endpoint.connect(where) as link:
        echo = await link.echo()
        for _ in range(settings["warm_up"]):
            await echo.exchange(message)
        sink = await link.sink() if settings["loaded"] else None
        ends = time.perf_counter() + settings["seconds"]

        async def trips() -> None:
            now = time.perf_counter()
            while now < ends:
                start = now
                await echo.exchange(message)
                now = time.perf_counter()
                times.append(now - start)

        async def fill(channel: Channel) -> None:
            data = os.urandom(_WRITE)
            while time.perf_counter() < ends:
                await channel.send(data)
            await channel.finish()

        if sink is None:
            await trips()
        else:
            await subject.together([trips, lambda: fill(sink)])
    return {"p50": percentile(times, 0.5) * 1e6, "p99": percentile(times, 0.99) * 1e6}


def _trips(name: str, title: str, *, loaded: bool, **fields: Any) -> Measurement:
    settings = {"seconds": 1.0, "size": 100, "warm_up": 20, "loaded": loaded}
    client = f"{__name__}:measure"
    return Measurement(name=name, title=title, client=client, metrics=_METRICS, settings=settings, **fields)


_BRIDGED = ("netmesh_trio-asyncio",)


ROUND_TRIPS = (
    _trips("round-trip", "Round trip of 100 bytes, idle", loaded=False, variants=(*_BRIDGED, "limit-trio")),
    _trips(
        "round-trip-loaded",
        "Round trip of 100 bytes beside bulk",
        loaded=True,
        variants=_BRIDGED,
        without=("limit",),
    ),
)
