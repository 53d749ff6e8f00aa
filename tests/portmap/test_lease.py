"""The lease of a node, towards a scripted router, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import (
    Address,
    Identity,
    NatType,
    Node,
    NodeClosedError,
    NodeConfig,
    PortMapChanged,
    TraversalConfig,
    open_node,
)
from netmesh_trio.node import portmapping
from netmesh_trio.testing import Host, VirtualInternet
from netmesh_trio.traversal.portmap import PortMapCause, PortMapError
from tests.node.test_cancellation import cancelled_at
from tests.portmap.router import Router, mangled

PORT = 4650
EXTERNAL = Address("203.0.113.50", PORT)
RTT = 0.002  # to the router and back


@attrs.define(eq=False)
class Home:
    """A network with a router, and room for nodes."""

    net: VirtualInternet
    router: Router
    nursery: trio.Nursery
    host: Host

    def node_at(self, host: Host, **settings: object) -> NodeConfig:
        host.routers = [self.router.gateway_for(host)]
        return NodeConfig(try_port_mapping=True, traversal=TraversalConfig(**settings))  # type: ignore[arg-type]

    @asynccontextmanager
    async def node(self, host: Host | None = None, **settings: object) -> AsyncIterator[Node]:
        host = host or self.host
        config = self.node_at(host, **settings)
        async with open_node(Identity.generate(), ("0.0.0.0", PORT), (), config, network=host) as node:
            yield node

    def requests_for_mappings(self) -> int:
        return sum(r[:2] in (b"\0\1", b"\2\1") for r in self.router.requests)


@asynccontextmanager
async def open_home() -> AsyncIterator[Home]:
    async with VirtualInternet(seed=7) as net:
        lan = net.nat("home", "port-preserving")
        router = Router(lan.host("router"))
        async with trio.open_nursery() as nursery:
            await nursery.start(router.serve)
            yield Home(net, router, nursery, lan.host("alice"))
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], within: float = 60.0) -> float:
    """Wait until something holds; how many seconds that took."""
    began = trio.current_time()
    with trio.move_on_after(within):
        while not condition():
            await trio.sleep(within / 6000)
    assert condition(), f"not within {within} s"
    return trio.current_time() - began


@asynccontextmanager
async def watching(node: Node) -> AsyncIterator[list[PortMapChanged]]:
    found: list[PortMapChanged] = []

    async def watch() -> None:
        async for event in node.events():
            if isinstance(event, PortMapChanged):
                found.append(event)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield found
        nursery.cancel_scope.cancel()


SPEAKS = {"pcp": {"pcp", "nat-pmp"}, "pcp alone": {"pcp"}, "nat-pmp": {"nat-pmp"}}


@pytest.mark.parametrize("speaks", SPEAKS)
async def test_from_start_to_end(speaks: str, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.speaks = SPEAKS[speaks]
        began = trio.current_time()
        async with home.node() as node, watching(node) as events:
            assert trio.current_time() == began, "the start does not wait for it"
            assert await until(lambda: node.nat_type is NatType.OPEN) < 0.35
            assert node.reflex_addr == EXTERNAL
            assert home.router.ports == {PORT: (home.host.address, PORT)}
            assert str(node.addresses[0].address) == str(EXTERNAL)
            stats = node.traversal_stats()
            assert (stats.port_mapping_active, stats.port_mapping_external, stats.port_mapping_renewals) == (
                True,
                EXTERNAL,
                0,
            )
            protocol = speaks.partition(" ")[0]
            assert events == [PortMapChanged(protocol=protocol, external=EXTERNAL, public=True)]
            # one mapping, asked for once
            assert home.requests_for_mappings() == 1
            await trio.sleep(4000)
            assert home.requests_for_mappings() == 3
            assert node.traversal_stats().port_mapping_renewals == 2
            assert home.router.ports == {PORT: (home.host.address, PORT)}
            assert len(events) == 1
            left = trio.current_time()
        assert trio.current_time() - left <= 3 * RTT
        assert home.router.ports == {}
        assert node.nat_type is NatType.OPEN  # as it was when it left
        assert not node.traversal_stats().port_mapping_active
        assert node.traversal_stats().port_mapping_external is None


async def test_without_the_option_no_router_is_asked(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.host.routers = [home.router.gateway_for(home.host)]
        async with open_node(Identity.generate(), ("0.0.0.0", PORT), network=home.host) as node:
            await trio.sleep(100)
            assert not node.traversal_stats().port_mapping_active
        assert home.router.requests == []


@pytest.mark.parametrize("how", ["exception", "cancel", "cancel while asking", "cancel while asking pcp"])
async def test_nothing_is_left_behind(how: str, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        router = home.router
        if how.startswith("cancel while"):
            router.speaks = {"pcp" if how.endswith("pcp") else "nat-pmp"}

            def lost(request: bytes, answer: bytes) -> list[bytes]:
                # the mapping is made, and the answer to that gets lost
                return [] if request[1] == 1 and router.ports else [answer]

            router.mangle = lost
        left = 0.0
        with trio.CancelScope() as scope:
            try:
                async with home.node():
                    await until(lambda: bool(router.ports))
                    if how == "exception":
                        raise KeyError("of the body")
                    left = trio.current_time()
                    scope.cancel()
                    await trio.sleep_forever()
            except KeyError:
                left = trio.current_time()
        assert trio.current_time() - left <= 1.01
        await trio.sleep(0.01)
        assert router.ports == {}


async def test_leaving_takes_a_second_at_most_when_the_router_is_gone(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        async with home.node() as node:
            await until(lambda: node.nat_type is NatType.OPEN)
            home.router.silent = True
            left = trio.current_time()
        assert trio.current_time() - left == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("router", ["none", "silent"])
async def test_no_router_costs_nothing_and_is_told_once(router: str, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.silent = True
        config = home.node_at(home.host)
        if router == "none":
            home.host.routers = []
        began = trio.current_time()
        async with open_node(Identity.generate(), ("0.0.0.0", PORT), (), config, network=home.host) as node:
            assert trio.current_time() == began
            async with watching(node) as events:
                await trio.sleep(600)
                (event,) = events
            assert isinstance(event.error, PortMapError)
            cause = PortMapCause.NO_GATEWAY if router == "none" else PortMapCause.TIMEOUT
            assert (event.error.kind, event.error.cause) == ("port-map-unavailable", cause)
            assert (event.protocol, event.external) == (None, None)
            assert node.nat_type is NatType.UNKNOWN
            left = trio.current_time()
        assert trio.current_time() == left
        # two protocols, four packets each, rarer and rarer
        assert len(home.router.requests) in ((0,) if router == "none" else range(40, 64))


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
async def test_three_failures_end_it_and_a_router_that_is_back_is_used(
    protocol: str, autojump_clock: MockClock
) -> None:
    async with open_home() as home:
        home.router.speaks = {protocol}
        async with home.node() as node, watching(node) as events:
            await until(lambda: node.nat_type is NatType.OPEN)
            home.router.silent = True
            # 1800, 2700 and 3150 s after it was made, each 3.75 s at most
            took = await until(lambda: node.nat_type is not NatType.OPEN, 4000)
            assert 3150 < took < 3160
            assert node.reflex_addr is None
            stats = node.traversal_stats()
            assert (stats.port_mapping_active, stats.port_mapping_external) == (False, None)
            assert [e.external for e in events] == [EXTERNAL, None]
            assert events[-1].error is not None
            home.router.silent = False
            home.router.reboot()
            assert await until(lambda: node.nat_type is NatType.OPEN, 400) < 320
            assert node.traversal_stats().port_mapping_renewals == 0


@pytest.mark.parametrize("failures", [1, 2])
async def test_fewer_failures_change_nothing(failures: int, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        async with home.node() as node, watching(node) as events:
            await until(lambda: node.nat_type is NatType.OPEN)
            home.router.silent = True
            await trio.sleep(1800 if failures == 1 else 2700)
            await trio.sleep(5)
            home.router.silent = False
            await until(lambda: node.traversal_stats().port_mapping_renewals == 1, 1000)
            assert len(events) == 1
            assert home.router.ports


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
@pytest.mark.parametrize("what", ["reboot", "address", "both"])
async def test_a_router_that_restarts_is_asked_again(protocol: str, what: str, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.speaks = {protocol}
        async with home.node() as node:
            await until(lambda: node.nat_type is NatType.OPEN)
            await trio.sleep(50)
            if what != "reboot":
                home.router.external = "203.0.113.51"
            if what != "address" or protocol == "pcp":  # RFC 6887, 8.5: it resets the epoch then, too
                home.router.reboot()
            wanted = Address(home.router.external, PORT)
            # virtual networks have no multicast: this is the question that is asked from time to time
            assert await until(lambda: node.reflex_addr == wanted and bool(home.router.ports)) <= 20.1
            assert node.nat_type is NatType.OPEN
            assert node.traversal_stats().port_mapping_external == wanted
            assert node.traversal_stats().port_mapping_active


@pytest.mark.parametrize("jump", [-40.0, 1000.0])
async def test_a_clock_that_jumps_makes_us_ask_again(jump: float, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        async with home.node() as node, watching(node) as events:
            await until(lambda: node.nat_type is NatType.OPEN)
            await trio.sleep(50)
            home.router.skew = jump
            assert await until(lambda: home.requests_for_mappings() == 2) <= 20.1
            await trio.sleep(100)
            assert home.requests_for_mappings() == 2
            assert node.traversal_stats().port_mapping_renewals == 0
            assert len(events) == 1, "the address is the same: no news"


async def test_a_router_that_maps_only_some_time_after_its_restart(autojump_clock: MockClock) -> None:
    def not_yet(request: bytes, answer: bytes) -> list[bytes]:
        if request[:2] == b"\2\1":
            home.router.table.clear()
            return []
        return [answer]

    async with open_home() as home:
        home.router.speaks = {"pcp"}
        async with home.node() as node:
            await until(lambda: node.nat_type is NatType.OPEN)
            await trio.sleep(50)
            home.router.reboot()
            with mangled(home.router, not_yet):
                await trio.sleep(65)
                assert not home.router.ports
            await until(lambda: bool(home.router.ports), 25)
            assert node.nat_type is NatType.OPEN


async def test_two_nodes_that_ask_for_one_port(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        other = home.net.nats["home"].host("bob")
        async with home.node() as first:
            await until(lambda: first.nat_type is NatType.OPEN)
            async with home.node(other) as second:
                await until(lambda: second.nat_type is NatType.OPEN)
                assert first.reflex_addr == EXTERNAL
                assert second.reflex_addr == Address(EXTERNAL.host, PORT + 1)
                assert home.router.ports == {PORT: (home.host.address, PORT), PORT + 1: (other.address, PORT)}
                await trio.sleep(2000)
                assert second.reflex_addr == Address(EXTERNAL.host, PORT + 1)
            assert home.router.ports == {PORT: (home.host.address, PORT)}


async def test_a_port_that_is_lost_to_another_while_the_router_restarts(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        async with home.node() as node:
            await until(lambda: node.nat_type is NatType.OPEN)
            await trio.sleep(50)
            home.router.reboot()
            home.router.table[PORT] = ("10.9.9.9", 1, float("inf"))
            await until(lambda: node.reflex_addr == Address(EXTERNAL.host, PORT + 1))
            assert node.traversal_stats().port_mapping_external == Address(EXTERNAL.host, PORT + 1)


async def test_a_shorter_lease_is_renewed_by_its_half(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.longest = 120
        async with home.node() as node:
            await until(lambda: node.nat_type is NatType.OPEN)
            for _ in range(61):
                await trio.sleep(10)
                assert home.router.ports
            assert node.traversal_stats().port_mapping_renewals == 10


async def test_renewal_as_the_config_says(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        async with home.node(port_mapping_renewal=100.0, port_mapping_lease=1000.0) as node:
            await trio.sleep(1050)
            assert node.traversal_stats().port_mapping_renewals == 10
            asked = [r for r in home.router.requests if r[:2] == b"\2\1"]
            assert {r[4:8] for r in asked} == {(1000).to_bytes(4, "big")}


@pytest.mark.parametrize("external", ["192.168.178.20", "100.64.3.4", "10.0.0.1", "169.254.3.4"])
async def test_an_address_that_is_not_public_is_not_announced(external: str, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.external = external
        async with home.node() as node, watching(node) as events:
            await until(lambda: bool(events))
            address = Address(external, PORT)
            assert events == [PortMapChanged(protocol="pcp", external=address, public=False)]
            await trio.sleep(60)
            assert node.nat_type is NatType.UNKNOWN
            assert node.reflex_addr is None
            assert not node.traversal_stats().port_mapping_active
            assert home.router.ports, "what lies between the two NATs may use it"
            # the outer NAT goes away
            home.router.external = EXTERNAL.host
            home.router.reboot()
            await until(lambda: node.nat_type is NatType.OPEN)
            assert node.reflex_addr == EXTERNAL
            assert node.traversal_stats().port_mapping_active
        assert not home.router.ports


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_operators_word_goes_first(when: str, autojump_clock: MockClock) -> None:
    wanted = Address("198.51.100.77", 99)
    async with open_home() as home:
        async with home.node(reflex_override=wanted if when == "before" else None) as node:
            await until(lambda: node.traversal_stats().port_mapping_active)
            if when == "after":
                assert node.reflex_addr == EXTERNAL
                node.set_reflex_override(wanted)
            assert (node.nat_type, node.reflex_addr) == (NatType.OPEN, wanted)
            await trio.sleep(2000)
            assert node.reflex_addr == wanted
            node.clear_reflex_override()
            assert node.reflex_addr == EXTERNAL


async def test_the_network_changes(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        cafe = Router(home.net.nat("cafe", "port-preserving").host("cafe-router"))
        cafe.external = "203.0.113.99"
        await home.nursery.start(cafe.serve)
        async with home.node() as node, watching(node) as events:
            await until(lambda: node.reflex_addr == EXTERNAL)
            home.host.roam(home.net.nats["cafe"])
            home.host.routers = [cafe.gateway_for(home.host)]
            moved = Address(cafe.external, PORT)
            assert await until(lambda: node.reflex_addr == moved) < 5
            assert [e.external for e in events] == [EXTERNAL, None, moved]
            # back, beside both
            home.host.routers = []
            assert await until(lambda: node.nat_type is not NatType.OPEN) < 5
            assert not cafe.ports, "the old one can be reached still: it is given back"


async def test_a_node_that_was_killed_takes_up_its_mapping(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.speaks = {"pcp"}
        identity = Identity.generate()
        config = home.node_at(home.host)
        with trio.CancelScope() as scope:
            async with open_node(identity, ("0.0.0.0", PORT), (), config, network=home.host):
                await until(lambda: bool(home.router.ports))
                home.router.silent = True  # nothing of how it ends gets there
                scope.cancel()
                await trio.sleep_forever()
        assert len(home.router.ports) == 1
        home.router.silent = False
        async with open_node(identity, ("0.0.0.0", PORT), (), config, network=home.host) as node:
            await until(lambda: node.reflex_addr == EXTERNAL)
            assert len(home.router.ports) == 1
        assert not home.router.ports


# hostile routers


def cut(request: bytes, answer: bytes) -> list[bytes]:
    return [answer[:7]]


def padded(request: bytes, answer: bytes) -> list[bytes]:
    return [answer + bytes(1200)]


def noise(request: bytes, answer: bytes) -> list[bytes]:
    return [bytes(50)] * 500


def other_nonce(request: bytes, answer: bytes) -> list[bytes]:
    return [answer[:24] + bytes(12) + answer[36:]] if len(answer) > 30 else [answer]


def no_lease(request: bytes, answer: bytes) -> list[bytes]:
    """Grants 0 s, or 1 s."""
    if request[:2] == b"\2\1":
        return [answer[:4] + bytes(4) + answer[8:]]
    return [answer[:12] + bytes((0, 0, 0, 1))] if request[:2] == b"\0\1" else [answer]


def no_port(request: bytes, answer: bytes) -> list[bytes]:
    if request[:2] == b"\2\1":
        return [answer[:42] + bytes(2) + answer[44:]]
    return [answer[:10] + bytes(2) + answer[12:]] if request[:2] == b"\0\1" else [answer]


def multicast_address(request: bytes, answer: bytes) -> list[bytes]:
    if request[:2] == b"\2\1":
        return [answer[:56] + bytes((224, 0, 0, 1))]
    return [answer[:8] + bytes((224, 0, 0, 1))] if request == bytes(2) else [answer]


HOSTILE: dict[str, tuple[Callable[[bytes, bytes], list[bytes]], PortMapCause]] = {
    "truncated": (cut, PortMapCause.MALFORMED),
    "oversized": (padded, PortMapCause.MALFORMED),
    "noise": (noise, PortMapCause.MALFORMED),
    "no lease": (no_lease, PortMapCause.MALFORMED),
    "no port": (no_port, PortMapCause.MALFORMED),
    "multicast": (multicast_address, PortMapCause.MALFORMED),
}


@pytest.mark.parametrize("speaks", SPEAKS)
@pytest.mark.parametrize("how", HOSTILE)
async def test_a_router_that_answers_nonsense(how: str, speaks: str, autojump_clock: MockClock) -> None:
    mangle, cause = HOSTILE[how]
    async with open_home() as home:
        home.router.speaks = SPEAKS[speaks]
        with mangled(home.router, mangle):
            async with home.node() as node, watching(node) as events:
                assert await until(lambda: bool(events)) < 20
                (event,) = events
                assert isinstance(event.error, PortMapError)
                assert event.error.cause is cause
                assert node.reflex_addr is None
                await trio.sleep(300)
                assert len(home.router.requests) < 200
                home.router.mangle = lambda request, answer: [answer]
                await until(lambda: node.nat_type is NatType.OPEN, 400)


async def test_answers_of_others_count_for_nothing(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.router.answer_port = 5352
        async with home.node() as node, watching(node) as events:
            await until(lambda: bool(events))
            assert isinstance(events[0].error, PortMapError)
            assert events[0].error.cause is PortMapCause.TIMEOUT
            home.router.answer_port = 5351
            home.router.speaks = {"pcp"}
            with mangled(home.router, other_nonce):
                await trio.sleep(100)
                assert node.nat_type is NatType.UNKNOWN
                assert not node.traversal_stats().port_mapping_active
            await until(lambda: node.nat_type is NatType.OPEN, 400)


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
async def test_a_lease_of_a_century_is_taken_for_a_week(protocol: str, autojump_clock: MockClock) -> None:
    def eternal(request: bytes, answer: bytes) -> list[bytes]:
        if request[:2] == b"\2\1":
            return [answer[:4] + b"\xff" * 4 + answer[8:]]
        return [answer[:12] + b"\xff" * 4] if request[:2] == b"\0\1" else [answer]

    async with open_home() as home:
        home.router.speaks = {protocol}
        async with home.node() as node:
            with mangled(home.router, eternal):
                await until(lambda: node.nat_type is NatType.OPEN)
            (report,) = await node.check_router()
            assert report.mapping is not None
            assert report.mapping.lifetime == 7 * 86400
            await trio.sleep(1801)  # the node's own wish holds all the same
            assert node.traversal_stats().port_mapping_renewals == 1


@pytest.mark.parametrize(("result", "cause"), [(2, PortMapCause.REFUSED), (8, PortMapCause.OUT_OF_RESOURCES)])
async def test_what_one_protocol_refuses_the_next_is_asked_for(
    result: int, cause: PortMapCause, autojump_clock: MockClock
) -> None:
    async with open_home() as home:

        def pcp_says_no(request: bytes, answer: bytes) -> list[bytes]:
            if request[:2] != b"\2\1":
                return [answer]
            home.router.table.clear()
            return [answer[:3] + bytes((result,)) + answer[4:]]

        with mangled(home.router, pcp_says_no):
            async with home.node() as node, watching(node) as events:
                await until(lambda: node.nat_type is NatType.OPEN)
                assert events[0].protocol == "nat-pmp"
            await trio.sleep(0.1)
        home.router.result = result
        async with home.node() as node, watching(node) as events:
            await until(lambda: bool(events))
            assert isinstance(events[0].error, PortMapError)
            assert (events[0].error.protocol, events[0].error.cause) == ("pcp", cause)


async def test_asking_the_router_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.host.routers = [home.router.gateway_for(home.host)]
        async with open_node(Identity.generate(), ("0.0.0.0", PORT), network=home.host) as node:
            (report,) = await node.check_router()
            assert report.gateway == home.router.gateway_for(home.host)
            pcp, natpmp = report.answers
            assert (pcp.protocol, natpmp.protocol) == ("pcp", "nat-pmp")
            assert not isinstance(natpmp, PortMapError)
            assert natpmp.external == EXTERNAL.host
            assert report.mapping is None
            home.router.silent = True
            began = trio.current_time()
            (report,) = await node.check_router()
            assert trio.current_time() - began == pytest.approx(3.0, abs=0.01)
            causes = [a.cause if isinstance(a, PortMapError) else a for a in report.answers]
            assert causes == [PortMapCause.TIMEOUT, PortMapCause.TIMEOUT]
            home.host.routers = []
            (report,) = await node.check_router()
            assert (report.gateway, report.answers) == (None, ())
        assert home.requests_for_mappings() == 0


@pytest.mark.parametrize("silent", [False, True])
async def test_asking_the_router_cancelled_at_every_checkpoint(silent: bool, autojump_clock: MockClock) -> None:
    async with open_home() as home:
        home.host.routers = [home.router.gateway_for(home.host)]
        home.router.silent = silent
        async with open_node(Identity.generate(), ("0.0.0.0", PORT), network=home.host) as node:
            k = 0
            while await cancelled_at(k, node.check_router):
                assert len(home.host._sockets) == 1, "the node's own"
                k += 1
            assert k > 1
            assert len(home.host._sockets) == 1
        with pytest.raises(NodeClosedError):
            await node.check_router()


async def test_notices_are_answered_by_a_question_but_not_by_a_flood(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home() as home:
        loud = await home.router.host.bind(home.router.host.address, 5350)

        async def join(group: str, port: int, gateway: object) -> object:
            return await home.host.bind(home.host.address, port)

        monkeypatch.setattr(home.host, "join", join)
        monkeypatch.setattr(portmapping, "NOTICES", {4: (("224.0.0.1", 5350),)})
        async with home.node() as node:
            await until(lambda: node.nat_type is NatType.OPEN)
            await trio.sleep(50)
            home.router.external = "203.0.113.51"
            home.router.reboot()
            await trio.sleep(1)
            assert node.reflex_addr == EXTERNAL
            loud.send((b"changed",), 7, Address(home.host.address, 5350))
            assert await until(lambda: node.reflex_addr == Address("203.0.113.51", PORT)) < 2.1
            before = len(home.router.requests)
            for _ in range(1000):
                loud.send((b"changed",), 7, Address(home.host.address, 5350))
                await trio.sleep(0.02)
            assert 9 <= len(home.router.requests) - before <= 12
            assert node.traversal_stats().port_mapping_renewals == 0
            # nor does that put off the renewal
            await trio.sleep(1790)
            assert node.traversal_stats().port_mapping_renewals == 1
        loud.close()


async def test_cancelled_at_every_moment_nothing_is_left(autojump_clock: MockClock) -> None:
    """Whatever step it is at, leaving gives back what there is."""
    steps = [n * RTT / 4 for n in range(1, 40)]
    async with open_home() as home:
        for speaks in SPEAKS.values():
            home.router.speaks = speaks
            for step in steps:
                with trio.move_on_after(step):
                    async with home.node():
                        await trio.sleep_forever()
                await trio.sleep(0.1)
                assert home.router.ports == {}, (speaks, step)
