"""Tests that run on both of anyio's backends, and what they need: nodes that speak over loopback."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from netmesh_trio import Identity, NodeConfig
from netmesh_trio.anyio import Node, Peer, Stream, open_node

LOOPBACK = ("127.0.0.1", 0)
TIME_LIMIT = 30  # seconds, for what takes a few hundred milliseconds


def on(*backends: str) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test on these backends, with a time limit; afterwards no thread is left."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        async def limited(arguments: dict[str, object]) -> None:
            with anyio.fail_after(TIME_LIMIT):
                await test(**arguments)

        @functools.wraps(test)
        def run(backend: str, **arguments: object) -> None:
            anyio.run(limited, arguments, backend=backend)
            assert [t for t in threading.enumerate() if t.name == "netmesh_trio"] == []

        signature = inspect.signature(test)
        backend = inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY)
        # what pytest looks at to see which fixtures a test takes
        signature = signature.replace(parameters=[*signature.parameters.values(), backend], return_annotation=None)
        vars(run)["__signature__"] = signature
        del vars(run)["__wrapped__"]
        parametrized: Callable[..., None] = pytest.mark.parametrize("backend", backends)(run)
        return parametrized

    return decorate


both_backends = on("trio", "asyncio")
asyncio_only = on("asyncio")


@asynccontextmanager
async def two_nodes(config: NodeConfig | None = None) -> AsyncGenerator[tuple[Node, Node, Peer], None]:
    """Nodes a and b, and b as a peer of a."""
    async with open_node(Identity.generate(), LOOPBACK, config=config) as a:
        async with open_node(Identity.generate(), LOOPBACK, config=config) as b:
            yield a, b, await a.connect(b.addresses[0])


@asynccontextmanager
async def stream_pair(config: NodeConfig | None = None) -> AsyncGenerator[tuple[Stream, Stream], None]:
    """A stream from one node to another, both ends of it."""
    async with two_nodes(config) as (_, b, peer), b.listen("pair") as listener:
        near = await peer.open_stream("pair")
        far = await listener.accept()
        async with near, far:
            yield near, far


async def receive_all(stream: Stream) -> bytes:
    """Up to the end."""
    return b"".join([part async for part in stream])


async def send_for_ever(stream: Stream) -> None:
    """Until it breaks."""
    while True:
        await stream.send(b"x")
        await anyio.sleep(0.001)


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    async with stream:
        try:
            async for part in stream:
                await stream.send(part)
            await stream.send_eof()
        except anyio.BrokenResourceError:
            pass
