"""Calls about NATs and direct paths, cancelled at every checkpoint and at many times: prompt, and without a trace."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from netmesh_trio import NodeConfig, PathKind, TraversalConfig
from tests.node.mesh import round_trip
from tests.node.test_cancellation import cancelled_at
from tests.traversal_node.lab import Lab, open_lab

MANUAL = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))

Call = Callable[[], Awaitable[object]]
Setup = Callable[[], Awaitable[Call]]


async def sweep(lab: Lab, setup: Setup, *, times: tuple[float, ...]) -> None:
    """Cancel the call that ``setup`` prepares at each checkpoint, then after so many seconds, then not at all."""
    for member in (lab.a, lab.b):
        await member.node.wait_binding_lifetime()  # what it does for that has tasks that come and go
    for k in range(1000):
        if not await attempt(lab, setup, functools.partial(cancelled_at, k)):
            assert k >= 1
            break
    for seconds in times:

        async def interrupt(call: Call, seconds: float = seconds) -> bool:
            with trio.move_on_after(seconds) as scope:
                await call()
            # not a moment later
            assert trio.current_time() <= scope.deadline
            return scope.cancelled_caught

        assert await attempt(lab, setup, interrupt)
    await (await setup())()


async def attempt(lab: Lab, setup: Setup, interrupt: Callable[[Call], Awaitable[bool]]) -> bool:
    tasks = trio.lowlevel.current_statistics().tasks_living
    call = await setup()
    with trio.fail_after(60):
        cancelled = await interrupt(call)
    # past the deadlines of attempts, which go on for others
    await trio.sleep(15)
    lab.check_clean()
    await round_trip(await lab.connect(), b"still sound")
    await trio.sleep(15)
    assert trio.lowlevel.current_statistics().tasks_living <= tasks
    return cancelled


async def disconnect(lab: Lab) -> None:
    peer = lab.a.peer(lab.b)
    if peer.connected:
        await peer.aclose()
        await trio.sleep(3)


async def test_connect_direct(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:

        async def setup() -> Call:
            await disconnect(lab)
            return lambda: lab.a.node.connect_direct(lab.b.node.peer_id)

        await sweep(lab, setup, times=(0.01, 0.03, 0.06, 0.1, 0.15))
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert report.kind is PathKind.DIRECT


async def test_wait_direct(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:

        async def setup() -> Call:
            await disconnect(lab)
            peer = await lab.connect()
            return peer.wait_direct

        await sweep(lab, setup, times=(0.01, 0.05, 0.1))


@pytest.mark.parametrize("after", [0.01, 1.0, 30.0])
async def test_wait_direct_where_there_is_no_direct_path(autojump_clock: trio.testing.MockClock, after: float) -> None:
    async with open_lab("symmetric", "symmetric") as lab:
        peer = await lab.connect()
        with trio.move_on_after(after) as scope:
            await peer.wait_direct()
        assert scope.cancelled_caught
        assert trio.current_time() == scope.deadline
        await round_trip(peer, b"over the relay")


async def test_probe_reflex(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        relay = lab.relays[0].node.peer_id

        async def setup() -> Call:
            return lambda: lab.a.node.probe_reflex(relay)

        await sweep(lab, setup, times=(0.001, 0.01))
        assert await lab.a.node.probe_reflex(relay) == lab.a.node.reflex_addr


@pytest.mark.parametrize("thorough", [False, True])
async def test_reclassify_nat(autojump_clock: trio.testing.MockClock, thorough: bool) -> None:
    async with open_lab() as lab:

        async def setup() -> Call:
            return lambda: lab.a.node.reclassify_nat(thorough=thorough)

        await sweep(lab, setup, times=(0.001, 0.01))


async def test_wait_binding_lifetime(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        for after in (0.0, 1.0, 10.0):
            with trio.move_on_after(after) as scope:
                await lab.a.node.wait_binding_lifetime()
            assert scope.cancelled_caught
            assert trio.current_time() == scope.deadline
        with trio.fail_after(900):
            report = await lab.a.node.wait_binding_lifetime()
        assert report.binding_survives is not None
