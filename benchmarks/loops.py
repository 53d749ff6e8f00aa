"""The event loops that subjects run in; each imports only its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from benchmarks.subject import Job, Subject

T = TypeVar("T")


class OnTrio(Subject):
    """A subject on trio."""

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


class Blocking(Subject):
    """A subject whose calls block: its coroutines never wait for anything else."""

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """As :meth:`Subject.run`."""
        try:
            next(main().__await__())
        except StopIteration as done:
            result: T = done.value
            return result
        raise RuntimeError("a coroutine of a subject that blocks has waited")

    async def together(self, jobs: Sequence[Job]) -> None:
        """As :meth:`Subject.together`: each job has a thread."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(jobs)) as pool:
            for done in [pool.submit(self.run, job) for job in jobs]:
                done.result()

    async def sleep(self, seconds: float) -> None:
        """As :meth:`Subject.sleep`."""
        import time

        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop
