from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.portmap.upnp.locations import (
    MAX_ANSWER,
    SEARCH_TARGETS,
    Location,
    read_location_untrusted,
    read_ssdp_answer_untrusted,
    ssdp_search,
)
from netmesh_trio.wire.errors import DecodeError

ROUTER = Location("192.168.1.1", 5000, "/rootDesc.xml")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://192.168.1.1:5000/rootDesc.xml", ROUTER),
        ("HTTP://192.168.1.1:5000/rootDesc.xml#top", ROUTER),
        ("http://192.168.1.1", Location("192.168.1.1", 80, "/")),
        ("http://192.168.1.1/a?b=c&d", Location("192.168.1.1", 80, "/a?b=c&d")),
        ("http://192.168.1.1:65535/", Location("192.168.1.1", 65535, "/")),
        ("http://[FE80::1%25eth0]:5000/x", Location("fe80::1", 5000, "/x")),
        ("http://[2001:db8:0::1]/", Location("2001:db8::1", 80, "/")),
    ],
)
def test_urls(url: str, location: Location) -> None:
    assert read_location_untrusted(url) == location
    assert read_location_untrusted(str(location)) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/rootDesc.xml",
        "https://192.168.1.1/",
        "file:///etc/passwd",
        "ftp://192.168.1.1/",
        "http:///x",
        "http://router.lan/",
        "http://user@192.168.1.1/",
        "http://192.168.1.1@6.6.6.6/",
        "http://192.168.1.1:0/",
        "http://192.168.1.1:65536/",
        "http://192.168.1.1:5000x/",
        "http://192.168.1.1:+80/",
        "http://192.168.1.1:/",
        "http://192.168.01.1/",
        "http://192.168.1/",
        "http://3232235777/",
        "http://192.168.1.1x/",
        "http://fe80::1/",
        "http://[fe80::1/",
        "http://[192.168.1.1]x/",
        "http://[::1]extra/",
        "http://192.168.1.1/a b",
        "http://192.168.1.1/a\r\nX-Injected: 1",
        "http://192.168.1.1/\tx",
        "http://192.168.1.1/\u00e4",
        "http://192.168.1.1?x",
        "http://192.168.1.1/" + "a" * 1024,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(DecodeError):
        read_location_untrusted(url)


@pytest.mark.parametrize(
    ("reference", "path", "port"),
    [
        ("/ctl/IPConn", "/ctl/IPConn", 5000),
        ("ctl/IPConn", "/upnp/ctl/IPConn", 5000),
        ("../x", "/x", 5000),
        ("../../../x", "/x", 5000),
        ("?a=b", "/upnp/desc.xml?a=b", 5000),
        ("http://192.168.1.1:49152/ctl", "/ctl", 49152),
        ("//192.168.1.1/ctl", "/ctl", 80),
    ],
)
def test_references(reference: str, path: str, port: int) -> None:
    here = Location("192.168.1.1", 5000, "/upnp/desc.xml")
    assert here.resolve(reference) == Location("192.168.1.1", port, path)


@pytest.mark.parametrize(
    "reference",
    ["http://6.6.6.6/ctl", "//6.6.6.6/ctl", "https://192.168.1.1/", "file:///x", "http://[/", "/a b", "x" * 2000],
)
def test_references_that_are_refused(reference: str) -> None:
    with pytest.raises(DecodeError):
        ROUTER.resolve(reference)


def test_a_search() -> None:
    assert ssdp_search(SEARCH_TARGETS[0], 4) == (
        b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
    assert b"\r\nHOST: [ff02::c]:1900\r\n" in ssdp_search(SEARCH_TARGETS[1], 6)


def answer(**headers: str) -> bytes:
    fields = {"CACHE-CONTROL": "max-age=120", "ST": SEARCH_TARGETS[0], "LOCATION": str(ROUTER), "EXT": "", **headers}
    return "".join(["HTTP/1.1 200 OK\r\n", *(f"{k}: {v}\r\n" for k, v in fields.items()), "\r\n"]).encode()


@pytest.mark.parametrize(
    "datagram",
    [
        answer(),
        answer(ST=SEARCH_TARGETS[1]),
        answer().replace(b"LOCATION: ", b"Location:"),
        answer().replace(b"\r\n", b"\n"),
        answer().replace(b"1.1 200 OK", b"1.0 200"),
        answer() + b"left over from the last packet",
        answer(SERVER="Stra\xdfe".encode("latin-1").decode("latin-1")),
        answer() + b"LOCATION: http://6.6.6.6/\r\n",  # the first counts
    ],
)
def test_answers(datagram: bytes) -> None:
    assert read_ssdp_answer_untrusted(datagram) == ROUTER


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\r\n",
        b"NOTIFY * HTTP/1.1\r\n" + answer().partition(b"\r\n")[2],
        ssdp_search(SEARCH_TARGETS[0], 4),
        answer().replace(b"200 OK", b"404 Not Found"),
        answer().replace(b"200 OK", b"2000"),
        answer(ST="upnp:rootdevice"),
        answer(ST="urn:schemas-upnp-org:device:MediaServer:1"),
        answer(LOCATION=""),
        answer(LOCATION="http://router.lan/"),
        answer(LOCATION="https://192.168.1.1/"),
        answer(X="x" * MAX_ANSWER),
    ],
)
def test_answers_that_are_refused(datagram: bytes) -> None:
    with pytest.raises(DecodeError):
        read_ssdp_answer_untrusted(datagram)


@given(st.binary(max_size=200) | st.text().map(lambda text: answer(LOCATION=text, ST=SEARCH_TARGETS[0])))
def test_any_datagram_gives_a_location_or_the_error(datagram: bytes) -> None:
    try:
        location = read_ssdp_answer_untrusted(datagram)
    except DecodeError:
        return
    assert read_location_untrusted(str(location)) == location


@given(st.text(max_size=60) | st.text(alphabet="htp:/.[]@%#?0123456789abfx", max_size=60))
def test_any_reference_stays_on_the_host(reference: str) -> None:
    try:
        target = ROUTER.resolve(reference)
    except DecodeError:
        return
    assert target.host == ROUTER.host
    assert 0 < target.port < 65536
