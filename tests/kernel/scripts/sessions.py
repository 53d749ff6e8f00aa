"""Measures what a session costs: ``python -m tests.kernel.scripts.sessions COUNT`` prints their number and bytes each.

The peers, with their announcements, live in a process of their own.
"""

from __future__ import annotations

import gc
import resource
import sys
from contextlib import AsyncExitStack

import trio

from netmesh_trio import Identity, open_node

LOOPBACK = ("127.0.0.1", 0)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def measure(count: int) -> None:
    async with open_node(Identity.generate(), bind=LOOPBACK) as node:
        gc.collect()
        before = resident()
        command = [sys.executable, "-m", "tests.kernel.scripts.sessions", "peers", str(count), str(node.addresses[0])]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.run_process, command)
            while len(node.peers()) < count:
                await trio.sleep(0.1)
            await trio.sleep(1)
            gc.collect()
            sessions = node.statistics().sessions
            print(sessions, round((resident() - before) / sessions))
            nursery.cancel_scope.cancel()


async def peers(count: int, uri: str) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            node = await stack.enter_async_context(open_node(Identity.generate(), bind=LOOPBACK, bootstrap=[uri]))
            await node.wait_connected()
        await trio.sleep_forever()


if __name__ == "__main__":
    if sys.argv[1] == "peers":
        trio.run(peers, int(sys.argv[2]), sys.argv[3])
    else:
        trio.run(measure, int(sys.argv[1]))
