"""Bytes a second."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.measurements.measurement import Measurement
from benchmarks.record import Metric
from benchmarks.subject import Channel, Subject

__all__ = ["BULK", "measure"]

_METRICS = (
    Metric(key="rate", label="throughput", unit="MB/s", higher=True),
    Metric(key="cpu", label="processor, all ends", unit="s/GB"),
)
_CLIENT = f"{__name__}:measure"
_MIB = 1 << 20


async def measure(subject: Subject, where: str, settings: dict[str, Any]) -> dict[str, float]:
    """Write for some seconds; the time until all is acknowledged counts, and so do only bytes that came."""
    data = os.urandom(settings["write"])
    arrived = 0
    async with subject.endpoint() as endpoint, endpoint.connect(where) as link:
        channels = [await link.sink() for _ in range(settings["streams"])]
        cpu = time.process_time()
        start = time.perf_counter()
        ends = start + settings["seconds"]

        async def fill(channel: Channel) -> None:
            nonlocal arrived
            while time.perf_counter() < ends:
                await channel.send(data)
            taken = await channel.finish()  # not "+= await": the others finish meanwhile
            arrived += taken

        await subject.together([lambda channel=channel: fill(channel) for channel in channels])  # type: ignore[misc]
        rate = arrived / (time.perf_counter() - start) / 1e6
        return {"rate": rate, "own_cpu": time.process_time() - cpu, "cpu_units": arrived / 1e9}


def _bulk(name: str, title: str, *, streams: int = 1, write: int = _MIB, **fields: Any) -> Measurement:
    settings = {"seconds": 2.0, "streams": streams, "write": write}
    return Measurement(name=name, title=title, client=_CLIENT, metrics=_METRICS, settings=settings, **fields)


_SMALL = ("netmesh_trio-1400", "limit-1400")

BULK = (
    _bulk("bulk", "Bulk, one stream, 1 MiB writes", variants=(*_SMALL, "netmesh_trio-asyncio")),
    _bulk("bulk-64k", "Bulk, one stream, 64 KiB writes", write=1 << 16),
    _bulk("bulk-10", "Bulk, ten streams", streams=10, without=("limit",)),
    _bulk("bulk-mtu", "Bulk, one stream, between namespaces, MTU 1,500", place="namespaces"),
    _bulk("bulk-relay", "Bulk, one stream, over one relay", place="relay", variants=_SMALL),
)
