from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.traversal.candidates import (
    Interface,
    InterfaceClass,
    Surroundings,
    acceptable,
    classify_interface,
    gather,
    select,
)
from netmesh_trio.traversal.rendezvous import Candidate, CandidateKind

LAN, PUBLIC, TUNNEL, USELESS = InterfaceClass
HOST, MAPPED, IPV6, REFLEXIVE = CandidateKind
ANY4, ANY6 = Address("0.0.0.0", 4650), Address("::", 4651)


@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        ("192.168.1.5", "", LAN),
        ("10.3.2.1", "eth0", LAN),
        ("172.17.0.2", "", LAN),  # inside a container it is all there is
        ("fd00::5", "eth0", LAN),
        ("203.0.113.7", "", PUBLIC),
        ("2001:db8::7", "eth0", PUBLIC),
        ("100.101.102.103", "", TUNNEL),
        ("100.64.0.9", "wwan0", LAN),
        ("10.8.0.2", "tun0", TUNNEL),
        ("10.8.0.2", "wg-home", TUNNEL),
        ("100.101.102.103", "tailscale0", TUNNEL),
        ("172.17.0.1", "", USELESS),
        ("172.31.0.1", "", USELESS),
        ("172.17.0.1", "eth0", LAN),  # the name says better
        ("172.16.0.1", "", LAN),
        ("192.168.122.1", "", USELESS),
        ("10.88.0.1", "", USELESS),
        ("192.168.1.1", "docker0", USELESS),
        ("172.18.0.1", "br-1f00deadbeef", USELESS),
        ("10.5.0.1", "veth12", USELESS),
        ("127.0.0.1", "lo", USELESS),
        ("::1", "lo", USELESS),
        ("169.254.3.4", "eth0", USELESS),
        ("fe80::1%eth0", "eth0", USELESS),
        ("0.0.0.0", "", USELESS),
        ("3fff::1", "", PUBLIC),
        ("64:ff9b::1", "", USELESS),
    ],
)
def test_interfaces(host: str, name: str, expected: InterfaceClass) -> None:
    assert classify_interface(Interface(host, name=name)) is expected


def found(*hosts: str) -> list[Interface]:
    return [Interface(host) for host in hosts]


def test_gathering_best_first() -> None:
    interfaces = found("127.0.0.1", "172.17.0.1", "100.101.1.1", "2001:db8::7", "192.168.1.5", "fe80::1%eth0")
    assert gather(
        interfaces,
        [ANY4, ANY6],
        mapped=Address("203.0.113.7", 9),
        reflexes=[Address("203.0.113.7", 10), Address("2001:db8::7", 4651)],
    ) == (
        Candidate(HOST, Address("192.168.1.5", 4650)),
        Candidate(IPV6, Address("2001:db8::7", 4651)),
        Candidate(MAPPED, Address("203.0.113.7", 9)),
        Candidate(REFLEXIVE, Address("203.0.113.7", 10)),
        Candidate(HOST, Address("100.101.1.1", 4650)),
    )


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ([ANY4], ["192.168.1.5:4650"]),
        ([ANY6], ["[2001:db8::7]:4651"]),
        ([Address("192.168.1.5", 7)], ["192.168.1.5:7"]),
        ([Address("10.9.9.9", 7)], ["10.9.9.9:7"]),
        ([Address("127.0.0.1", 7)], ["127.0.0.1:7"]),
        ([Address("fe80::1%eth0", 7)], []),
        ([], []),
    ],
)
def test_gathering_by_what_is_bound(bound: list[Address], expected: list[str]) -> None:
    interfaces = found("192.168.1.5", "2001:db8::7", "127.0.0.1")
    assert [str(c.address) for c in gather(interfaces, bound)] == expected


def test_at_most_eight_are_told_and_none_twice() -> None:
    interfaces = found(*(f"192.168.{n}.5" for n in range(20)), "192.168.0.5")
    told = gather(interfaces, [ANY4], reflexes=[Address("192.168.0.5", 4650)])
    assert len(told) == 8
    assert len({c.address for c in told}) == 8


def test_many_addresses_for_privacy_leave_room() -> None:
    interfaces = found("192.168.1.5", *(f"2001:db8::{n}" for n in range(1, 9)))
    told = gather(interfaces, [ANY4, ANY6], mapped=Address("203.0.113.7", 9), reflexes=[Address("203.0.113.7", 10)])
    assert [c.address.host for c in told] == [
        "192.168.1.5",
        *(f"2001:db8::{n}" for n in range(1, 4)),
        "203.0.113.7",
        "203.0.113.7",
    ]


MINE = Surroundings.of(
    [Interface("192.168.1.5", 24), Interface("10.0.0.1", 31), Interface("2001:db8:1::5"), *found("172.17.0.1")],
    [ANY4, ANY6],
    [Address("203.0.113.7", 9)],
)


