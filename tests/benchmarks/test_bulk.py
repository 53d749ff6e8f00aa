"""What bulk counts, with ends that are not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from benchmarks.loops import OnTrio
from benchmarks.measurements.bulk import measure
from benchmarks.subject import Channel, Endpoint, Link


class Sink(Channel):
    """Takes some bytes, and all sinks tell of them at the same moment."""

    async def send(self, data: bytes) -> None:
        await trio.sleep(0.01)

    async def finish(self) -> int:
        await trio.sleep(0.5)
        return 1_000_000


class Nothing(Link, Endpoint):
    async def sink(self) -> Channel:
        return Sink()

    async def echo(self) -> Channel:
        return Sink()

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        yield self


class Subject(OnTrio):
    async def serve(self, ready: Callable[[str], None]) -> None:
        raise AssertionError("it is not asked")

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        yield Nothing()


async def test_the_bytes_of_all_streams_count() -> None:
    values = await measure(Subject(), "", {"seconds": 0.05, "streams": 4, "write": 10})
    assert values["cpu_units"] == 0.004
