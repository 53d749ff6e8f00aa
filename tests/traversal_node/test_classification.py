"""What nodes behind each kind of NAT find out and announce, when, and how fast, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, ConfigError, Event, Identity, NatChanged, NatType, open_node
from netmesh_trio.node.engine import COURTESY
from netmesh_trio.testing import KINDS, NatBehavior
from netmesh_trio.traversal import Dependence
from netmesh_trio.traversal.classify import Observation
from tests.traversal_node.nat_lab import DELAY, RTT, NatLab, classifying, config_of, open_nat_lab

EXPECTED = {
    "none": NatType.OPEN,
    "firewall": NatType.OPEN,
    "full-cone": NatType.CONE,
    "address-restricted": NatType.CONE,
    "port-restricted": NatType.CONE,
    "port-preserving": NatType.CONE,
    "symmetric": NatType.SYMMETRIC,
    "symmetric-step": NatType.SYMMETRIC,
    "double": NatType.CONE,
    "double-symmetric": NatType.SYMMETRIC,
}
FILTERING = {
    "none": Dependence.ENDPOINT_INDEPENDENT,
    "full-cone": Dependence.ENDPOINT_INDEPENDENT,
    "address-restricted": Dependence.ADDRESS_DEPENDENT,
}


async def announced(lab: NatLab, kind: NatType) -> float:
    """When all relays have heard it, in seconds since the node was opened."""
    return await lab.until(lambda: all(r.peer_nat_type(lab.node.peer_id) is kind for r in lab.relays))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind(kind: str, seed: int, autojump_clock: MockClock) -> None:
    assert KINDS.keys() == EXPECTED.keys()
    async with open_nat_lab(kind, seed=seed) as lab:
        took = await lab.until(lambda: lab.node.nat_type is not NatType.UNKNOWN)
        # a round trip for the handshake, and one for the question; half of one more until others know
        rtt = 2 * DELAY * (1 + max(1, len(KINDS[kind])))
        assert took <= 2 * rtt + 3 * COURTESY
        assert await announced(lab, EXPECTED[kind]) <= 2.5 * rtt + 4 * COURTESY
        assert lab.node.nat_type is EXPECTED[kind]
        await trio.sleep(10)
        assert lab.node.nat_type is EXPECTED[kind]
        seen = {(await lab.node.probe_reflex(relay.peer_id)) for relay in lab.relays}
        assert lab.node.reflex_addr in seen
        assert (len(seen) > 1) == (EXPECTED[kind] is NatType.SYMMETRIC)
        known = lab.relays[0]._store.get(lab.node.peer_id)
        assert known is not None
        assert known.reflex == lab.node.reflex_addr
        assert known.tags[:3] == (f"nat:{EXPECTED[kind]}", "nat-traversal", "relay-capable")


@pytest.mark.parametrize("kind", KINDS)
async def test_report(kind: str, autojump_clock: MockClock) -> None:
    """With a helper that the node does not know, all that RFC 4787 asks for comes out."""
    async with open_nat_lab(kind, strangers=1) as lab:
        await lab.node.wait_connected()
        assert await lab.node.reclassify_nat(thorough=True) is EXPECTED[kind]
        report = lab.node.nat_report
        assert report.filtering is FILTERING.get(kind, Dependence.ADDRESS_AND_PORT_DEPENDENT)
        symmetric = EXPECTED[kind] is NatType.SYMMETRIC
        assert report.mapping is (None if symmetric else Dependence.ENDPOINT_INDEPENDENT)
        assert report.port_preservation is (kind in ("none", "firewall", "port-preserving"))
        assert report.hairpin is (False if EXPECTED[kind] is NatType.CONE else None)
        assert report.binding_lifetime is None
        assert report.nat_type is EXPECTED[kind]
        assert len(report.observations) == 2


async def test_report_without_a_third_host(autojump_clock: MockClock) -> None:
    """Nobody to send from another address: unknown is not false."""
    async with open_nat_lab("address-restricted") as lab:
        await lab.node.wait_connected()
        await lab.node.reclassify_nat(thorough=True)
        assert lab.node.nat_report.filtering is None
    async with open_nat_lab("port-restricted") as lab:
        await lab.node.wait_connected()
        await lab.node.reclassify_nat(thorough=True)
        assert lab.node.nat_report.filtering is Dependence.ADDRESS_AND_PORT_DEPENDENT


async def test_a_lost_canary_proves_nothing(autojump_clock: MockClock) -> None:
    for seed in range(5):
        async with open_nat_lab("full-cone", strangers=1, seed=seed) as lab:
            lab.host.nats[0].link.loss = 0.05
            await lab.node.wait_connected()
            await trio.sleep(30)
            assert lab.node.nat_report.filtering is Dependence.ENDPOINT_INDEPENDENT


async def test_hairpin(autojump_clock: MockClock) -> None:
    async with open_nat_lab(NatBehavior(hairpin=True)) as lab:
        await lab.node.wait_connected()
        await lab.node.reclassify_nat(thorough=True)
        assert lab.node.nat_report.hairpin is True


async def test_looking_into_the_nat_delays_no_announcement(autojump_clock: MockClock) -> None:
    async with open_nat_lab("port-restricted", strangers=1) as lab:
        assert await announced(lab, NatType.CONE) < 0.15
        assert lab.node.nat_report.filtering is None
        await lab.until(lambda: lab.node.nat_report.filtering is not None, 5)


async def test_one_observer(autojump_clock: MockClock) -> None:
    async with open_nat_lab(bootstraps=1) as lab:
        await trio.sleep(20)
        assert lab.node.nat_type is NatType.UNKNOWN
        assert await lab.node.reclassify_nat() is NatType.UNKNOWN
        seen = await lab.node.probe_reflex(lab.relays[0].peer_id)
        assert lab.node.reflex_addr == seen
        known = lab.relays[0]._store.get(lab.node.peer_id)
        assert known is not None
        assert known.reflex == seen
        # a second one comes later
        host = lab.net.hosts["r1"]
        then = trio.current_time()
        await lab.node.connect(f"netmesh://{lab.relays[1].peer_id}@{host.address}:4650")
        connected = trio.current_time()
        with trio.fail_after(10):
            while lab.node.nat_type is NatType.UNKNOWN:
                await trio.sleep(0.001)
        assert connected - then < trio.current_time() - then < connected - then + 2 * RTT + 0.1
        assert lab.node.nat_type is NatType.CONE


async def test_nobody_to_ask(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        lab.host.link.down = True
        assert await lab.node.reclassify_nat() is NatType.UNKNOWN
        assert lab.node.reflex_addr is None
        assert lab.relays[0].peer_nat_type(lab.node.peer_id) is NatType.UNKNOWN


async def test_events(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab, trio.open_nursery() as nursery:
        events: list[Event] = []

        async def watch() -> None:
            async for event in lab.node.events():
                if isinstance(event, NatChanged):
                    events.append(event)

        nursery.start_soon(watch)
        await trio.sleep(60)
        seen = lab.node.reflex_addr
        assert events == [NatChanged(nat_type=NatType.CONE, reflex_addr=seen)]
        await lab.node.reclassify_nat()
        assert len(events) == 1
        nursery.cancel_scope.cancel()


async def test_override(autojump_clock: MockClock) -> None:
    forwarded = Address("203.0.113.200", 7777)
    async with open_nat_lab("symmetric") as lab:
        await announced(lab, NatType.SYMMETRIC)
        observed = lab.node.reflex_addr
        lab.node.set_reflex_override(str(forwarded))
        assert (lab.node.nat_type, lab.node.reflex_addr) == (NatType.OPEN, forwarded)
        assert lab.node.nat_report.overridden
        await trio.sleep(5)
        for name in (lab.node.peer_id, str(lab.node.peer_id), lab.node.addresses[0], str(lab.node.addresses[0])):
            assert lab.relays[0].peer_nat_type(name) is NatType.OPEN
        known = lab.relays[1]._store.get(lab.node.peer_id)
        assert known is not None
        assert known.reflex == forwarded
        assert await lab.node.reclassify_nat() is NatType.OPEN
        lab.node.clear_reflex_override()
        assert (lab.node.nat_type, lab.node.reflex_addr) == (NatType.SYMMETRIC, observed)
        await trio.sleep(5)
        assert lab.relays[0].peer_nat_type(lab.node.peer_id) is NatType.SYMMETRIC
        for wrong in ("nonsense", "0.0.0.0:1", ("224.0.0.1", 5), Address("203.0.113.1", 0), None):
            with pytest.raises(ConfigError, match="override"):
                lab.node.set_reflex_override(wrong)  # type: ignore[arg-type]


async def test_override_in_the_configuration(autojump_clock: MockClock) -> None:
    forwarded = Address("203.0.113.200", 7777)
    async with open_nat_lab("symmetric", config=config_of(reflex_override=forwarded)) as lab:
        assert (lab.node.nat_type, lab.node.reflex_addr) == (NatType.OPEN, forwarded)
        await announced(lab, NatType.OPEN)
        await trio.sleep(5)
        lab.node.clear_reflex_override()
        assert lab.node.nat_type is NatType.SYMMETRIC


@pytest.mark.parametrize("kind", ["port-restricted", "symmetric"])
async def test_a_router_with_a_new_address(kind: str, autojump_clock: MockClock) -> None:
    async with open_nat_lab(kind) as lab:
        await announced(lab, EXPECTED[kind])
        await trio.sleep(20)
        before = lab.node.reflex_addr
        assert before is not None
        lab.host.nats[0].reboot()
        then = trio.current_time()

        def noticed() -> bool:
            reflex = lab.node.reflex_addr
            known = [relay._store.get(lab.node.peer_id) for relay in lab.relays]
            return (
                reflex is not None
                and reflex.host == lab.host.nats[0].address
                and all(k is not None and k.reflex == reflex for k in known)
            )

        await lab.until(noticed)
        assert trio.current_time() - then < 30
        await trio.sleep(30)
        assert lab.node.nat_type is EXPECTED[kind]
        assert noticed()


async def test_no_kind_in_between_when_a_router_restarts(autojump_clock: MockClock) -> None:
    async with open_nat_lab(relays=3) as lab, trio.open_nursery() as nursery:
        await announced(lab, NatType.CONE)
        kinds: list[NatType] = []

        async def watch() -> None:
            async for event in lab.node.events():
                if isinstance(event, NatChanged):
                    kinds.append(event.nat_type)

        nursery.start_soon(watch)
        await trio.sleep(20)
        lab.host.nats[0].reboot()
        await trio.sleep(60)
        assert set(kinds) == {NatType.CONE}
        nursery.cancel_scope.cancel()


async def test_another_network(autojump_clock: MockClock) -> None:
    async with open_nat_lab("none") as lab:
        await announced(lab, NatType.OPEN)
        await trio.sleep(10)
        home = lab.net.nat("home", "port-restricted")
        lab.host.roam(home)
        then = trio.current_time()
        await lab.until(lambda: lab.node.nat_type is NatType.CONE)
        assert trio.current_time() - then < 8
        await announced(lab, NatType.CONE)
        assert lab.node.reflex_addr is not None
        assert lab.node.reflex_addr.host == home.address
        lab.host.roam(lab.net)
        await lab.until(lambda: lab.node.nat_type is NatType.OPEN)


async def test_an_observer_that_fails_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await announced(lab, NatType.CONE)
        asked = lab.relays[1].statistics().reflex_answered
        reflex = lab.node.reflex_addr
        await trio.sleep(10)
        lab.net.hosts["r0"].kill()
        await trio.sleep(10)
        assert (lab.node.nat_type, lab.node.reflex_addr) == (NatType.CONE, reflex)
        assert lab.relays[1].statistics().reflex_answered == asked


async def test_rounds_by_the_clock(autojump_clock: MockClock) -> None:
    async with open_nat_lab("port-restricted", config=config_of(classify_interval=100)) as lab:
        await announced(lab, NatType.CONE)
        await trio.sleep(1000)
        # at start, ten rounds, and a single question now and then; never in a rush
        answered = [relay.statistics().reflex_answered for relay in lab.relays]
        assert all(10 <= n <= 50 for n in answered)


async def test_a_slow_observer_does_not_hold_up(autojump_clock: MockClock) -> None:
    async with open_nat_lab(relays=3) as lab:
        lab.net.hosts["r2"].link.delay = 2.0
        assert await lab.until(lambda: lab.node.nat_type is NatType.CONE) < 1
        await trio.sleep(10)
        lab.net.block(lab.host, lab.net.hosts["r2"])
        then = trio.current_time()
        assert await lab.node.reclassify_nat() is NatType.CONE
        assert trio.current_time() - then <= 5


async def test_many_calls_share_rounds(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await announced(lab, NatType.CONE)
        await trio.sleep(20)
        before = lab.relays[0].statistics().reflex_answered
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(lab.node.reclassify_nat)
        assert lab.relays[0].statistics().reflex_answered - before <= 2


async def test_a_stuck_round_does_not_spin(autojump_clock: MockClock) -> None:
    async with open_nat_lab(config=config_of(classify_interval=1, reflex_timeout=3)) as lab:
        await announced(lab, NatType.CONE)
        lab.net.block(lab.host, lab.net.hosts["r0"])
        turns = 0
        settle = classifying(lab.node)._settle

        def counted(now: float) -> float:
            nonlocal turns
            turns += 1
            return settle(now)

        classifying(lab.node)._settle = counted  # type: ignore[method-assign]
        await trio.sleep(20)
        assert turns < 400


async def test_a_liar_cannot_keep_us_busy(autojump_clock: MockClock) -> None:
    """An observer that names another address each time causes rounds, but few."""
    async with open_nat_lab() as lab:
        await announced(lab, NatType.CONE)
        await trio.sleep(20)
        before = lab.relays[1].statistics().reflex_answered
        port = 1000
        for _ in range(100):
            port += 1
            lie = Address("203.0.113.77", port)
            observer = Address(lab.net.hosts["r0"].address, 4650)
            seen = Observation(lab.relays[0].peer_id, observer, lie, trio.current_time())
            classifying(lab.node).observe(seen)
            await trio.sleep(1)
        assert lab.relays[1].statistics().reflex_answered - before <= 100 / 5 + 5


async def test_neighbors_in_the_own_network_prove_nothing(autojump_clock: MockClock) -> None:
    """Two peers behind the same NAT see the private address: that makes nobody open."""
    async with open_nat_lab() as lab:
        await announced(lab, NatType.CONE)
        home = lab.host.nats[0]
        async with (
            open_node(Identity.generate(), network=home.host("one")) as one,
            open_node(Identity.generate(), network=home.host("two")) as two,
        ):
            for other in (one, two):
                await lab.node.connect(other.addresses[0])
            await trio.sleep(5)
            assert await lab.node.reclassify_nat() is NatType.CONE
            private = await lab.node.probe_reflex(one.peer_id)
            assert private.is_private
            assert lab.node.reflex_addr != private


async def test_cancelled_at_every_checkpoint(autojump_clock: MockClock) -> None:
    async with open_nat_lab(strangers=1) as lab:
        await announced(lab, NatType.CONE)
        await trio.sleep(20)
        for call in (lab.node.reclassify_nat, lambda: lab.node.probe_reflex(lab.relays[0].peer_id)):
            for step in range(12):
                with trio.move_on_after(step * RTT / 8):
                    await call()
                await trio.sleep(12)
                assert not lab.node._reflexes._waiting
        assert await lab.node.reclassify_nat() is NatType.CONE
