"""Every counter of TraversalStats and every kind of TraversalError, made to happen on the virtual internet."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from netmesh_trio import NodeConfig, PathKind, open_node
from netmesh_trio.node import trains
from netmesh_trio.node.live import LiveSession
from netmesh_trio.testing import VirtualInternet
from netmesh_trio.traversal import (
    NatType,
    PeerNotReachableError,
    PunchFailedError,
    ReflexTimeoutError,
    RendezvousNoRelayError,
    RendezvousRejectedError,
    TransportError,
    TraversalConfig,
    TraversalStatsSnapshot,
    UnsupportedError,
)
from netmesh_trio.traversal.mediation import Coordinator
from netmesh_trio.traversal.rendezvous import PunchIntroduce, PunchReject, RejectReason
from tests.mesh.world import Chance
from tests.traversal_node.lab import Lab, open_lab, until

MANUAL = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))
SILENT = NodeConfig(traversal=TraversalConfig(enabled=False))


def without_portmap(stats: TraversalStatsSnapshot) -> None:
    assert not stats.port_mapping_active
    assert stats.port_mapping_external is None
    assert stats.port_mapping_renewals == 0


async def call(lab: Lab) -> TraversalStatsSnapshot:
    """One connect_direct of a node that tries nothing by itself."""
    before = lab.a.node.traversal_stats()
    assert before == TraversalStatsSnapshot()
    await lab.a.node.connect_direct(lab.b.node.peer_id)
    after = lab.a.node.traversal_stats()
    without_portmap(after)
    assert after.punches_succeeded <= after.punches_attempted
    assert after.punches_failed == after.punches_attempted - after.punches_succeeded
    assert after.upgrades_attempted == after.upgrades_succeeded == 0
    await trio.sleep(6.0)  # the other end goes on for a while
    lab.check_clean()
    return after


def reject_with(lab: Lab, reason: RejectReason | None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have every coordinator decline, or say nothing; returns a list that grows with each request."""
    asked: list[int] = []

    def on_request(_self: Coordinator, request: object, *_: object) -> PunchReject:
        asked.append(1)
        return PunchReject(request.punch_id, reason or RejectReason.NO_SESSION)  # type: ignore[attr-defined]

    monkeypatch.setattr(Coordinator, "on_request", on_request)
    if reason is None:
        for relay in lab.relays:
            monkeypatch.setattr(relay.rendezvous, "_on_request", lambda *_: asked.append(1))
    return asked


