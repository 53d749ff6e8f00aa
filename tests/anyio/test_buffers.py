"""The queues between the two loops, with one of the threads stopped where it hurts most."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import pytest

from netmesh_trio import SessionClosedError
from netmesh_trio.anyio.bridge import Bridge
from netmesh_trio.anyio.buffers import Sink, Waiter
from netmesh_trio.node.streams import Stream


class NoThread(Bridge):
    """What is posted to trio waits until somebody runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: deque[Callable[[], object]] = deque()
        self.started: list[Callable[..., Awaitable[object]]] = []

    def post(self, function: Callable[[], object]) -> bool:
        self.posted.append(function)
        return True

    def start(self, function: Callable[..., Awaitable[object]], *args: object) -> bool:
        self.started.append(function)
        return True

    def run_posted(self) -> None:
        while self.posted:
            self.posted.popleft()()


class Taking:
    """A stream that takes everything."""

    def __init__(self) -> None:
        self.has_room = True
        self.taken: list[bytes | str] = []

    def push(self, data: bytes) -> None:
        self.taken.append(data)

    def push_eof(self) -> None:
        self.taken.append("eof")

    def close(self) -> None:
        self.taken.append("closed")


def make_sink() -> tuple[NoThread, Taking, Sink]:
    bridge, stream = NoThread(), Taking()
    return bridge, stream, Sink(bridge, cast("Stream", stream))


class Interrupted(deque[bytes | str]):
    """When trio has just found it empty, the other thread runs."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._meanwhile: Callable[[], None] | None = meanwhile

    def __bool__(self) -> bool:
        if len(self):
            return True
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            meanwhile()
        return False


def on_asyncio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def limited() -> None:
        with anyio.fail_after(10):
            await test()

    def run() -> None:
        asyncio.run(limited())

    return run


@on_asyncio
async def test_order() -> None:
    bridge, stream, sink = make_sink()
    for data in (b"a", b"b"):
        await sink.send(data)
    assert len(bridge.posted) == 1, "one wake-up for all that waits"
    bridge.run_posted()
    await sink.send(b"c")
    await sink.send_eof()
    sink.close()
    bridge.run_posted()
    assert stream.taken == [b"a", b"b", b"c", "eof", "closed"]


@on_asyncio
async def test_what_is_sent_and_closed_while_trio_finds_nothing_to_do() -> None:
    bridge, stream, sink = make_sink()

    def meanwhile() -> None:
        sink._given += 4
        sink._put(b"late")
        sink.close()

    sink._queue = Interrupted(meanwhile)
    await sink.send(b"early")
    bridge.run_posted()
    assert stream.taken == [b"early", b"late", "closed"]


@on_asyncio
async def test_a_close_does_not_wait_for_room() -> None:
    bridge, stream, sink = make_sink()
    stream.has_room = False
    await sink.send(b"a")
    bridge.run_posted()
    assert stream.taken == []
    assert len(bridge.started) == 1, "a task waits for room"
    await sink.send(b"b")
    bridge.run_posted()
    assert len(bridge.started) == 1, "one is enough"
    sink.close()
    bridge.run_posted()
    assert stream.taken == [b"a", b"b", "closed"]


@on_asyncio
async def test_a_sender_waits_and_is_woken() -> None:
    bridge, stream, sink = make_sink()
    sending = asyncio.ensure_future(sink.send(bytes(2_000_000)))
    while not bridge.posted:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not sending.done()
    held = sum(map(len, sink._queue))
    assert held < 1_000_000
    while not sending.done():
        bridge.run_posted()
        await asyncio.sleep(0)
    bridge.run_posted()
    assert sum(map(len, stream.taken)) == 2_000_000


@on_asyncio
async def test_a_loop_that_ended_takes_nothing() -> None:
    bridge, _, sink = make_sink()
    bridge.post = lambda function: False  # type: ignore[method-assign]
    await sink.send(b"lost")
    with pytest.raises(SessionClosedError):
        await sink.send(b"more")


@on_asyncio
async def test_what_happens_just_before_a_task_waits_is_seen() -> None:
    waiter = Waiter(NoThread())
    await waiter.wait(lambda: True)
    woken = asyncio.ensure_future(waiter.wait(lambda: False))
    await asyncio.sleep(0)
    waiter.wake_from_trio()
    waiter.wake_from_trio()
    await woken
    # a wake-up that comes late harms nobody
    waiter.wake()
