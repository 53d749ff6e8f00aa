"""Nodes in one network use its addresses, whatever their router can do."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from netmesh_trio import PathKind
from netmesh_trio.testing import Host, LinkSettings, VirtualInternet
from tests.traversal_node.lab import KINDS, Lab, open_lab

BOXES = [kind for kind in KINDS if kind not in ("none", "double", "firewall")]


async def connect(lab: Lab, within: float = 3.0) -> bool:
    await lab.connect()
    direct = await lab.direct_within(within) is not None
    await trio.sleep(1.0)
    assert lab.a.path(lab.b).kind is lab.b.path(lab.a).kind
    return direct


@pytest.mark.parametrize("hairpin", [False, True])
@pytest.mark.parametrize("kind", BOXES)
async def test_behind_one_router(kind: str, hairpin: bool, autojump_clock: trio.testing.MockClock) -> None:
    def place(net: VirtualInternet) -> tuple[Host, Host]:
        home = net.nat("home", kind, hairpin=hairpin)
        return home.host("a"), home.host("b")

    async with open_lab(place=place) as lab:
        assert lab.possible
        assert await connect(lab)
        for one, other in ((lab.a, lab.b), (lab.b, lab.a)):
            report = one.path(other)
            assert report.addr is not None
            assert report.addr.host == other.host.address, "not the way around by the router"
            assert report.rtt == pytest.approx(0.002, abs=0.001)


async def test_behind_one_router_with_other_networks_between(autojump_clock: trio.testing.MockClock) -> None:
    """Two subnets of one site: the address is not on a network of ours, but both are seen at one host."""

    def place(net: VirtualInternet) -> tuple[Host, Host]:
        home = net.nat("home", "port-restricted", inside="10.0.0.0/8")
        return home.host("a", "10.1.0.5"), home.host("b", "10.2.0.9")

    async with open_lab(place=place) as lab:
        assert await connect(lab)
        report = lab.a.path(lab.b)
        assert report.addr is not None
        assert report.addr.host == "10.2.0.9"


@pytest.mark.parametrize("hairpin", [False, True])
async def test_behind_one_carrier(hairpin: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Two homes behind one carrier's NAT: direct if that can hairpin, else over the relay."""

    def place(net: VirtualInternet) -> tuple[Host, Host]:
        carrier = net.nat("carrier", "port-restricted", hairpin=hairpin, inside="100.64.0.0/24")
        homes = [net.nat(name, "port-preserving", parent=carrier) for name in ("first", "second")]
        return homes[0].host("a"), homes[1].host("b")

    async with open_lab(place=place) as lab:
        assert lab.possible == hairpin
        assert await connect(lab, 8.0) == hairpin
        if hairpin:
            report = lab.a.path(lab.b)
            assert report.addr == lab.b.node.reflex_addr
        else:
            why = lab.a.peer(lab.b).why_not_direct
            assert why is not None
            assert why.kind == "punch-failed"
            lab.check_clean()


async def test_one_subnet_in_two_homes_is_not_one_network(autojump_clock: trio.testing.MockClock) -> None:
    """Both homes use 192.168.1.0/24: the other's local address is a stranger's here."""

    def place(net: VirtualInternet) -> tuple[Host, Host]:
        first = net.nat("first", "port-restricted", inside="192.168.1.0/24")
        second = net.nat("second", "port-restricted", inside="192.168.1.0/24")
        a, b = first.host("a", "192.168.1.10"), second.host("b", "192.168.1.20")
        first.host("printer", "192.168.1.20")
        return a, b

    async with open_lab(place=place) as lab:
        assert await connect(lab)
        report = lab.a.path(lab.b)
        assert report.addr == lab.b.node.reflex_addr
        lab.check_clean()


async def test_the_nearer_of_two_ways(autojump_clock: trio.testing.MockClock) -> None:
    """Two hosts that share a network, and each have an internet line of their own: the network is preferred."""

    def place(net: VirtualInternet) -> tuple[Host, Host]:
        office = net.nat("office", "port-restricted", inside="10.5.0.0/24")
        a = net.host("a", link=LinkSettings(delay=0.001))
        b = net.host("b", link=LinkSettings(delay=0.001))
        a.add_interface(office, link=LinkSettings(delay=0.005))
        b.add_interface(office, link=LinkSettings(delay=0.005))
        return a, b

    async with open_lab(place=place) as lab:
        assert await connect(lab)
        await trio.sleep(5.0)
        for one, other in ((lab.a, lab.b), (lab.b, lab.a)):
            report = one.path(other)
            assert report.addr is not None
            assert report.addr.host.startswith("10.5.0."), report


async def test_out_of_the_network_and_back(autojump_clock: trio.testing.MockClock) -> None:
    """A host leaves the network for another one, and comes back: direct each time, by the address that fits."""

    def place(net: VirtualInternet) -> tuple[Host, Host]:
        home = net.nat("home", "port-restricted")
        net.nat("cafe", "port-restricted")
        return home.host("a"), home.host("b")

    async with open_lab(place=place) as lab:
        assert await connect(lab)
        inside = lab.b.host.address
        for where in ("cafe", "home"):
            lab.b.host.roam(lab.net.nats[where])
            await trio.sleep(40.0)
            assert lab.is_direct()
            report = lab.a.path(lab.b)
            assert report.kind is PathKind.DIRECT
            assert report.addr is not None
            if where == "cafe":
                assert report.addr.host == lab.net.nats["cafe"].address
            else:
                assert report.addr.host == lab.b.host.address
        assert inside.rpartition(".")[0] == lab.b.host.address.rpartition(".")[0]