async def test_a_punch_that_succeeds(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        stats = await call(lab)
        assert (stats.punches_attempted, stats.punches_succeeded, stats.punches_failed) == (1, 1, 0)
        assert stats.relay_fallbacks == stats.punch_timeouts == stats.punch_rejections == 0
        assert stats.rendezvous_no_relay == stats.path_failovers == 0
        assert stats.time_to_direct.count == 1
        assert 0.1 < stats.time_to_direct.sum < 1.0
        # the other end only answered
        theirs = lab.b.node.traversal_stats()
        assert (theirs.punches_attempted, theirs.punches_succeeded, theirs.relay_fallbacks) == (0, 0, 0)


async def test_a_punch_that_fails(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        stats = await call(lab)
        assert (stats.punches_attempted, stats.punches_succeeded, stats.punches_failed) == (1, 0, 1)
        assert (stats.relay_fallbacks, stats.punch_timeouts) == (1, 1)
        assert stats.time_to_direct.count == 0


async def test_counted_while_it_goes_on_once_the_introduction_is_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.a.node.connect_direct, lab.b.node.peer_id)
            await until(lambda: lab.a.node.traversal_stats().punches_attempted == 1, 1.0)
            stats = lab.a.node.traversal_stats()
            assert (stats.punches_succeeded, stats.relay_fallbacks, stats.punch_timeouts) == (0, 0, 0)
        assert lab.a.node.traversal_stats().relay_fallbacks == 1


async def test_a_pair_that_is_not_tried(autojump_clock: trio.testing.MockClock) -> None:
    """Symmetric against symmetric: no punch, but a call that ended on the relay."""
    async with open_lab("symmetric", "symmetric", config_a=MANUAL) as lab:
        stats = await call(lab)
        assert (stats.punches_attempted, stats.relay_fallbacks, stats.punch_timeouts) == (0, 1, 0)
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert isinstance(report.error, PunchFailedError)
        assert lab.a.node.traversal_stats().relay_fallbacks == 2


async def test_a_direct_attempt_is_no_punch(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab("port-restricted", "none", config_a=MANUAL) as lab:
        stats = await call(lab)
        assert (stats.punches_attempted, stats.relay_fallbacks) == (0, 0)
        assert stats.time_to_direct.count == 1


async def test_a_direct_attempt_that_fails_is_a_fallback(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab("port-restricted", "none", config_a=MANUAL) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        stats = await call(lab)
        assert (stats.punches_attempted, stats.relay_fallbacks, stats.punch_timeouts) == (0, 1, 0)


@pytest.mark.parametrize("reason", list(RejectReason))
async def test_rejections(
    reason: RejectReason, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        # so that nothing else finds a way
        lab.net.block(lab.a.host, lab.b.host)
        asked = reject_with(lab, reason, monkeypatch)
        stats = await call(lab)
        assert stats.punch_rejections == len(asked) == 2  # both relays
        assert (stats.punches_attempted, stats.relay_fallbacks, stats.punch_timeouts) == (0, 1, 0)
        error = lab.a.peer(lab.b).why_not_direct
        assert isinstance(error, RendezvousRejectedError)
        assert (error.kind, error.reason) == ("rendezvous-rejected", reason.value)


async def test_a_coordinator_that_says_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        asked = reject_with(lab, None, monkeypatch)
        stats = await call(lab)
        assert asked
        assert (stats.punches_attempted, stats.punch_rejections, stats.relay_fallbacks) == (0, 0, 1)
        error = lab.a.peer(lab.b).why_not_direct
        assert isinstance(error, PeerNotReachableError)
        assert error.kind == "peer-not-reachable"


async def test_nobody_to_ask_for_an_introduction(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        await lab.connect()
        lab.net.block(lab.a.host, lab.b.host)
        monkeypatch.setattr(lab.a.rendezvous, "_choose_coordinator", lambda *_: None)
        stats = await call(lab)
        assert (stats.rendezvous_no_relay, stats.punches_attempted, stats.relay_fallbacks) == (1, 0, 1)
        error = lab.a.peer(lab.b).why_not_direct
        assert isinstance(error, RendezvousNoRelayError)
        assert error.kind == "rendezvous-no-relay"


@pytest.mark.parametrize("why", ["not known", "too many requests"])
async def test_what_keeps_us_from_asking_is_no_refusal(
    why: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        await lab.connect()
        lab.net.block(lab.a.host, lab.b.host)
        asked = reject_with(lab, RejectReason.NO_SESSION, monkeypatch)
        if why == "not known":
            monkeypatch.setattr(lab.a.rendezvous, "_reflex", lambda family: None)
        else:
            monkeypatch.setattr(lab.a.rendezvous._guard.requests, "_limit", 0)
        stats = await call(lab)
        assert not asked
        assert (stats.punch_rejections, stats.punches_attempted, stats.relay_fallbacks) == (0, 0, 1)
        error = lab.a.peer(lab.b).why_not_direct
        assert isinstance(error, PunchFailedError)
        assert error.kind == "punch-failed"
        assert why in str(error)
        assert "declined" not in str(error)


async def test_a_node_with_ipv6_only_is_introduced(autojump_clock: trio.testing.MockClock) -> None:
    """It has no IPv4 address that others see, but another one."""
    chance = Chance(1)
    async with VirtualInternet(seed=1) as net, AsyncExitStack() as stack:
        uris: list[str] = []
        for number in range(2):
            host = net.host(f"relay{number}", f"203.0.113.{7 + number}", f"2001:db8::{7 + number}")
            bind = [("0.0.0.0", 4650), ("::", 4650)]
            relay = await stack.enter_async_context(open_node(chance.identity(), bind, uris, network=host))
            uris.append(f"netmesh://{relay.peer_id}@[2001:db8::{7 + number}]:4650")
        one, other = [
            await stack.enter_async_context(
                open_node(chance.identity(), [("::", 0)], uris, network=net.host(name, f"2001:db8:1::{name}"))
            )
            for name in "ab"
        ]
        await until(lambda: None not in (one.nat_report.reflex6, other.nat_report.reflex6), 30.0)
        await trio.sleep(5.0)
        net.block(net.hosts["a"], net.hosts["b"])
        # as it is with a peer that has IPv4, too, and a NAT there
        rendezvous = one._upgrader._rendezvous
        rendezvous._kinds = lambda peer_id: (NatType.UNKNOWN, NatType.CONE)  # type: ignore[method-assign]
        peer = await one.connect(other.peer_id)
        await until(lambda: peer.why_not_direct is not None, 10.0)
        assert one.traversal_stats().punches_attempted == 1
        assert isinstance(peer.why_not_direct, PunchFailedError)


async def test_no_fallback_is_counted_when_the_relay_does_not_carry(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A call that ends without any session raises, and is not counted as one that ended on the relay."""
    async with open_lab(config_a=MANUAL) as lab:
        await lab.connect()
        lab.net.block(lab.a.host, lab.b.host)

        async def end() -> None:
            await trio.sleep(1.0)
            await lab.b.peer(lab.a).aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            try:
                await lab.a.node.connect_direct(lab.b.node.peer_id)
            except PeerNotReachableError as error:
                assert error.kind == "peer-not-reachable"
            else:
                pytest.fail("there is no session")
        stats = lab.a.node.traversal_stats()
        assert (stats.punches_attempted, stats.relay_fallbacks) == (1, 0)


async def test_upgrades_in_the_background(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        await lab.connect()
        assert await lab.direct_within(3.0) is not None
        await trio.sleep(0.1)
        stats = lab.a.node.traversal_stats()
        assert (stats.upgrades_attempted, stats.upgrades_succeeded) == (1, 1)
        assert (stats.punches_attempted, stats.punches_succeeded, stats.relay_fallbacks) == (1, 1, 0)
        assert stats.time_to_direct.count == 1


async def test_counted_before_anybody_learns_of_the_path(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        peer = await lab.connect()
        await peer.wait_direct()
        stats = lab.a.node.traversal_stats()
        assert (stats.punches_attempted, stats.punches_succeeded) == (1, 1)
        assert (stats.upgrades_attempted, stats.upgrades_succeeded) == (1, 1)
        assert stats.time_to_direct.count == 1
        await lab.a.node.connect_direct(lab.b.node.peer_id)
        await trio.sleep(6.0)
        assert lab.a.node.traversal_stats() == stats, "and only once"


async def test_an_introduction_in_the_moment_of_success(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handled right after the path turned direct: attempted and succeeded, never only the latter."""
    async with open_lab(config_a=MANUAL) as lab:
        rendezvous = lab.a.rendezvous
        handle, wait = rendezvous._on_introduce, trains.until_direct
        late: list[tuple[LiveSession, PunchIntroduce]] = []

        async def until_direct(live: LiveSession, scope: trio.CancelScope) -> None:
            await wait(live, scope)
            handle(*late.pop())

        monkeypatch.setattr(rendezvous, "_on_introduce", lambda *args: late.append(args))
        monkeypatch.setattr("netmesh_trio.node.rendezvous.until_direct", until_direct)
        stats = await call(lab)
        assert (stats.punches_attempted, stats.punches_succeeded, stats.punch_timeouts) == (1, 1, 0)
        assert stats.time_to_direct.count == 1


async def test_the_time_of_a_call_counts_from_the_call(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        await lab.connect()
        await trio.sleep(30.0)
        report = await lab.a.node.connect_direct(lab.b.node.peer_id)
        assert report.kind is PathKind.DIRECT
        times = lab.a.node.traversal_stats().time_to_direct
        assert times.count == 1
        assert times.sum == report.elapsed


async def test_the_time_of_a_later_search_counts_from_its_beginning(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        lab.net.block(lab.a.host, lab.b.host)
        peer = await lab.connect()
        await until(lambda: peer.why_not_direct is not None, 10.0)
        lab.net.unblock(lab.a.host, lab.b.host)
        assert await lab.direct_within(40.0) is not None
        stats = lab.a.node.traversal_stats()
        assert (stats.upgrades_attempted, stats.upgrades_succeeded) == (2, 1)
        assert stats.time_to_direct.count == 1
        assert stats.time_to_direct.sum < 1.0


async def test_an_upgrade_that_fails_is_no_fallback(autojump_clock: trio.testing.MockClock) -> None:
    """Fallbacks count calls of connect_direct; a background attempt is none."""
    async with open_lab() as lab:
        lab.net.block(lab.a.host, lab.b.host)
        await lab.connect()
        await trio.sleep(10.0)
        stats = lab.a.node.traversal_stats()
        assert (stats.upgrades_attempted, stats.upgrades_succeeded, stats.relay_fallbacks) == (1, 0, 0)
        assert (stats.punches_attempted, stats.punch_timeouts) == (1, 1)
        await until(lambda: lab.a.node.traversal_stats().upgrades_attempted == 2, 35.0)
        await trio.sleep(29.0)
        assert lab.a.node.traversal_stats().upgrades_attempted == 2, "the second wait is twice as long"
        await until(lambda: lab.a.node.traversal_stats().upgrades_attempted == 3, 40.0)


async def test_failovers(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab() as lab:
        await lab.connect()
        assert await lab.direct_within(3.0) is not None
        await trio.sleep(1.0)
        assert lab.a.node.traversal_stats().path_failovers == 0
        lab.net.block(lab.a.host, lab.b.host)
        await until(lambda: lab.a.path(lab.b).kind is PathKind.RELAYED, 10.0)
        assert lab.a.node.traversal_stats().path_failovers == 1
        assert lab.a.node.statistics().path_failovers == 1


# errors


async def test_unsupported_here(autojump_clock: trio.testing.MockClock) -> None:
    for config in (SILENT, NodeConfig(direct=False)):
        async with open_lab(config_a=config) as lab:
            peer = await lab.connect()
            assert isinstance(peer.why_not_direct, UnsupportedError)
            assert peer.why_not_direct.kind == "unsupported"
            stats = await call(lab)
            assert (stats.relay_fallbacks, stats.punches_attempted) == (1, 0)


async def test_unsupported_there(autojump_clock: trio.testing.MockClock) -> None:
    for config in (SILENT, NodeConfig(direct=False)):
        async with open_lab(config_a=MANUAL, config_b=config) as lab:
            stats = await call(lab)
            assert (stats.relay_fallbacks, stats.punches_attempted) == (1, 0)
            error = lab.a.peer(lab.b).why_not_direct
            assert isinstance(error, UnsupportedError)


async def test_unsupported_relays_introduce_nobody(autojump_clock: trio.testing.MockClock) -> None:
    """Relays that take no part in it go on relaying."""
    async with open_lab(relay_config=SILENT, settled=False) as lab:
        for member in (lab.a, lab.b):
            await member.node.wait_connected()
        await trio.sleep(5.0)
        peer = await lab.connect()
        await trio.sleep(10.0)
        why = peer.why_not_direct
        assert why is not None
        assert why.kind in {"punch-failed", "rendezvous-no-relay", "peer-not-reachable", "rendezvous-rejected"}
        assert lab.a.path(lab.b).kind is PathKind.RELAYED
        lab.check_clean()


async def test_reflex_timeout_transport_and_peer_not_reachable(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL, relays=1) as lab:
        relay = lab.relays[0].node.peer_id
        await trio.sleep(6.0)  # a lone observation is not announced at once
        assert await lab.a.node.probe_reflex(relay) == lab.a.node.reflex_addr
        with pytest.raises(PeerNotReachableError):
            await lab.a.node.probe_reflex(lab.b.node.peer_id)
        await lab.connect()
        with pytest.raises(TransportError) as relayed:
            await lab.a.node.probe_reflex(lab.b.node.peer_id)
        assert relayed.value.kind == "transport"
        lab.net.block(lab.a.host, lab.relays[0].host)
        start = trio.current_time()
        with pytest.raises(ReflexTimeoutError) as slow:
            await lab.a.node.probe_reflex(relay)
        assert slow.value.kind == "reflex-timeout"
        assert trio.current_time() - start == pytest.approx(3.0)


def test_no_error_says_that_a_peer_cannot_be_reached() -> None:
    for error in (
        PunchFailedError(),
        RendezvousNoRelayError(),
        RendezvousRejectedError("rate-limited"),
        UnsupportedError(),
        ReflexTimeoutError(),
        TransportError(),
    ):
        text = str(error)
        assert "stays on" in text or "relay" in text, text
