"""Addresses, hosts with ports, and URIs."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import MAX_VIA, PACKED_ADDRESS_SIZE, Address, HostPort, MeshUri
from netmesh_trio.errors import AddressError
from netmesh_trio.identity import Identity, PeerId
from netmesh_trio.wire.errors import DecodeError

A = Identity(b"a" * 32).peer_id
B = Identity(b"b" * 32).peer_id
C = Identity(b"c" * 32).peer_id

PORTS = st.integers(1, 65535)
IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(str).filter(lambda text: not text.startswith("::ffff:"))
SCOPED = st.builds(
    lambda low, scope: f"{ipaddress.IPv6Address((0xFE80 << 112) | low)}%{scope}",
    st.integers(0, 2**64 - 1),
    st.sampled_from(["eth0", "1", "wlp2s0.7", "br-lan"]),
)
LABELS = st.from_regex(r"[a-z]([a-z0-9\-]{0,10}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
ADDRESSES = st.builds(Address, IPV4 | IPV6 | SCOPED, PORTS)
HOST_PORTS = st.builds(HostPort, IPV4 | IPV6 | SCOPED | NAMES, PORTS)
PEER_IDS = st.binary(min_size=32, max_size=32).map(PeerId)
# The first is the peer, the others are its relays.
URIS = st.lists(
    st.builds(MeshUri, PEER_IDS, st.none() | HOST_PORTS),
    min_size=1,
    max_size=1 + MAX_VIA,
    unique_by=lambda uri: uri.peer_id,
).map(lambda uris: MeshUri(uris[0].peer_id, uris[0].address, tuple(uris[1:])))


# Address


@given(ADDRESSES)
def test_address_text_round_trip(address: Address) -> None:
    assert Address.parse(str(address)) == address
    assert HostPort.parse(str(address)).address == address


@given(st.builds(Address, IPV4 | IPV6, PORTS))
def test_address_packed_round_trip(address: Address) -> None:
    packed = address.pack()
    assert len(packed) == PACKED_ADDRESS_SIZE == 19
    assert Address.unpack(packed) == address
    assert Address.unpack(memoryview(packed)) == address


PLAUSIBLE = st.builds(
    lambda family, rest: bytes([family]) + rest,
    st.sampled_from([4, 6]),
    st.binary(min_size=18, max_size=18) | st.binary(min_size=6, max_size=6).map(lambda b: b[:4] + bytes(12) + b[4:]),
)


@given(PLAUSIBLE | st.binary(min_size=19, max_size=19) | st.binary(max_size=40))
def test_unpacking_any_bytes_is_total_and_canonical(data: bytes) -> None:
    try:
        address = Address.unpack(data)
    except DecodeError:
        return
    assert address.pack() == data


@pytest.mark.parametrize(
    ("address", "packed"),
    [
        (Address("1.2.3.4", 5), "04 01020304 000000000000000000000000 0005"),
        (Address("255.0.0.1", 65535), "04 ff000001 000000000000000000000000 ffff"),
        (Address("2001:db8::7", 4650), "06 20010db8000000000000000000000007 122a"),
        (Address("::1", 1), "06 00000000000000000000000000000001 0001"),
    ],
)
def test_packed_layout(address: Address, packed: str) -> None:
    assert address.pack() == bytes.fromhex(packed)
    assert Address.unpack(bytes.fromhex(packed)) == address


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ("", "of 0 bytes instead of 19"),
        ("04 01020304 000000000000000000000000 00", "of 18 bytes"),
        ("04 01020304 000000000000000000000000 0005 00", "of 20 bytes"),
        ("04 01020304 000000000000000000000001 0005", "padding that is not zero"),
        ("04 01020304 010000000000000000000000 0005", "padding that is not zero"),
        ("04 01020304 000000000000000000000000 0000", "port 0"),
        ("06 20010db8000000000000000000000007 0000", "port 0"),
        ("06 00000000000000000000ffff01020304 0005", "dressed up"),
        ("05 01020304 000000000000000000000000 0005", "family 5"),
        ("00 01020304 000000000000000000000000 0005", "family 0"),
    ],
)
def test_packed_errors(packed: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Address.unpack(bytes.fromhex(packed))


def test_a_scope_is_not_packed() -> None:
    assert Address.unpack(Address("fe80::1%eth0", 7).pack()) == Address("fe80::1", 7)


def test_address_is_what_the_kernel_gives() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        name = sock.getsockname()
    address = Address.from_sockaddr(name)
    assert address == name
    assert {name: 1}[address] == 1
    assert hash(address) == hash(name)


@pytest.mark.parametrize(
    ("sockaddr", "address"),
    [
        (("1.2.3.4", 5), Address("1.2.3.4", 5)),
        (("::1", 5, 0, 0), Address("::1", 5)),
        (("2001:DB8:0::7", 5), Address("2001:db8::7", 5)),
        (("::ffff:1.2.3.4", 5, 0, 0), Address("1.2.3.4", 5)),
        (("fe80::1%eth0", 5, 0, 3), Address("fe80::1%eth0", 5)),
        (("fe80::1", 5, 0, 999_999), Address("fe80::1%999999", 5)),
        (("fe80::1", 5, 0, 0), Address("fe80::1", 5)),
    ],
)
def test_from_sockaddr(sockaddr: tuple[object, ...], address: Address) -> None:
    assert Address.from_sockaddr(sockaddr) == address


def test_from_sockaddr_refuses_names() -> None:
    with pytest.raises(AddressError, match="not numeric"):
        Address.from_sockaddr(("a:b", 5, 0, 0))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4:5", Address("1.2.3.4", 5)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::]:0", Address("::", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[2001:DB8:0:0::7]:5", Address("2001:db8::7", 5)),
        ("[::ffff:1.2.3.4]:5", Address("1.2.3.4", 5)),
        ("[fe80::1%eth0]:5", Address("fe80::1%eth0", 5)),
    ],
)
def test_address_parse(text: str, address: Address) -> None:
    parsed = Address.parse(text)
    assert parsed == address
    assert type(parsed) is Address
    assert parsed.family == (6 if text.startswith("[") and "." not in text else 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no port: write HOST:PORT"),
        ("1.2.3.4", "has no port: write HOST:PORT"),
        ("1.2.3.4:", "has no port: write HOST:PORT"),
        (":5", "has no host: write HOST:PORT"),
        ("4650", "has no host: write HOST:PORT"),
        ("[]:5", "has no host: write HOST:PORT"),
        ("[::1]", "has no port: write HOST:PORT"),
        ("[::1]5", "has no port: write HOST:PORT"),
        ("[::1:5", r"lacks the '\]' after the IPv6 address: write \[::1\]:4650"),
        ("::1:5", r"IPv6 address without brackets: write \[::1\]:4650"),
        ("1.2.3.4:65536", "port '65536': write a number from 1 to 65535"),
        ("1.2.3.4:99999999999999999999", "write a number from 1 to 65535"),
        ("1.2.3.4:05", "port '05': write a number from 1 to 65535"),
        ("1.2.3.4:+5", "digits only"),
        ("1.2.3.4:-5", "digits only"),
        ("1.2.3.4:5 ", "digits only"),
        ("1.2.3.4:\u0665", "digits only"),
        ("1.2.3.4:http", "digits only"),
        ("localhost:5", r"not numeric: write 203.0.113.7:4650 or \[2001:db8::7\]:4650"),
        ("[1.2.3.4]:5", "not numeric"),
        ("1.2.3:5", "not numeric"),
        ("1.2.3.04:5", "not numeric"),
        ("1.2.3.256:5", "not numeric"),
        (" 1.2.3.4:5", "not numeric"),
        ("[::1%eth0]:5", "not numeric"),
        ("[fe80::1%]:5", "not numeric"),
        ("[fe80::1%a b]:5", "not numeric"),
        ("1.2.3.4%eth0:5", "not numeric"),
        ("x" * 10_000 + ":5", "not numeric"),
    ],
)
def test_address_parse_errors(text: str, message: str) -> None:
    with pytest.raises(AddressError, match=message) as caught:
        Address.parse(text)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "traits"),
    [
        ("8.8.8.8", "unicast"),
        ("203.0.113.7", "unicast"),
        ("10.0.0.1", "private unicast"),
        ("172.15.255.255", "unicast"),
        ("172.16.0.0", "private unicast"),
        ("172.31.255.255", "private unicast"),
        ("172.32.0.0", "unicast"),
        ("192.168.1.1", "private unicast"),
        ("192.0.0.9", "unicast"),
        ("100.63.255.255", "unicast"),
        ("100.64.0.1", "private unicast"),
        ("100.127.255.255", "private unicast"),
        ("100.128.0.0", "unicast"),
        ("127.0.0.1", "loopback unicast"),
        ("127.255.0.1", "loopback unicast"),
        ("169.254.1.1", "link_local unicast"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", ""),
        ("224.0.0.251", ""),
        ("240.0.0.1", ""),
        ("255.255.255.255", ""),
        ("::", "unspecified"),
        ("::1", "loopback unicast"),
        ("2001:db8::1", "unicast"),
        ("fd00::1", "private unicast"),
        ("fc00::1", "private unicast"),
        ("fe80::1", "link_local unicast"),
        ("fe80::1%eth0", "link_local unicast"),
        ("ff02::1", ""),
    ],
)
def test_address_traits(host: str, traits: str) -> None:
    address = Address(host, 1)
    names = ["private", "loopback", "link_local", "unspecified", "unicast"]
    assert " ".join(name for name in names if getattr(address, f"is_{name}")) == traits


# HostPort


@given(HOST_PORTS)
def test_host_port_round_trip(host_port: HostPort) -> None:
    assert HostPort.parse(str(host_port)) == host_port


@pytest.mark.parametrize(
    ("text", "host", "numeric"),
    [
        ("relay.example.org:5", "relay.example.org", False),
        ("Relay.Example.ORG:5", "relay.example.org", False),
        ("localhost:5", "localhost", False),
        ("xn--bcher-kva.example:5", "xn--bcher-kva.example", False),
        ("3com.com:5", "3com.com", False),
        ("1.2.3.4.example:5", "1.2.3.4.example", False),
        (
            ".".join(["a" * 63] * 3 + ["b" * 61]) + ":5",
            ".".join(["a" * 63] * 3 + ["b" * 61]),
            False,
        ),
        ("1.2.3.4:5", "1.2.3.4", True),
        ("[::0:1]:5", "::1", True),
    ],
)
def test_host_port_parse(text: str, host: str, numeric: bool) -> None:
    parsed = HostPort.parse(text)
    assert parsed == HostPort(host, 5)
    assert parsed.address == (Address(host, 5) if numeric else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relay.example.org", "has no port: write HOST:PORT"),
        ("bücher.example:5", "letters beyond ASCII: write the name as xn--"),
        ("1.2.3:5", "looks like an IPv4 address but is none: write four numbers"),
        ("1.2.3.256:5", "looks like an IPv4 address but is none"),
        ("1.2.3.04:5", "looks like an IPv4 address but is none: .* without leading zeros"),
        ("0x7f000001:5", "looks like an IPv4 address but is none"),
        ("127.0x1:5", "looks like an IPv4 address but is none"),
        ("2130706433:5", "looks like an IPv4 address but is none"),
        ("a..b:5", "no valid host name: use letters, digits, hyphens"),
        ("example.org.:5", "no valid host name"),
        (".org:5", "no valid host name"),
        ("-a.org:5", "no valid host name"),
        ("a-.org:5", "no valid host name"),
        ("a_b.org:5", "no valid host name"),
        ("a b.org:5", "no valid host name"),
        ("a%20b.org:5", "no valid host name"),
        ("user@host:5", "no valid host name"),
        ("a\n.org:5", "no valid host name"),
        ("a" * 64 + ".org:5", "no valid host name"),
        (".".join(["a" * 63] * 3 + ["b" * 62]) + ":5", "no valid host name"),
        ("[relay.example.org]:5", "no IPv6 address in its brackets"),
        ("[1.2.3.4]:5", "no IPv6 address in its brackets"),
        ("[::g]:5", "no IPv6 address in its brackets"),
    ],
)
def test_host_port_errors(text: str, message: str) -> None:
    with pytest.raises(AddressError, match=message) as caught:
        HostPort.parse(text)
    assert "\n" not in str(caught.value)


# MeshUri


@given(URIS)
def test_uri_round_trip(uri: MeshUri) -> None:
    text = str(uri)
    assert MeshUri.parse(text) == uri
    assert str(MeshUri.parse(text)) == text
    assert len(text) <= 4096


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        (f"netmesh://{A}", MeshUri(A)),
        (f"netmesh://{A}@203.0.113.7:4650", MeshUri(A, HostPort("203.0.113.7", 4650))),
        (f"netmesh://{A}@[2001:db8::7]:4650", MeshUri(A, HostPort("2001:db8::7", 4650))),
        (f"netmesh://{A}@[fe80::1%eth0]:4650", MeshUri(A, HostPort("fe80::1%eth0", 4650))),
        (f"netmesh://{A}@relay.example:1", MeshUri(A, HostPort("relay.example", 1))),
        (f"netmesh://{A}?via={B}", MeshUri(A, None, (MeshUri(B),))),
        (
            f"netmesh://{A}@1.2.3.4:5?via={B}@[::1]:6&via={C}",
            MeshUri(A, HostPort("1.2.3.4", 5), (MeshUri(B, HostPort("::1", 6)), MeshUri(C))),
        ),
        (
            f"netmesh://{A}?via={B}@1.2.3.4:5&via={B}@[::1]:5",
            MeshUri(A, None, (MeshUri(B, HostPort("1.2.3.4", 5)), MeshUri(B, HostPort("::1", 5)))),
        ),
    ],
)
def test_uri_table(text: str, uri: MeshUri) -> None:
    assert MeshUri.parse(text) == uri
    assert str(uri) == text
    assert hash(MeshUri.parse(text)) == hash(uri)


MISTYPED = str(A)[:-1] + ("a" if str(A)[-1] != "a" else "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with 'netmesh://': put that in front"),
        (str(A), "does not begin with 'netmesh://': put that in front"),
        (f"http://{A}", "does not begin with 'netmesh://'"),
        (f"NETMESH://{A}", "does not begin with 'netmesh://'"),
        (f" netmesh://{A}", "does not begin with 'netmesh://'"),
        (f"netmesh:{A}", "does not begin with 'netmesh://'"),
        ("netmesh://", "peer id is missing: write netmesh://PEER or netmesh://PEER@HOST:PORT"),
        ("netmesh://@1.2.3.4:5", "0 characters instead of 56"),
        ("netmesh://1.2.3.4:5", "':' but no '@': write PEER@HOST:PORT"),
        (f"netmesh://{A}:5", "':' but no '@': write PEER@HOST:PORT"),
        (f"netmesh://{MISTYPED}", "fails its check: a character is mistyped"),
        (f"netmesh://{str(A).upper()}", "write it in lower case"),
        (f"netmesh://{A}@", "has no port: write HOST:PORT"),
        (f"netmesh://{A}@1.2.3.4", "has no port: write HOST:PORT"),
        (f"netmesh://{A}@1.2.3.4:0", "has the port 0: write the one the peer listens on"),
        (f"netmesh://{A}@1.2.3.4:70000", "port '70000': write a number from 1 to 65535"),
        (f"netmesh://{A}@::1:5", r"IPv6 address without brackets: write \[::1\]:4650"),
        (f"netmesh://{A}@1.2.3.4:5 ", "digits only"),
        (f"netmesh://{A}@1.2.3.4:5\n", "digits only"),
        (f"netmesh://{A}@1.2.3.4:5/", "has a '/' after the peer: leave it"),
        (f"netmesh://{A}/", "has a '/' after the peer: leave it"),
        (f"netmesh://{A}@1.2.3.4:5,netmesh://{B}@1.2.3.4:6", "is several in one: give one at a time"),
        (f"netmesh://{A}#x", "has a '#': leave it and what follows out"),
        (f"netmesh://{A}?", "after the '\\?' is not understood: only via=PEER"),
        (f"netmesh://{A}?via", "peer id is missing"),
        (f"netmesh://{A}?via=", "peer id is missing"),
        (f"netmesh://{A}?relay={B}", "'relay=.* is not understood: only via=PEER"),
        (f"netmesh://{A}?via={B}&", "'' after the '\\?' is not understood"),
        (f"netmesh://{A}?VIA={B}", "is not understood: only via=PEER"),
        (f"netmesh://{A}?via={MISTYPED}", "fails its check"),
        (f"netmesh://{A}?via=netmesh://{B}", "':' but no '@'"),
        (f"netmesh://{A}?via={B}?via={C}", "at position 57"),
        (f"netmesh://{A}?via={B}@1.2.3.4:0", "has the port 0"),
        (f"netmesh://{A}?via={A}", "is its own relay: leave out that via="),
        (f"netmesh://{A}?via={B}&via={B}", "the same relay twice: leave one via= out"),
        (
            f"netmesh://{A}?via=" + "&via=".join([str(B)] * 9),
            "9 relays are too many: keep the best 8",
        ),
        (f"netmesh://{A}?via={B}%40x:5", "':' but no '@'"),
        ("netmesh://" + "a" * 5000, "longer than 4096 characters"),
    ],
)
def test_uri_errors_say_how_to_mend(text: str, message: str) -> None:
    with pytest.raises(AddressError, match=message) as caught:
        MeshUri.parse(text)
    assert str(caught.value).startswith("URI ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert isinstance(caught.value, ValueError)


@given(
    st.text(),
    st.sampled_from(["", "netmesh://", f"netmesh://{A}", f"netmesh://{A}@", f"netmesh://{A}?via="]),
)
def test_parsing_any_text_is_total(text: str, prefix: str) -> None:
    for parse in (MeshUri.parse, HostPort.parse, Address.parse):
        try:
            value = parse(prefix + text)
        except AddressError:
            continue
        assert parse(str(value)) == value


@given(URIS, st.data())
def test_a_mistyped_character_in_a_peer_id_is_caught(uri: MeshUri, data: st.DataObject) -> None:
    text = str(uri)
    position = data.draw(st.integers(0, 55)) + len("netmesh://")
    wrong = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
    if wrong != text[position]:
        with pytest.raises(AddressError):
            MeshUri.parse(text[:position] + wrong + text[position + 1 :])


def test_relays_with_relays_are_refused() -> None:
    with pytest.raises(AddressError, match="has relays of its own: leave them out"):
        MeshUri(A, None, (MeshUri(B, None, (MeshUri(C),)),))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("netmesh://x",), r"the peer of a URI is a PeerId, not str; MeshUri\.parse\(\.\.\.\) reads text"),
        ((A, ("203.0.113.7", 4650)), "a HostPort or None, not tuple"),
        ((A, "203.0.113.7:4650"), "a HostPort or None, not str"),
        ((A, None, [MeshUri(B)]), "a tuple of MeshUri, not "),
        ((A, None, (B,)), "a tuple of MeshUri, not "),
    ],
)
def test_what_is_no_part_of_a_uri_is_refused(parts: tuple[Any, ...], message: str) -> None:
    """It would be found out later, where it ends the node."""
    with pytest.raises(TypeError, match=message):
        MeshUri(*parts)
