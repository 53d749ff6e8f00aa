"""Small messages a second."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measurements.measurement import Measurement
from benchmarks.record import Metric
from benchmarks.subject import NotOffered, Subject

__all__ = ["MESSAGES", "measure"]

_METRICS = (Metric(key="rate", label="messages", unit="1/s", higher=True),)
_BATCH = 100
_DATAGRAMS = 50


async def measure(subject: Subject, where: str, settings: dict[str, Any]) -> dict[str, float]:
    """Send messages of 100 bytes for some seconds, each by a call of its own, in batches, or as datagrams."""
    message = bytes(settings["size"])
    async with subject.endpoint() as endpoint, endpoint.connect(where) as link:
        if settings["how"] == "datagrams":
            datagrams = await link.datagrams()
            ends = time.perf_counter() + settings["seconds"]
            while time.perf_counter() < ends:
                await datagrams.send(message, _DATAGRAMS)
            count, seconds = await datagrams.finish()
            if not count or not seconds:
                raise NotOffered("no datagram came")
            return {"rate": count / seconds}
        channel = await link.sink()
        start = time.perf_counter()
        ends = start + settings["seconds"]
        if settings["how"] == "single":
            while time.perf_counter() < ends:
                for _ in range(_BATCH):
                    await channel.send(message)
        else:
            batch = [message] * _BATCH
            while time.perf_counter() < ends:
                await channel.send_batch(batch)
        arrived = await channel.finish()
        return {"rate": arrived / len(message) / (time.perf_counter() - start)}


def _messages(name: str, title: str, how: str) -> Measurement:
    settings = {"seconds": 1.0, "size": 100, "how": how}
    return Measurement(name=name, title=title, client=f"{__name__}:measure", metrics=_METRICS, settings=settings)


MESSAGES = (
    _messages("messages", "Messages of 100 bytes, one call each, reliable", "single"),
    _messages("messages-batch", "Messages of 100 bytes, 100 a call, reliable", "batch"),
    _messages("messages-datagram", "Messages of 100 bytes, unreliable", "datagrams"),
)
