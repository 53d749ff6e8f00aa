"""What is particular to the asyncio backend: two loops in two threads."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
import trio

from netmesh_trio import Identity, NodeConfig
from netmesh_trio.anyio import Node, open_node
from netmesh_trio.anyio.bridge import Bridge
from tests.anyio.backends import LOOPBACK, asyncio_only, echo, stream_pair, two_nodes


def bridge_of(node: Node) -> Bridge:
    port = node._port
    assert isinstance(port, Bridge)
    return port


@asyncio_only
async def test_the_asyncio_loop_never_waits_for_the_other() -> None:
    """With the trio thread held up, whatever does not need an answer goes on, and so do all other tasks."""
    async with two_nodes(NodeConfig()) as (a, b, peer), b.listen("x") as listener:
        stream = await peer.open_stream("x")
        far = await listener.accept()
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            go_on.wait()

        bridge_of(a).post(hold)
        while not held.is_set():
            await asyncio.sleep(0)
        answers: list[object] = []

        async def ask() -> None:
            answers.append(await a.probe_reflex(b.peer_id))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            # all of this would never end if the loop waited
            await stream.send(b"hello")
            assert a.peers() == [peer]
            assert peer.path is not None
            assert peer.paths()
            assert a.statistics().sessions == 1
            assert a.traversal_stats().punches_attempted == 0
            assert a.addresses
            assert repr(a)
            assert repr(peer)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert answers == []
            go_on.set()
        assert len(answers) == 1
        assert await far.receive() == b"hello"
        await stream.aclose()
        await far.aclose()


@asyncio_only
async def test_reading_while_everything_changes() -> None:
    """What only reads does so from this thread, while the other one opens and closes sessions."""
    interval = sys.getswitchinterval()
    try:
        async with open_node(Identity.generate(), LOOPBACK) as hub:
            stop = threading.Event()
            failed: list[BaseException] = []
            reads = 0

            def look(node: Node) -> None:
                repr(node)
                for peer in node.peers():
                    repr(peer)
                    peer.paths()
                    peer.statistics()
                    peer.why_not_direct  # noqa: B018
                    peer.max_datagram_size  # noqa: B018
                node.addresses  # noqa: B018
                node.statistics()
                node.nat_report  # noqa: B018
                node.traversal_stats()

            def look_all_the_time() -> None:
                nonlocal reads
                try:
                    while not stop.is_set():
                        look(hub)
                        reads += 1
                except BaseException as error:  # noqa: BLE001 - for the test
                    failed.append(error)

            thread = threading.Thread(target=look_all_the_time)
            sys.setswitchinterval(1e-6)
            thread.start()
            try:
                for _ in range(5):
                    async with (
                        open_node(Identity.generate(), LOOPBACK, hub.addresses) as one,
                        open_node(Identity.generate(), LOOPBACK, hub.addresses) as other,
                    ):
                        await one.wait_connected()
                        await other.wait_connected()
                        await one.connect(other.addresses[0])
            finally:
                stop.set()
                thread.join()
        assert failed == []
        assert reads > 20
    finally:
        sys.setswitchinterval(interval)


@asyncio_only
async def test_a_failure_of_the_node_ends_the_block() -> None:
    """As on trio: the block is cancelled, and the error comes out by itself."""

    async def bug() -> None:
        raise ZeroDivisionError

    async def block() -> None:
        async with open_node(Identity.generate(), LOOPBACK) as node:
            bridge = bridge_of(node)
            bridge.post(lambda: bridge.start(bug))
            await anyio.sleep_forever()

    with pytest.raises(ZeroDivisionError):
        await block()


@asyncio_only
async def test_a_trio_loop_that_breaks_down_leaves_nobody_waiting() -> None:
    """Not even tasks outside the block, which is cancelled."""
    ended: list[type[BaseException]] = []

    async def wait(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises((anyio.ClosedResourceError, anyio.BrokenResourceError)) as caught:
            await call()
        ended.append(caught.type)

    async def block(outside: anyio.abc.TaskGroup) -> None:
        config = NodeConfig(stream_window=1 << 12, session_window=1 << 12)
        async with open_node(Identity.generate(), LOOPBACK, config=config) as other, other.listen("x"):
            async with open_node(Identity.generate(), LOOPBACK) as node:
                peer = await node.connect(other.addresses[0])
                stream = await peer.open_stream("x")
                outside.start_soon(wait, lambda: stream.send(bytes(20_000_000)))
                outside.start_soon(wait, stream.receive)
                outside.start_soon(wait, lambda: node.connect(Identity.generate().peer_id))
                await anyio.wait_all_tasks_blocked()

                def break_down() -> None:
                    raise ZeroDivisionError

                bridge_of(node).post(break_down)
                await anyio.sleep_forever()

    async with anyio.create_task_group() as outside:
        with pytest.raises(trio.TrioInternalError):
            await block(outside)
    assert len(ended) == 3


def test_with_asyncio_alone() -> None:
    """No anyio.run, task group or scope of the program's."""

    async def main() -> None:
        async with two_nodes() as (_, b, peer), b.listen("echo") as listener:
            serving = asyncio.create_task(listener.serve(echo))
            async with await peer.open_stream("echo") as stream:
                await stream.send(b"hello")
                assert await asyncio.wait_for(stream.receive(), 10) == b"hello"
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(stream.receive(), 0.01)
                await stream.send(b"again")
                assert await stream.receive() == b"again"
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving

    asyncio.run(main())


