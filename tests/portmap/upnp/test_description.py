from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.portmap.upnp.description import (
    MAX_SERVICES,
    Description,
    Service,
    printable,
    read_description_untrusted,
)
from netmesh_trio.traversal.portmap.upnp.locations import Location
from netmesh_trio.wire.errors import DecodeError
from tests.portmap.upnp.descriptions import IGD1, IGD2, device, igd, root, service

AT = Location("192.168.1.1", 49000, "/desc/igd.xml")


def controls(document: bytes, at: Location = AT) -> list[tuple[str, str]]:
    """Type without its prefix, and where it is controlled."""
    return [
        (s.type.removeprefix("urn:schemas-upnp-org:service:"), str(s.control).removeprefix("http://"))
        for s in read_description_untrusted(document, at).services
    ]


def test_a_router_of_version_2() -> None:
    assert read_description_untrusted(IGD2, AT) == Description(
        "A router, A maker, A model",
        (
            Service("urn:schemas-upnp-org:service:WANIPConnection:2", Location("192.168.1.1", 49000, "/ctl/IPConn")),
            Service(
                "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1",
                Location("192.168.1.1", 49000, "/ctl/IP6FCtl"),
            ),
        ),
    )
    first, second = read_description_untrusted(IGD2, AT).services
    assert (first.kind, first.version, first.opens_pinholes) == ("WANIPConnection", 2, False)
    assert (second.kind, second.version, second.opens_pinholes) == ("WANIPv6FirewallControl", 1, True)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (IGD1, [("WANIPConnection:1", "192.168.1.1:49000/ctl/IPConn")]),
        # Control below the description, as "ctl" is without a slash.
        (igd(service("WANIPConnection:1", "ctl")), [("WANIPConnection:1", "192.168.1.1:49000/desc/ctl")]),
        # A base of its own, with another port.
        (
            igd(service("WANPPPConnection:1", "/u?n=1"), base="http://192.168.1.1:5431"),
            [("WANPPPConnection:1", "192.168.1.1:5431/u?n=1")],
        ),
        (
            igd(service("WANIPConnection:1", "x"), base="http://192.168.1.1:5431/uuid:1/"),
            [("WANIPConnection:1", "192.168.1.1:5431/uuid:1/x")],
        ),
        # A base that is wrong, as of routers that put their outside address or 0.0.0.0 there.
        *(
            (igd(service("WANIPConnection:1", "/x"), base=base), [("WANIPConnection:1", "192.168.1.1:49000/x")])
            for base in ("http://6.6.6.6:5431/", "http://0.0.0.0:5431/", "http://router.lan/", "nonsense:", "https://x")
        ),
        # DSL routers list both, and use one of them.  IP before PPP, the newer before the older.
        (
            igd(
                service("WANPPPConnection:1", "/ppp"),
                service("WANIPConnection:1", "/ip1") + service("WANEthernetLinkConfig:1", "/eth"),
                service("WANIPConnection:2", "/ip2"),
            ),
            [
                ("WANIPConnection:2", "192.168.1.1:49000/ip2"),
                ("WANIPConnection:1", "192.168.1.1:49000/ip1"),
                ("WANPPPConnection:1", "192.168.1.1:49000/ppp"),
            ],
        ),
        # Named twice.
        (igd(service("WANIPConnection:1", "/x") * 2), [("WANIPConnection:1", "192.168.1.1:49000/x")]),
        # The whole URL.
        (
            igd(service("WANIPConnection:1", "http://192.168.1.1:80/x")),
            [("WANIPConnection:1", "192.168.1.1:80/x")],
        ),
        # Not where others control it.
        (igd(service("WANIPConnection:1", "http://6.6.6.6/x") + service("WANIPConnection:1", "//6.6.6.6/y")), []),
        (igd(service("WANIPConnection:1", "https://192.168.1.1/x") + service("WANIPConnection:1", "")), []),
        # Nothing that maps ports.
        (igd(service("WANIPConnection:0", "/x") + service("WANIPConnection", "/x")), []),
        (igd(service("WANIPConnection:1evil", "/x") + service("XWANIPConnection:1", "/x")), []),
        (root(device("MediaServer:1", services=service("ContentDirectory:1", "/x"))), []),
    ],
)
def test_services(document: bytes, expected: list[tuple[str, str]]) -> None:
    assert controls(document) == expected


def test_the_host_of_a_description_at_a_global_address() -> None:
    at = Location("2001:db8::1", 5000, "/rootDesc.xml")
    assert controls(IGD1, at) == [("WANIPConnection:1", "[2001:db8::1]:5000/ctl/IPConn")]
    assert controls(igd(service("WANIPConnection:1", "http://[2001:db8::2]:5000/x")), at) == []


def test_no_more_services_than_the_limit() -> None:
    many = igd("".join(service("WANIPConnection:1", f"/{n}") for n in range(100)))
    assert controls(many) == [("WANIPConnection:1", f"192.168.1.1:49000/{n}") for n in range(MAX_SERVICES)]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("A router", "A router"),
        (" A\r\n router\t", "A router"),
        ("\x1b[31mred\u202e", "?[31mred?"),
        ("x" * 1000, "x" * 100),
        ("", ""),
    ],
)
def test_names_for_people(said: str, shown: str) -> None:
    assert printable(said) == shown


def test_a_name_in_latin1() -> None:
    document = igd(service("WANIPConnection:1", "/x"), name="Stra\u00dfe").decode().encode("latin-1")
    assert read_description_untrusted(document, AT).name == "Straße, A maker, A model"


@pytest.mark.parametrize("document", [b"", b"<html/>", b"<root><URLBase>http://192.168.1.1/</URLBase></root>"])
def test_what_is_no_description(document: bytes) -> None:
    with pytest.raises(DecodeError):
        read_description_untrusted(document, AT)


@given(st.integers(0, len(IGD2) - 1), st.integers(0, 40), st.binary(max_size=40))
def test_a_description_that_was_tampered_with(at: int, cut: int, noise: bytes) -> None:
    try:
        description = read_description_untrusted(IGD2[:at] + noise + IGD2[at + cut :], AT)
    except DecodeError:
        return
    assert len(description.name) <= 100
    assert description.name.isprintable()
    assert len(description.services) <= MAX_SERVICES
    assert all(service.control.host == AT.host for service in description.services)


@given(st.text(max_size=80))
def test_any_control_url_stays_on_the_host(control: str) -> None:
    escaped = control.replace("&", "&amp;").replace("<", "&lt;")
    try:
        description = read_description_untrusted(igd(f"{service('WANIPConnection:1', escaped)}"), AT)
    except (DecodeError, UnicodeEncodeError):
        return
    assert all(service.control.host == AT.host for service in description.services)
