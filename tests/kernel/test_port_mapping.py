"""Port mappings from a real router daemon: who gets in, what is announced, and what is left at the end."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from netmesh_trio import Address, Identity, NatType, Node, NodeConfig, PathKind, TraversalConfig, open_node
from netmesh_trio.testing.kernel_netns import nft
from netmesh_trio.testing.namespaces import Gateway, Host, KernelInternet
from netmesh_trio.traversal import PortMapError
from tests.cli.program import Program
from tests.kernel.inside import HostNetwork, World, open_world
from tests.kernel.mesh import Mesh
from tests.kernel.router import PUBLIC, Mapped, RouterDaemon, give_ipv6, need_daemon

pytestmark = pytest.mark.kernel

PORT = 4650
EXTERNAL = Address(PUBLIC, PORT)
ELSEWHERE = "8.9.10.12"
# The daemon speaks NAT-PMP and PCP on one port: a router that does not know PCP drops what begins with a 2.
NO_PCP = """
table inet nopcp {
  chain input { type filter hook input priority 0; udp dport 5351 @th,64,8 0x02 drop; }
}
"""
PROTOCOLS = ("all", "pcp", "nat-pmp", "upnp")


@attrs.define(eq=False)
class Home:
    """A host behind a router with the daemon, and hosts elsewhere."""

    lab: KernelInternet
    gateway: Gateway
    host: Host
    relay: Host
    daemon: RouterDaemon

    def mapped(self, port: int = PORT) -> Mapped:
        return Mapped(port, self.host.address, PORT)

    def speak(self, protocol: str) -> None:
        """Start the daemon with one protocol, or all."""
        self.daemon.options["enable_upnp"] = "yes" if protocol in ("all", "upnp") else "no"
        self.daemon.options["enable_natpmp"] = "no" if protocol == "upnp" else "yes"
        if protocol == "nat-pmp":
            nft(self.gateway.namespace, NO_PCP)
        self.daemon.start()


@pytest.fixture
def home(lab: KernelInternet, tmp_path: Path) -> Home:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    return Home(lab, gateway, gateway.host("host"), lab.host("relay"), RouterDaemon(gateway, tmp_path))


@asynccontextmanager
async def mapping_node(host: Host, world: World | None = None, **settings: float) -> AsyncIterator[Node]:
    config = NodeConfig(try_port_mapping=True, traversal=TraversalConfig(**settings))  # type: ignore[arg-type]
    relays = [] if world is None else world.relays
    async with open_node(Identity.generate(), ("0.0.0.0", PORT), relays, config, network=HostNetwork(host)) as node:
        if world is not None:
            with trio.fail_after(10):
                await node.wait_connected()
        yield node


async def until(condition: Callable[[], bool], within: float) -> float:
    """Wait until something holds; how many seconds that took."""
    began = trio.current_time()
    with trio.move_on_after(within):
        while not condition():
            await trio.sleep(0.01)
    assert condition(), f"not within {within} s"
    return trio.current_time() - began


def heard(relay: Node, node: Node) -> Address | None:
    """Where the node is, by what has been announced to the relay; None unless it is open."""
    announcement = relay._store.get(node.peer_id)
    open_ = relay.peer_nat_type(node.peer_id) is NatType.OPEN
    return announcement.reflex if announcement is not None and open_ else None


async def connect_from_outside(home: Home, node: Node, external: Address) -> None:
    """A node that knows nobody dials the mapped address."""
    outside = home.lab.host(f"stranger{external.port}")
    async with open_node(Identity.generate(), network=HostNetwork(outside)) as stranger:
        peer = await stranger.connect(f"netmesh://{node.peer_id}@{external}")
        path = peer.path
        assert path is not None
        assert (path.kind, path.addr) == (PathKind.DIRECT, external)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_open_while_it_runs_and_nothing_is_left(home: Home, protocol: str) -> None:
    home.speak(protocol)
    async with open_world(home.relay) as world:
        async with mapping_node(home.host, world) as node:
            took = await until(lambda: node.nat_type is NatType.OPEN, 3)
            print(f"{protocol}: open after {took:.3f} s")
            assert node.reflex_addr == EXTERNAL
            assert str(node.addresses[0].address) == str(EXTERNAL)
            assert home.daemon.mappings() == [home.mapped()]
            await connect_from_outside(home, node, EXTERNAL)
            mapping = node._mapper._leases[4].mapping
            assert mapping is not None
            assert mapping.protocol == ("pcp" if protocol == "all" else protocol)
            if protocol == "all":
                (report,) = await node.check_router()
                assert report.mapping == mapping
                assert [a.protocol for a in report.answers] == ["pcp", "nat-pmp", "upnp"]
                assert not any(isinstance(a, PortMapError) for a in report.answers)
            # what others say
            if protocol in ("all", "upnp"):
                ((mapped, (_, left)),) = home.daemon.upnpc_mappings(home.host).items()
                assert mapped == home.mapped()
                assert 3500 < left <= 3600
            if protocol != "upnp":
                printed = home.host.run(["natpmpc", "-g", home.gateway.inner_address]).stdout
                assert f"Public IP address : {PUBLIC}" in printed
            left_at = time.monotonic()
        assert time.monotonic() - left_at < 1
        assert home.daemon.mappings() == []
        if protocol in ("all", "upnp"):
            assert home.daemon.upnpc_mappings(home.host) == {}


@pytest.mark.parametrize("how", ["exception", "cancel"])
@pytest.mark.parametrize("protocol", ["pcp", "upnp"])
async def test_however_the_block_ends(home: Home, protocol: str, how: str) -> None:
    home.speak(protocol)
    with trio.CancelScope() as scope:
        try:
            async with mapping_node(home.host) as node:
                await until(lambda: node.nat_type is NatType.OPEN, 3)
                assert home.daemon.mappings() == [home.mapped()]
                if how == "exception":
                    raise KeyError("of the body")
                scope.cancel()
                await trio.sleep_forever()
        except KeyError:
            pass
    assert home.daemon.mappings() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line(home: Home, number: signal.Signals) -> None:
    home.speak("all")
    options = ("--port-mapping", "--bind", f"0.0.0.0:{PORT}")
    program = Program("node", *options, prefix=tuple(home.host.command([])))
    try:
        event = program.wait_for("portmap")
        assert (event["protocol"], event["external"], event["public"]) == ("pcp", str(EXTERNAL), True)
        assert event["t"] - program.last("ready")["t"] < 2
        assert home.daemon.mappings() == [home.mapped()]
        program.process.send_signal(number)
        assert program.finish(5) == (128 + number if number is signal.SIGINT else 0)
        assert "Traceback" not in program.errors
    finally:
        program.close()
    assert home.daemon.mappings() == []


@pytest.mark.parametrize("protocol", ["pcp", "upnp"])
def test_a_program_that_is_killed_leaves_one_mapping_and_finds_it_again(
    home: Home, protocol: str, tmp_path: Path
) -> None:
    home.speak(protocol)
    options = ("--port-mapping", "--bind", f"0.0.0.0:{PORT}", "--identity", tmp_path / "key")
    for number in (signal.SIGKILL, signal.SIGINT):
        program = Program("node", *options, prefix=tuple(home.host.command([])))
        try:
            event = program.wait_for("portmap")
            assert (event["protocol"], event["external"]) == (protocol, str(EXTERNAL))
            program.process.send_signal(number)
            program.finish(5)
        finally:
            program.close()
        assert home.daemon.mappings() == ([home.mapped()] if number is signal.SIGKILL else [])


def test_netcheck_tells_about_the_router(home: Home, tmp_path: Path) -> None:
    home.speak("all")
    with Mesh(tmp_path) as mesh:
        mesh.relay(home.relay)
        mesh.relay(home.lab.host("relay2"))
        without = mesh.run(home.host, "netcheck", *mesh.bootstrap)
        with_it = mesh.run(home.host, "netcheck", "--port-mapping", *mesh.bootstrap)
        for program, nat_type in ((without, "cone"), (with_it, "open")):
            assert program.finish(15) == 0, program.errors
            event = program.last("nat")
            assert event["nat_type"] == nat_type
            (router,) = event["routers"]
            assert router["gateway"] == home.gateway.inner_address
            assert router["protocols"] == {"pcp": "spoken", "nat-pmp": "spoken", "upnp": "spoken"}
            assert router["external"] == PUBLIC
            assert router["double_nat"] is False
            mapping = router["mapping"]
            assert (mapping is not None) == (nat_type == "open")
            if mapping is not None:
                assert mapping["protocol"] == "pcp"
                assert mapping["external"] == event["reflex_addr"]
    assert home.daemon.mappings() == []


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp", "upnp"])
async def test_the_router_restarts_with_another_address(home: Home, protocol: str) -> None:
    home.speak(protocol)
    async with open_world(home.relay) as world:
        relay = world.nodes[0]
        async with mapping_node(home.host, world) as node:
            await until(lambda: heard(relay, node) == EXTERNAL, 5)
            home.daemon.stop(kill=True)  # asked to end, it may sleep on for a while
            home.daemon.forget()
            home.gateway.change_address(ELSEWHERE)
            home.daemon.start()
            moved = Address(ELSEWHERE, PORT)
            took = await until(lambda: heard(relay, node) == moved, 5)
            print(f"{protocol}: announced {took:.3f} s after the restart")
            assert home.daemon.mappings() == [home.mapped()]
            assert node.traversal_stats().port_mapping_external == moved
            await connect_from_outside(home, node, moved)
        assert home.daemon.mappings() == []


async def test_the_daemon_dies_and_is_started_later(home: Home) -> None:
    home.speak("all")
    async with open_world(home.relay) as world:
        relay = world.nodes[0]
        async with mapping_node(home.host, world, port_mapping_renewal=1, port_mapping_lease=30) as node:
            await until(lambda: heard(relay, node) == EXTERNAL, 5)
            await until(lambda: node.traversal_stats().port_mapping_renewals > 0, 5)
            home.daemon.stop(kill=True)
            # three renewals in a row, each with all of its packets
            took = await until(lambda: node.nat_type is not NatType.OPEN, 25)
            print(f"given up after {took:.1f} s")
            assert await until(lambda: heard(relay, node) is None, 5) < 5
            assert not node.traversal_stats().port_mapping_active
            home.daemon.start()
            took = await until(lambda: heard(relay, node) == EXTERNAL, 5)
            print(f"announced {took:.3f} s after the start")
        assert home.daemon.mappings() == []


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp", "upnp"])
async def test_two_nodes_ask_for_the_same_port(home: Home, protocol: str) -> None:
    home.speak(protocol)
    other = home.gateway.host("other")
    async with mapping_node(home.host) as first:
        await until(lambda: first.nat_type is NatType.OPEN, 3)
        async with mapping_node(other) as second:
            await until(lambda: second.nat_type is NatType.OPEN, 3)
            assert first.reflex_addr == EXTERNAL
            theirs = second.reflex_addr
            assert theirs is not None
            assert theirs.host == PUBLIC
            assert theirs.port != PORT
            assert home.daemon.mappings() == sorted([home.mapped(), Mapped(theirs.port, other.address, PORT)])
            await connect_from_outside(home, second, theirs)
        assert home.daemon.mappings() == [home.mapped()]
    assert home.daemon.mappings() == []


async def test_pinholes_for_ipv6_beside_the_mapping(home: Home) -> None:
    give_ipv6(home.gateway, home.host)
    home.speak("all")
    config = NodeConfig(try_port_mapping=True)
    bind = [("0.0.0.0", PORT), ("::", PORT)]
    inside = "2001:470:1:2::2"
    async with open_node(Identity.generate(), bind, config=config, network=HostNetwork(home.host)) as node:
        await until(lambda: bool(home.daemon.mappings() and home.daemon.pinholes()), 10)
        assert home.daemon.mappings() == [home.mapped()]
        assert home.daemon.pinholes() == [(inside, PORT)]
        await until(lambda: node.nat_report.reflex6 is not None, 3)
        assert (node.nat_report.reflex, node.nat_report.reflex6) == (EXTERNAL, Address(inside, PORT))
    assert home.daemon.pinholes() == []
    assert home.daemon.mappings() == []


async def test_the_host_moves_to_another_network(home: Home, tmp_path: Path) -> None:
    home.speak("all")
    cafe = home.lab.nat("cafe", address=ELSEWHERE)
    its_daemon = RouterDaemon(cafe, tmp_path)
    its_daemon.start()
    async with open_world(home.relay) as world:
        relay = world.nodes[0]
        async with mapping_node(home.host, world) as node:
            await until(lambda: heard(relay, node) == EXTERNAL, 5)
            inside = home.host.move(cafe)
            took = await until(lambda: heard(relay, node) == Address(ELSEWHERE, PORT), 8)
            print(f"announced {took:.3f} s after the move")
            assert its_daemon.mappings() == [Mapped(PORT, inside, PORT)]
            await connect_from_outside(home, node, Address(ELSEWHERE, PORT))
        assert its_daemon.mappings() == []