@asyncio_only
async def test_no_task_and_no_wake_up_for_each_call() -> None:
    """Data that is there already is taken without the other loop."""
    async with stream_pair() as (near, far):
        await near.send(bytes(100_000))
        await far.receive(1)
        bridge = bridge_of(far.peer._node)
        posted: list[Callable[[], object]] = []
        bridge.post = posted.append  # type: ignore[method-assign, assignment]
        for _ in range(1000):
            await far.receive(1)
        assert posted == []
        del bridge.post


PROGRAM = """
import anyio, sys, threading
from netmesh_trio import Identity
from netmesh_trio.anyio import open_node

async def main():
    try:
        async with open_node(Identity.generate(), ("127.0.0.1", 0)) as node:
            async with node.listen("x") as listener:
                print("ready", flush=True)
                await listener.accept()
    finally:
        print([t.name for t in threading.enumerate()], flush=True)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent to a process")
def test_control_c(backend: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, backend], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    finally:
        program.kill()
        program.wait()
    assert out == "['MainThread']\n"
    # anyio's runner for asyncio on Python 3.10 ends with the cancellation by which it passes Ctrl-C on
    assert err.rstrip().endswith(("KeyboardInterrupt", "CancelledError")), err
    assert program.returncode in (-signal.SIGINT, 130, 1)


@pytest.mark.parametrize("module", ["netmesh_trio", "netmesh_trio.anyio"])
def test_imports_are_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m in ('asyncio', 'anyio._backends._asyncio')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@asyncio_only
async def test_leaving_waits_for_who_reads_slowly() -> None:
    """Up to close_timeout, also for what the other loop did not take over yet."""
    got = 0
    async with open_node(Identity.generate(), LOOPBACK, config=NodeConfig(stream_window=1 << 16)) as b:
        async with b.listen("slow") as listener, anyio.create_task_group() as tasks:

            async def read_slowly() -> None:
                nonlocal got
                stream = await listener.accept()
                async for part in stream:
                    got += len(part)
                    await anyio.sleep(0.001)

            tasks.start_soon(read_slowly)
            async with open_node(Identity.generate(), LOOPBACK) as a:
                stream = await (await a.connect(b.addresses[0])).open_stream("slow")
                await stream.send(bytes(900_000))
                await stream.aclose()
    assert got == 900_000


@asyncio_only
async def test_leaving_does_not_wait_for_ever() -> None:
    async with open_node(Identity.generate(), LOOPBACK, config=NodeConfig(stream_window=1 << 16)) as b:
        async with b.listen("never") as listener:
            began = time.monotonic()
            async with open_node(Identity.generate(), LOOPBACK, config=NodeConfig(close_timeout=0.1)) as a:
                stream = await (await a.connect(b.addresses[0])).open_stream("never")
                with anyio.move_on_after(0.1):
                    await stream.send(bytes(5_000_000))
                far = await listener.accept()
            assert time.monotonic() - began < 20
            far.reset()