@pytest.mark.parametrize(
    ("text", "alone", "shared"),  # "shared": others see both ends at one host
    [
        ("198.51.100.1:5", True, True),
        ("203.0.113.7:5", True, True),  # another one behind our own NAT
        ("192.168.1.9:5", True, True),
        ("192.168.2.9:5", False, True),
        ("10.0.0.0:5", True, True),  # the other end of a point-to-point link
        ("10.0.0.2:5", False, True),
        ("172.16.5.5:5", False, True),
        ("172.17.0.2:5", False, True),  # our own containers are not a network for others
        ("100.64.0.5:5", False, True),
        ("[fd00::1]:5", False, True),
        ("[2001:db8:1::9]:5", True, True),
        ("[2001:db8:2::9]:5", True, True),
        ("198.51.100.1:0", False, False),
        ("192.168.1.255:5", False, False),
        ("192.168.1.0:5", False, False),
        ("127.0.0.1:5", False, False),
        ("127.9.9.9:5", False, False),
        ("[::1]:5", False, False),
        ("0.0.0.0:5", False, False),
        ("0.1.2.3:5", False, False),
        ("[::]:5", False, False),
        ("224.0.0.1:5", False, False),
        ("255.255.255.255:5", False, False),
        ("240.0.0.1:5", False, False),
        ("[ff02::1]:5", False, False),
        ("169.254.169.254:80", False, False),
        ("[fe80::1]:5", False, False),
        ("[fe80::1%eth0]:5", False, False),
        ("[2002:c0a8:105::1]:5", False, False),  # 6to4
        ("[64:ff9b::c0a8:105]:5", False, False),  # NAT64
        ("[2001::1]:5", False, False),  # Teredo
        ("[::192.168.1.5]:5", False, False),
        ("[fec0::1]:5", False, False),
    ],
)
def test_acceptable(text: str, alone: bool, shared: bool) -> None:
    address = Address.parse(text)
    assert acceptable(address, MINE, set()) is alone
    assert acceptable(address, MINE, {"198.51.100.77"}) is alone
    assert acceptable(address, MINE, {"203.0.113.7"}) is shared


def test_loopback_only_among_nodes_that_are_bound_there() -> None:
    here = Surroundings.of(found("127.0.0.1"), [Address("127.0.0.1", 5)])
    assert acceptable(Address("127.0.0.1", 6), here, ())


def test_only_families_that_we_have_a_socket_for() -> None:
    four = Surroundings.of(found("192.168.1.5"), [ANY4])
    assert not acceptable(Address("2001:db8::1", 5), four, ())
    assert acceptable(Address("198.51.100.1", 5), four, ())


def test_no_public_address_known_is_not_a_shared_one() -> None:
    lost = Surroundings.of(found("192.168.1.5"), [ANY4])
    assert not acceptable(Address("10.1.1.1", 5), lost, ())


def c(kind: CandidateKind, text: str) -> Candidate:
    return Candidate(kind, Address.parse(text))


def test_lan_before_wan_and_each_address_once() -> None:
    told = [
        c(REFLEXIVE, "203.0.113.7:2"),
        c(MAPPED, "203.0.113.7:3"),
        c(HOST, "10.7.7.7:4"),
        c(IPV6, "[2001:db8:2::9]:5"),
        c(HOST, "192.168.1.9:6"),
        c(REFLEXIVE, "192.168.1.9:6"),
        c(HOST, "127.0.0.1:7"),
    ]
    assert [str(s.address) for s in select(told, MINE, {"203.0.113.7"})] == [
        "192.168.1.9:6",
        "[2001:db8:2::9]:5",
        "203.0.113.7:3",
        "203.0.113.7:2",
        "10.7.7.7:4",
    ]


def test_few_probes_go_to_hosts_that_only_the_peer_names() -> None:
    victims = [c(HOST, f"198.51.100.{n}:53") for n in range(1, 9)]
    assert len(select(victims, MINE, {"203.0.113.9"})) == 2
    assert len(select([*victims, c(REFLEXIVE, "203.0.113.9:1")], MINE, {"203.0.113.9"})) == 3
    one_host = [c(HOST, f"198.51.100.1:{n}") for n in range(1, 20)]
    assert len(select(one_host, MINE, ())) == 2
    # that a host is announced, too, says no more than that the peer claims it twice
    assert len(select(one_host, MINE, {"198.51.100.1"})) == 3


ADDRESSES = st.builds(Address, st.ip_addresses().map(str), st.integers(0, 65535))


@given(ADDRESSES, st.booleans())
def test_whatever_is_named_no_other_network_of_ours_is_probed(address: Address, shared: bool) -> None:
    if not acceptable(address, MINE, {"203.0.113.7"} if shared else set()):
        return
    ip = address.ip
    assert address.port
    assert not any((ip.is_multicast, ip.is_loopback, ip.is_unspecified, ip.is_link_local))
    if not shared and isinstance(ip, ipaddress.IPv4Address) and address.is_private:
        assert any(ip in network for network in MINE.networks)
