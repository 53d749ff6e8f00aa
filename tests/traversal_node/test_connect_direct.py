"""``connect_direct``, ``wait_direct`` and the settings that govern them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from netmesh_trio import NodeConfig, PathKind, PathReport, PeerConnected
from netmesh_trio.errors import NodeClosedError, PeerUnreachableError
from netmesh_trio.node.node import _leave
from netmesh_trio.testing import LinkSettings
from netmesh_trio.traversal import PunchFailedError, TraversalConfig, TraversalStatsSnapshot, UnsupportedError
from tests.traversal_node.lab import Lab, open_lab, until

MANUAL = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))


async def test_direct(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        start = trio.current_time()
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert report.kind is PathKind.DIRECT
        assert report.addr == lab.b.node.reflex_addr
        assert report.via is None
        assert report.error is None
        assert report.rtt == pytest.approx(0.1, abs=0.01)  # 20 ms and 5 ms at either end, both ways
        assert report.elapsed == pytest.approx(trio.current_time() - start)
        # once more: it is there
        again = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert (again.kind, again.addr, again.elapsed) == (PathKind.DIRECT, report.addr, 0.0)
        await until(lab.is_direct, 1.0)
        theirs = await lab.b.node.connect_direct(lab.a.node.peer_id)
        assert (theirs.kind, theirs.addr) == (PathKind.DIRECT, lab.a.node.reflex_addr)


async def test_relayed(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab("symmetric", "port-restricted", config_a=MANUAL) as lab:
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert report.kind is PathKind.RELAYED
        assert report.addr is None
        assert report.via in {relay.node.peer_id for relay in lab.relays}
        assert isinstance(report.error, PunchFailedError)
        assert report.elapsed is not None
        assert report.elapsed < 6.0
        assert lab.a.path(lab.b).error is report.error
        stream = await lab.a.peer(lab.b).open_stream("echo")
        async with stream:
            await stream.send_all(b"carried")
            assert await stream.receive_some() == b"carried"


async def test_a_pair_without_a_chance_is_told_so_in_a_round_trip(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_lab("symmetric", "symmetric", config_a=MANUAL) as lab:
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert isinstance(report.error, PunchFailedError)
        assert "symmetric" in str(report.error)
        assert report.elapsed is not None
        assert report.rtt is not None
        assert report.elapsed < 5 * report.rtt
        await until(lambda: lab.b.peer(lab.a).why_not_direct is not None, 1.0)
        assert isinstance(lab.b.peer(lab.a).why_not_direct, PunchFailedError)


async def test_unreachable_peers_are_unreachable(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=NodeConfig(connect_timeout=2.0)) as lab:
        stranger = lab.chance.identity().peer_id
        with pytest.raises(PeerUnreachableError):
            await lab.a.node.connect_direct(stranger)
        assert lab.a.node.traversal_stats() == TraversalStatsSnapshot()


async def test_calls_at_once_share_one_attempt(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        reports: list[PathReport] = []

        async def ask() -> None:
            reports.append(await lab.a.node.connect_direct(lab.b.node.peer_id))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert [r.kind for r in reports] == [PathKind.DIRECT] * 5
        assert lab.a.node.traversal_stats().punches_attempted == 1


async def test_a_call_joins_the_background_upgrade(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        await lab.connect()
        await trio.sleep(0.01)
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert report.kind is PathKind.DIRECT
        stats = lab.a.node.traversal_stats()
        assert (stats.punches_attempted, stats.upgrades_attempted) == (1, 1)


async def test_both_ends_call_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL, config_b=MANUAL) as lab:
        await lab.connect()
        await trio.sleep(1.0)
        reports: list[PathReport] = []

        async def ask(one: object, other: object) -> None:
            reports.append(await one.node.connect_direct(other.node.peer_id))  # type: ignore[attr-defined]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, lab.a, lab.b)
            nursery.start_soon(ask, lab.b, lab.a)
        assert {r.kind for r in reports} == {PathKind.DIRECT}
        await trio.sleep(6.0)
        lab.check_clean()
        assert lab.is_direct()


async def test_the_other_end_may_be_the_one_that_wants_it(autojump_clock: trio.testing.MockClock) -> None:
    """The end that was connected to looks for the direct path, the other one only answers."""
    async with open_lab(config_a=MANUAL, config_b=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        report = await lab.b.node.connect_direct(lab.a.node.peer_id)
        assert report.kind is PathKind.DIRECT
        await until(lab.is_direct, 1.0)


async def test_wait_direct(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        peer = await lab.connect()
        with trio.move_on_after(20.0) as waiting:
            await peer.wait_direct()
        assert waiting.cancelled_caught, "nothing is tried by itself"
        assert peer.why_not_direct is None, "and nothing has failed"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.wait_direct)
            await lab.a.node.connect_direct(lab.b.node.peer_id)
        report = await peer.wait_direct()
        assert (report.kind, report.addr) == (PathKind.DIRECT, lab.b.node.reflex_addr)


async def test_wait_direct_ends_with_the_node(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab("symmetric", "symmetric") as lab:
        peer = await lab.connect()
        failed: list[NodeClosedError] = []

        async def wait() -> None:
            try:
                await peer.wait_direct()
            except NodeClosedError as error:
                failed.append(error)

        with trio.fail_after(60.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.sleep(1.0)
                _leave(lab.a.engine)
        assert failed


@pytest.mark.parametrize("kind", ["none", "full-cone", "port-restricted"])
async def test_direct_false_stays_on_the_relay(kind: str, autojump_clock: trio.testing.MockClock) -> None:
    for config_a, config_b in ((NodeConfig(direct=False), None), (None, NodeConfig(direct=False))):
        async with open_lab(kind, kind, config_a=config_a, config_b=config_b) as lab:
            peer = await lab.connect()
            await trio.sleep(40.0)
            assert lab.a.path(lab.b).kind is lab.b.path(lab.a).kind is PathKind.RELAYED
            assert len(lab.a.session(lab.b).paths) == 1
            report = await lab.a.node.connect_direct(lab.b.node.peer_id)
            assert isinstance(report.error, UnsupportedError)
            assert isinstance(peer.why_not_direct, UnsupportedError)


@pytest.mark.parametrize("side", ["a", "b"])
async def test_traversal_disabled(side: str, autojump_clock: trio.testing.MockClock) -> None:
    off = NodeConfig(traversal=TraversalConfig(enabled=False))
    async with open_lab(config_a=off if side == "a" else None, config_b=off if side == "b" else None) as lab:
        peer = await lab.connect()
        await trio.sleep(40.0)
        assert lab.a.path(lab.b).kind is lab.b.path(lab.a).kind is PathKind.RELAYED
        assert isinstance(peer.why_not_direct, UnsupportedError)
        disabled = lab.a if side == "a" else lab.b
        known = lab.relays[0].node._store.get(disabled.node.peer_id)
        assert known is not None
        assert "nat-traversal" not in known.tags


async def test_no_upgrade_by_itself_but_answers(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL, config_b=MANUAL) as lab:
        await lab.connect()
        await trio.sleep(60.0)
        assert lab.a.path(lab.b).kind is PathKind.RELAYED
        assert lab.a.node.traversal_stats() == TraversalStatsSnapshot()
        assert lab.b.node.traversal_stats() == TraversalStatsSnapshot()


# cancelling


async def moments(what: Callable[[], Awaitable[object]]) -> list[float]:
    """The times at which something happens while ``what`` runs, from its start."""
    times: list[float] = []

    class Watch(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            now = trio.current_time() - start
            if not times or times[-1] != now:
                times.append(now)

    start = trio.current_time()
    watch = Watch()
    trio.lowlevel.add_instrument(watch)
    await what()
    trio.lowlevel.remove_instrument(watch)
    return times


async def _still_works(lab: Lab) -> None:
    with trio.fail_after(20.0):
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        stream = await lab.a.peer(lab.b).open_stream("echo")
        async with stream:
            await stream.send_all(b"works")
            assert await stream.receive_some() == b"works"
            await stream.send_eof()
    assert (report.kind is PathKind.DIRECT) == lab.possible


@pytest.mark.parametrize("pair", [("port-restricted", "port-restricted"), ("symmetric", "port-restricted")])
async def test_cancelling_a_call_at_any_moment(pair: tuple[str, str], autojump_clock: trio.testing.MockClock) -> None:
    """The call is left at once; the attempt that others may have joined comes to its own end and leaves nothing."""
    async with open_lab(*pair, config_a=MANUAL) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        await lab.connect()
        times = await moments(lambda: lab.a.node.connect_direct(lab.b.node.peer_id))
        for at in times[:: max(1, len(times) // 12)]:
            await trio.sleep(11.0)  # the coordinators' budgets
            with trio.move_on_after(at) as scope:
                await lab.a.node.connect_direct(lab.b.node.peer_id)
            assert scope.cancelled_caught or at == times[-1]
        await trio.sleep(11.0)
        lab.check_clean()
        lab.net.unblock(lab.a.host, lab.b.host)
        await _still_works(lab)


@pytest.mark.parametrize("side", ["a", "b"])
async def test_cancelling_an_attempt_at_any_moment(side: str, autojump_clock: trio.testing.MockClock) -> None:
    """The attempt itself, at either end: the nursery that owns it leaves no train, no path, no entry."""
    async with open_lab(config_a=MANUAL, config_b=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        one, other = (lab.a, lab.b) if side == "a" else (lab.b, lab.a)
        live = one.peer(other).live
        assert live is not None
        lab.net.block(lab.a.host, lab.b.host)

        async def attempt() -> None:
            with pytest.raises(PunchFailedError):
                await one.rendezvous.attempt(live)

        times = await moments(attempt)
        for at in times[: -1 : max(1, len(times) // 20)]:  # the last is when it ends by itself
            await trio.sleep(11.0)
            with trio.move_on_after(at) as scope:
                await one.rendezvous.attempt(live)
            assert scope.cancelled_caught
            assert not one.rendezvous._attempts
            assert not one.rendezvous._guard.requests._requests
            assert not len(one.rendezvous._guard)
            assert all(p.validated for p in live.session.paths.values())
        await trio.sleep(11.0)
        lab.check_clean()
        lab.net.unblock(lab.a.host, lab.b.host)
        await _still_works(lab)


async def test_a_session_that_ends_in_an_attempt(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        lab.net.block(lab.a.host, lab.b.host)
        for at in (0.05, 0.15, 0.2, 0.5, 1.0):
            peer = await lab.connect()
            await trio.sleep(at)
            await peer.aclose()
            await trio.sleep(6.0)
            lab.check_clean()
        lab.net.unblock(lab.a.host, lab.b.host)
        await trio.sleep(10.0)
        await _still_works(lab)


async def test_a_busy_link_does_not_keep_the_session_on_the_relay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slow = LinkSettings(delay=0.02, rate=50_000.0, queue=50_000)
    async with open_lab(link_a=slow, link_b=slow) as lab:
        peer = await lab.connect()
        stream = await peer.open_stream("echo")
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                await stream.send_all(bytes(300_000))
                await stream.send_eof()

            async def drink() -> None:
                while await stream.receive_some():
                    pass

            nursery.start_soon(pour)
            nursery.start_soon(drink)
            await until(lab.is_direct, 10.0)


async def test_the_present_path_says_why_it_is_relayed(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab("symmetric", "symmetric") as lab:
        events = lab.a.node.events()
        peer = await lab.connect()
        assert peer.path is not None
        assert peer.path.error is None, "nothing has failed yet"
        await until(lambda: peer.why_not_direct is not None, 10.0)
        assert peer.path.error is peer.why_not_direct
        assert peer.path == peer.paths()[0]
        assert all(path.error is None for path in peer.paths()[1:])
        relay = next(p for p in lab.a.node.peers() if p is not peer)
        assert relay.path is not None
        assert relay.path.error is None
        # a session that follows begins with what is known
        await peer.aclose()
        await trio.sleep(1.0)
        await lab.connect()
        told = []
        with trio.move_on_after(0.1):
            async for event in events:
                if isinstance(event, PeerConnected) and event.peer_id == peer.peer_id:
                    told.append(event.path.error)
        assert told == [None, peer.why_not_direct]


async def test_a_path_that_is_to_stay_on_the_relay_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=NodeConfig(direct=False)) as lab:
        peer = await lab.connect()
        assert peer.path is not None
        assert isinstance(peer.path.error, UnsupportedError)
        assert peer.path == peer.path, "the same while nothing changes"
