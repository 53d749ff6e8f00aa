"""NATs, clause by clause of RFC 4787."""

from __future__ import annotations

import attrs
import pytest
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.testing import (
    FIREWALL,
    FULL_CONE,
    PORT_PRESERVING,
    PORT_RESTRICTED,
    SYMMETRIC,
    Dependence,
    Host,
    NatBehavior,
    VirtualInternet,
    VirtualUdpSocket,
)

EI, AD, APD = Dependence
NEVER = 10.0


async def receive(socket: VirtualUdpSocket) -> tuple[bytes, Address] | None:
    """The next datagram and its source; None if none comes."""
    with trio.move_on_after(NEVER):
        while (received := socket.receive_nowait()) is None:
            await socket.wait_readable()
        return bytes(received[0]), received[2]
    return None


async def seen(sender: VirtualUdpSocket, host: Host, receiver: VirtualUdpSocket) -> Address:
    """Send, and give the source that the receiver saw."""
    sender.send([b"?"], 64, Address(host.address, receiver.address.port))
    received = await receive(receiver)
    assert received is not None
    return received[1]


@pytest.mark.parametrize(
    ("mapping", "same_for_port", "same_for_address"),
    [(EI, True, True), (AD, True, False), (APD, False, False)],
)
@pytest.mark.parametrize("port_step", [None, 1, 7])
async def test_mapping(
    mapping: Dependence,
    same_for_port: bool,
    same_for_address: bool,
    port_step: int | None,
    autojump_clock: trio.abc.Clock,
) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", NatBehavior(mapping=mapping, port_step=port_step))
        inside = await nat.host("a").bind("0.0.0.0", 4000)
        x, y = net.host("x"), net.host("y")
        x1, x2, y1 = (
            await x.bind(x.address, 1),
            await x.bind(x.address, 2),
            await y.bind("0.0.0.0", 1),
        )
        first, other_port, other_address = [
            await seen(inside, host, socket) for host, socket in ((x, x1), (x, x2), (y, y1))
        ]
        assert first.host == other_port.host == other_address.host == nat.address
        assert (other_port == first) is same_for_port
        assert (other_address == first) is same_for_address
        assert await seen(inside, x, x1) == first
        if mapping is APD and port_step:
            assert other_port.port - first.port == other_address.port - other_port.port == port_step
        assert nat.statistics().mappings == 3 - same_for_port - same_for_address
        assert nat.mappings()[first].port == 4000


@pytest.mark.parametrize(
    ("filtering", "other_port_passes", "other_address_passes"),
    [(EI, True, True), (AD, True, False), (APD, False, False)],
)
@pytest.mark.parametrize("mapping", Dependence)
async def test_filtering(
    mapping: Dependence,
    filtering: Dependence,
    other_port_passes: bool,
    other_address_passes: bool,
    autojump_clock: trio.abc.Clock,
) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", mapping=mapping, filtering=filtering)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x, y = net.host("x"), net.host("y")
        x1, x2, y1 = (
            await x.bind("0.0.0.0", 1),
            await x.bind("0.0.0.0", 2),
            await y.bind("0.0.0.0", 1),
        )
        outside = await seen(inside, x, x1)
        x1.send([b"reply"], 64, outside)
        assert await receive(inside) == (b"reply", Address(x.address, 1))
        x2.send([b"port"], 64, outside)
        assert (await receive(inside) is not None) is other_port_passes
        y1.send([b"address"], 64, outside)
        assert (await receive(inside) is not None) is other_address_passes
        assert nat.statistics().filtered == 2 - other_port_passes - other_address_passes
        y1.send([b"nobody's"], 64, Address(nat.address, outside.port ^ 1))
        assert await receive(inside) is None
        assert nat.statistics().unmapped == 1


