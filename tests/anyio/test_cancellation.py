"""Calls that are cancelled at random times lose no byte, stream, datagram or event, and leave nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import anyio
import pytest

from netmesh_trio import Identity, NodeConfig, PeerConnected, PeerDisconnected
from netmesh_trio.anyio import Node, Stream, open_node
from tests.anyio.backends import LOOPBACK, asyncio_only, both_backends, receive_all, stream_pair, two_nodes
from tests.node.mesh import engine

Interrupt = Callable[[Callable[[], Awaitable[None]], float], Awaitable[bool]]


async def by_scope(call: Callable[[], Awaitable[None]], after: float) -> bool:
    """Cancel as anyio does; whether it was."""
    with anyio.move_on_after(after) as scope:
        await call()
    return scope.cancelled_caught


async def by_task(call: Callable[[], Awaitable[None]], after: float) -> bool:
    """Cancel as asyncio does."""
    task = asyncio.ensure_future(call())
    if after < 1:
        await asyncio.sleep(after)
    else:
        await asyncio.wait([task], timeout=after)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


def some_time(chance: random.Random) -> float:
    # the last is for ever: also a slow machine gets somewhere
    return chance.choice((0, 0, 0.0001, 0.0005, 0.002, 0.01, 20))


async def transfer(near: Stream, far: Stream, seed: int, interrupt: Interrupt) -> None:
    """Send and receive with interruptions: a send that was interrupted is made again, and sent nothing before."""
    chance = random.Random(seed)
    data = chance.randbytes(1_500_000)
    got = bytearray()
    interrupted = {"send": 0, "receive": 0}

    async def send() -> None:
        at = 0
        while at < len(data):
            piece = data[at : at + chance.choice((1, 100, 5000, 30_000))]
            if await interrupt(lambda piece=piece: near.send(piece), some_time(chance)):  # type: ignore[misc]
                interrupted["send"] += 1
            else:
                at += len(piece)
        await near.send_eof()

    async def receive_one() -> None:
        got.extend(await far.receive(chance.choice((1000, 10_000))))

    async def receive() -> None:
        try:
            while True:
                interrupted["receive"] += await interrupt(receive_one, some_time(chance))
        except anyio.EndOfStream:
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(receive)
    assert got == data
    assert interrupted["send"] > 10
    assert interrupted["receive"] > 10


@pytest.mark.parametrize("seed", range(3))
@both_backends
async def test_no_byte_is_lost_by_scopes(seed: int) -> None:
    async with stream_pair(NodeConfig(stream_window=1 << 17)) as (near, far):
        await transfer(near, far, seed, by_scope)


@pytest.mark.parametrize("seed", range(3))
@asyncio_only
async def test_no_byte_is_lost_by_cancelled_tasks(seed: int) -> None:
    async with stream_pair(NodeConfig(stream_window=1 << 17)) as (near, far):
        await transfer(near, far, seed, by_task)


@both_backends
async def test_no_stream_is_lost() -> None:
    chance = random.Random(5)
    accepted = 0
    numbers: list[int] = []
    async with two_nodes() as (_, b, peer), b.listen("count") as listener, anyio.create_task_group() as tasks:

        async def read(stream: Stream) -> None:
            async with stream:
                numbers.append(int(await receive_all(stream)))

        async def accept() -> None:
            nonlocal accepted
            tasks.start_soon(read, await listener.accept())
            accepted += 1

        async def send() -> None:
            for number in range(100):
                async with await peer.open_stream("count") as stream:
                    await stream.send(b"%d" % number)
                    await stream.send_eof()
                if number % 10 == 0:
                    await anyio.sleep(0.002)

        tasks.start_soon(send)
        while accepted < 100:
            await by_scope(accept, some_time(chance))
    assert sorted(numbers) == list(range(100))


@both_backends
async def test_no_datagram_and_no_event_is_lost() -> None:
    chance = random.Random(6)
    async with open_node(Identity.generate(), LOOPBACK) as a, open_node(Identity.generate(), LOOPBACK) as b:
        async with b.datagrams("count") as datagrams, a.events() as events:
            payloads: list[bytes] = []
            kinds: list[type] = []

            async def take_datagram() -> None:
                payloads.append((await datagrams.receive()).payload)

            async def take_event() -> None:
                event = await events.receive()
                if isinstance(event, PeerConnected | PeerDisconnected):
                    kinds.append(type(event))

            for number in range(10):
                peer = await a.connect(b.addresses[0])
                for part in range(10):
                    await peer.send_datagram("count", b"%d" % (10 * number + part))
                while len(payloads) < 10 * (number + 1):
                    await by_scope(take_datagram, some_time(chance))
                await peer.aclose()
                while len(kinds) < 2 * (number + 1):
                    await by_scope(take_event, some_time(chance))
            assert payloads == [b"%d" % number for number in range(100)]
            assert kinds == [PeerConnected, PeerDisconnected] * 10


def streams_of(node: Node) -> int:
    return sum(len(live.streams) for live in engine(node._node).all_live())


async def opened_and_given_up(interrupt: Interrupt) -> None:
    chance = random.Random(7)
    async with two_nodes() as (a, b, peer), b.listen("x"):
        counts = {True: 0, False: 0}
        for number in range(150):

            async def call(service: str = ("x", "nobody")[number % 2]) -> None:
                try:
                    stream = await peer.open_stream(service)
                except anyio.BrokenResourceError:
                    return
                stream.reset()

            counts[await interrupt(call, some_time(chance))] += 1
        assert min(counts.values()) > 5
        while streams_of(a) or streams_of(b):
            await anyio.sleep(0.01)  # until the time limit of the test


@both_backends
async def test_a_stream_that_nobody_waits_for_is_given_up() -> None:
    await opened_and_given_up(by_scope)


@asyncio_only
async def test_a_stream_that_no_task_waits_for_is_given_up() -> None:
    await opened_and_given_up(by_task)


@both_backends
async def test_calls_are_cancelled_at_once() -> None:
    """Although each of them would take ten minutes."""
    async with two_nodes(NodeConfig(connect_timeout=600)) as (a, b, peer), b.listen("x") as listener:
        async with await peer.open_stream("x") as quiet, b.datagrams("x") as datagrams, b.events() as events:
            await listener.accept()
            stranger = Identity.generate().peer_id

            async def watch() -> None:
                async for _ in events:
                    pass

            for call in (
                lambda: a.connect(stranger),
                lambda: a.connect_direct(stranger),
                listener.accept,
                datagrams.receive,
                watch,
                quiet.receive,
            ):
                with anyio.move_on_after(0.02) as scope:
                    await call()
                assert scope.cancelled_caught


@pytest.mark.parametrize("seed", range(20))
@both_backends
async def test_opening_and_leaving(seed: int) -> None:
    """Cancelled at any time, the thread and the socket are gone."""
    chance = random.Random(seed)

    async def call() -> None:
        async with open_node(Identity.generate(), LOOPBACK) as node:
            async with node.listen("x"):
                await anyio.lowlevel.checkpoint()

    async with open_node(Identity.generate(), LOOPBACK) as other:
        for _ in range(3):
            await by_scope(call, chance.random() * 0.02)
        assert other.peers() == []


@pytest.mark.parametrize("delay", [0, 0.001, 0.005, 0.01, 0.02])
@asyncio_only
async def test_cancelling_again_and_again(delay: float) -> None:
    """A second cancellation does not keep the block from taking its thread along."""

    async def call() -> None:
        async with open_node(Identity.generate(), LOOPBACK):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(call())
    await asyncio.sleep(delay)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
