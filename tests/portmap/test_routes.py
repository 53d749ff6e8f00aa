from __future__ import annotations

import socket
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.traversal.portmap import Gateway, routes
from netmesh_trio.traversal.portmap.routes import (
    Route,
    choose_gateway,
    default_gateways,
    parse_linux_routes4,
    parse_linux_routes6,
)

ROUTES4 = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\tFE01000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
eth1\t00000000\t0102A8C0\t0002\t0\t0\t10\t00000000\t0\t0\t0
tun1\t00000000\t0103A8C0\t0003\t0\t0\t0\t00000080\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t100\t0000FFFF\t0\t0\t0
nonsense
eth0\tx\ty\tz\t0\t0\t100\t0000FFFF\t0\t0\t0
"""
ZERO = 32 * "0"
ROUTES6 = f"""\
fd000000000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000002 00000000 00000001     eth0
{ZERO} 00 {ZERO} 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003    wlan0
{ZERO} 00 {ZERO} 00 fd000000000000000000000000000001 00000064 00000002 00000000 00450003     eth0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
{ZERO} 01 {ZERO} 00 fd000000000000000000000000000009 00000001 00000002 00000000 00000003     tun0
nonsense
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the kernel prints numbers in its own byte order")
def test_default_routes_of_ipv4_in_the_kernels_order() -> None:
    # of those that are up, over a router, and for everything
    assert parse_linux_routes4(ROUTES4) == [Route("10.0.1.254", "eth0", 100), Route("192.168.1.1", "wlan0", 600)]


def test_default_routes_of_ipv6_in_the_kernels_order() -> None:
    assert parse_linux_routes6(ROUTES6) == [Route("fd00::1", "eth0", 100), Route("fe80::1", "wlan0", 1024)]


@given(st.text(alphabet="0aF \t\nx:-", max_size=300))
def test_any_text_parses(text: str) -> None:
    parse_linux_routes4("head\n" + text)
    parse_linux_routes6(text)
    parse_linux_routes4("head\n" + text.replace("\n", " 0 0 3 0 0 0 0\n"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_routers_of_this_host() -> None:
    for gateway in default_gateways():
        local = Address(gateway.local, 0)
        assert local.family == gateway.family
        assert local.is_unicast
        assert not local.is_loopback


GATEWAYS = [
    Gateway("192.168.1.1", "192.168.1.7"),
    Gateway("fe80::1%eth0", "2001:db8::7"),
    Gateway("10.0.0.1", "10.0.0.7"),
]


@pytest.mark.parametrize(
    ("bound", "chosen"),
    [("0.0.0.0", 0), ("::", 1), ("192.168.1.7", 0), ("10.0.0.7", 2), ("2001:db8::7", 1), ("127.0.0.1", None)],
)
def test_the_router_of_a_socket(bound: str, chosen: int | None) -> None:
    assert choose_gateway(GATEWAYS, Address(bound, 4650)) == (None if chosen is None else GATEWAYS[chosen])
    assert choose_gateway((), Address(bound, 4650)) is None


def test_the_routers_of_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """As netifaces gives them: of each family router, interface and whether it is the default, in no order."""
    fake = types.ModuleType("netifaces")
    table = {
        "default": {2: ("192.168.1.1", "en0")},
        2: [("10.8.0.1", "utun3", False), ("192.168.1.1", "en0", True)],
        30: [("fe80::1%en0", "en0", True)],
        99: [("02:00:00:00:00:00", "en0", True)],
    }
    vars(fake).update(AF_INET=2, AF_INET6=30, gateways=lambda: table)
    monkeypatch.setitem(sys.modules, "netifaces", fake)
    assert [(r.router, r.interface) for r in routes._other_routes()] == [
        ("fe80::1", "en0"),
        ("192.168.1.1", "en0"),
        ("10.8.0.1", "utun3"),
    ]


def test_gateways_from_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "eth0": routes._Interface(2, ["10.0.0.7", "10.0.0.8", "2001:db8::7"]),
        "lo": routes._Interface(1, ["127.0.0.1"]),
    }
    told = [
        Route("10.0.0.1", "eth0"),
        Route("10.0.0.1", "gone0"),
        Route("0.0.0.0", "eth0"),
        Route("fe80::1", "eth0"),
        Route("192.0.2.1", "lo"),
    ]
    monkeypatch.setattr(routes, "_linux_routes", lambda: told)
    monkeypatch.setattr(routes, "_other_routes", lambda: told)
    monkeypatch.setattr(routes, "_interfaces", lambda: known)

    def first(router: Address, own: list[str]) -> str | None:
        return next((host for host in own if Address(host, 0).family == router.family), None)

    monkeypatch.setattr(routes, "_local_address", first)
    monkeypatch.setattr(socket, "if_indextoname", lambda index: {1: "lo", 2: "eth0"}[index])
    assert default_gateways() == [
        Gateway("10.0.0.1", "10.0.0.7", 2),
        Gateway("fe80::1%eth0", "2001:db8::7", 2),
        Gateway("192.0.2.1", "127.0.0.1", 1),
    ]