async def test_a_mapping_ends_its_lifetime_after_the_last_outbound_packet(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with VirtualInternet(seed=1, delay=0, lan_delay=0) as net:
        nat = net.nat("nat", FULL_CONE, lifetime=30)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        outside = await seen(inside, x, outer)
        for _ in range(2):
            await trio.sleep(29)
            assert await seen(inside, x, outer) == outside  # REQ-6: outbound refreshes
        await trio.sleep(29)
        outer.send([b"in time"], 64, outside)
        assert await receive(inside) is not None
        await trio.sleep(1.001)
        outer.send([b"too late"], 64, outside)
        assert await receive(inside) is None
        assert nat.statistics().mappings == 0
        assert nat.statistics().expired == 1
        assert await seen(inside, x, outer) != outside


async def test_inbound_packets_refresh_where_the_nat_does_that(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with VirtualInternet(seed=1, delay=0, lan_delay=0) as net:
        nat = net.nat("nat", PORT_RESTRICTED, lifetime=30, inbound_refresh=True)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        outside = await seen(inside, x, outer)
        for _ in range(5):
            await trio.sleep(29)
            outer.send([b"still there"], 64, outside)
            assert await receive(inside) is not None


async def test_a_remotes_leave_ends_by_itself(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1, delay=0, lan_delay=0) as net:
        nat = net.nat("nat", PORT_RESTRICTED, lifetime=30)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x, y = net.host("x"), net.host("y")
        outer, other = await x.bind("0.0.0.0", 1), await y.bind("0.0.0.0", 1)
        outside = await seen(inside, x, outer)
        await trio.sleep(20)
        assert await seen(inside, y, other) == outside
        await trio.sleep(20)
        other.send([b"just spoken to"], 64, outside)
        assert await receive(inside) is not None
        outer.send([b"long silent"], 64, outside)
        assert await receive(inside) is None


async def test_port_preservation_and_its_conflicts(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", PORT_PRESERVING)
        a, b = [await nat.host(name).bind("0.0.0.0", 4000) for name in "ab"]
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        assert await seen(a, x, outer) == Address(nat.address, 4000)
        taken = await seen(b, x, outer)
        assert taken.host == nat.address
        assert taken.port != 4000
        await trio.sleep(121)
        assert await seen(b, x, outer) == Address(nat.address, 4000)


async def test_ports_run_out(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        behavior = attrs.evolve(SYMMETRIC, mapping_limit=3)
        nat = net.nat("nat", behavior)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x = net.host("x")
        for port in range(1, 6):
            inside.send([b"?"], 64, Address(x.address, port))
        await trio.sleep(1)
        assert nat.statistics().mappings == 3
        assert nat.statistics().exhausted == 2


@pytest.mark.parametrize("hairpin", [True, False])
async def test_hairpin(hairpin: bool, autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", FULL_CONE, hairpin=hairpin)
        a, b = [await nat.host(name).bind("0.0.0.0", 0) for name in "ab"]
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        a_outside, b_outside = await seen(a, x, outer), await seen(b, x, outer)
        a.send([b"over the top"], 64, b_outside)
        # REQ-9a: the source is the outside one.
        assert await receive(b) == ((b"over the top", a_outside) if hairpin else None)
        assert nat.statistics().hairpinned == int(hairpin)
        assert nat.link.outbound.statistics().passed == 2


async def test_neighbors_reach_each_other_without_the_nat(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat")
        a, b = nat.host("a"), nat.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 2)
        assert await seen(left, b, right) == Address(a.address, 1)
        assert nat.statistics().created == 0
        assert Address(a.address, 1).is_private


async def test_private_addresses_lead_nowhere_from_outside(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        home, other = net.nat("home"), net.nat("other")
        a = home.host("a")
        socket = await a.bind("0.0.0.0", 1)
        for sender in (net.host("x"), other.host("b")):
            (await sender.bind("0.0.0.0", 0)).send([b"?"], 64, Address(a.address, 1))
        assert await receive(socket) is None
        assert net.unroutable == 2


async def test_double_nat(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        carrier = net.nat("carrier", SYMMETRIC, inside="100.64.0.0/24")
        home = net.nat("home", PORT_PRESERVING, parent=carrier)
        inside = await home.host("a").bind("0.0.0.0", 4000)
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        outside = await seen(inside, x, outer)
        assert outside.host == carrier.address
        assert home.address == "100.64.0.2"
        assert list(home.mappings()) == [Address("100.64.0.2", 4000)]
        assert carrier.mappings() == {outside: Address("100.64.0.2", 4000)}
        outer.send([b"back"], 64, outside)
        assert await receive(inside) == (b"back", Address(x.address, 1))
        # A neighbor of the home, on the carrier's network.
        neighbor = carrier.host("n")
        near = await neighbor.bind("0.0.0.0", 1)
        assert await seen(inside, neighbor, near) == Address("100.64.0.2", 4000)
        assert [nat.name for nat in net.hosts["a"].nats] == ["home", "carrier"]


@pytest.mark.parametrize("addresses", [(), ("2001:db8::a",)])
async def test_firewall(addresses: tuple[str, ...], autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        wall = net.nat("wall", FIREWALL, lifetime=30)
        a, b = wall.host("a", *addresses), wall.host("b")
        x = net.host("x", "198.51.100.9", "2001:db8::9")
        wildcard = "::" if addresses else "0.0.0.0"
        x_address = x.interface_addresses()[bool(addresses)]
        inside, outer = await a.bind(wildcard, 1), await x.bind(wildcard, 1)
        a_address = Address(a.address, 1)
        outer.send([b"unasked"], 64, a_address)
        assert await receive(inside) is None
        inside.send([b"?"], 64, Address(x_address, 1))
        assert await receive(outer) == (b"?", a_address)
        outer.send([b"reply"], 64, a_address)
        assert await receive(inside) == (b"reply", Address(x_address, 1))
        await trio.sleep(30)
        outer.send([b"late"], 64, a_address)
        assert await receive(inside) is None
        if not addresses:
            near = await b.bind("0.0.0.0", 1)
            near.send([b"neighbor"], 64, a_address)
            assert await receive(inside) is not None


async def test_ipv6_goes_past_the_nat(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", SYMMETRIC)
        a = nat.host("a", "192.168.1.9", "2001:db8::a")
        x = net.host("x", "2001:db8::9")
        inside, outer = await a.bind("::", 1), await x.bind("::", 1)
        outer.send([b"?"], 64, Address("2001:db8::a", 1))
        assert await receive(inside) == (b"?", Address("2001:db8::9", 1))
        assert nat.statistics().created == 0


async def test_reboot(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", FULL_CONE)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        before = await seen(inside, x, outer)
        nat.reboot()
        assert nat.statistics().mappings == 0
        outer.send([b"?"], 64, before)
        assert await receive(inside) is None
        after = await seen(inside, x, outer)
        assert before.host != after.host == nat.address
        nat.reboot(nat.address)
        assert nat.address == after.host
        outer.send([b"?"], 64, after)
        assert await receive(inside) is None


async def test_changing_the_behavior_forgets(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", FULL_CONE)
        inside = await nat.host("a").bind("0.0.0.0", 0)
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        await seen(inside, x, outer)
        nat.behavior = attrs.evolve(nat.behavior, lifetime=5)
        assert nat.statistics().mappings == 0
        with pytest.raises(ValueError, match="cannot turn"):
            nat.behavior = FIREWALL


async def test_forwarded_port(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=1) as net:
        nat = net.nat("nat", SYMMETRIC)
        a = nat.host("a")
        inside = await a.bind("0.0.0.0", 4000)
        x = net.host("x")
        outer = await x.bind("0.0.0.0", 1)
        outside = nat.forward(Address(a.address, 4000), 5000)
        assert outside == Address(nat.address, 5000)
        outer.send([b"unasked"], 64, outside)
        assert await receive(inside) == (b"unasked", Address(x.address, 1))
        assert await seen(inside, x, outer) == outside
        with pytest.raises(ValueError, match="taken"):
            nat.forward(Address(a.address, 4000), 5000)
        nat.unforward(outside)
        outer.send([b"closed"], 64, outside)
        assert await receive(inside) is None
        assert await seen(inside, x, outer) != outside


def test_what_makes_no_sense_is_refused() -> None:
    net = VirtualInternet()
    net.nat("nat", address="203.0.113.9")
    with pytest.raises(ValueError, match="there is a NAT 'nat' already"):
        net.nat("nat")
    with pytest.raises(ValueError, match="in use"):
        net.nat("other", address="203.0.113.9")
    with pytest.raises(ValueError, match="is not one box"):
        net.nat("two", "double")
    with pytest.raises(ValueError, match="lifetime is 0"):
        net.nat("short", lifetime=0)
    with pytest.raises(ValueError, match="conical"):
        net.nat("odd", mapping="conical")
    with pytest.raises(ValueError, match="has no address"):
        net.nat("wall", FIREWALL, address="203.0.113.10")
    small = net.nat("small", inside="192.168.9.0/30")
    small.host("a")
    with pytest.raises(ValueError, match="no free address left"):
        small.host("b")
