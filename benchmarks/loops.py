"""The two event loops that subjects run in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from benchmarks.subject import Job, Subject

T = TypeVar("T")


class OnTrio(Subject):
    """A subject on trio, or one that blocks, for which any loop does."""

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """As :meth:`Subject.run`."""
        import trio

        return trio.run(main)

    async def together(self, jobs: Sequence[Job]) -> None:
        """As :meth:`Subject.together`."""
        import trio

        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)

    async def sleep(self, seconds: float) -> None:
        """As :meth:`Subject.sleep`."""
        import trio

        await trio.sleep(seconds)


class OnAsyncio(Subject):
    """A subject on asyncio."""

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """As :meth:`Subject.run`."""
        import asyncio

        async def coroutine() -> T:
            return await main()

        return asyncio.run(coroutine())

    async def together(self, jobs: Sequence[Job]) -> None:
        """As :meth:`Subject.together`."""
        import asyncio

        await asyncio.gather(*(job() for job in jobs))

    async def sleep(self, seconds: float) -> None:
        """As :meth:`Subject.sleep`."""
        import asyncio

        await asyncio.sleep(seconds)
