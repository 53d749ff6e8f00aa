"""The bytes on the protocol page are those that the library makes, and mean what the page says."""

from __future__ import annotations

import re
from hashlib import blake2s
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from netmesh_trio import NodeConfig
from netmesh_trio.node import dialing, handshakes
from netmesh_trio.session import keys, session
from netmesh_trio.session.handshake import HandshakeLimits
from tests.test_docs_examples import run_example

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "protocol-bytes.txt").read_text(encoding="utf-8")


def shown(title: str) -> bytes:
    """The bytes on the page under a title."""
    match = re.search(rf"^{re.escape(title)}.*: (\d+) bytes\n((?: +\d+  [0-9a-f ]+\n)+)", PAGE, re.MULTILINE)
    assert match is not None, title
    rows = [row.split()[1:] for row in match[2].splitlines()]
    data = bytes.fromhex("".join("".join(row) for row in rows))
    assert len(data) == int(match[1])
    return data


def squeezed(name: str) -> str:
    """A page with its lines joined."""
    return " ".join((DOCS / name).read_text(encoding="utf-8").split())


def test_limits_are_as_described() -> None:
    rows = dict(
        re.findall(r"^(\S.*?)  +(\S.*)$", (DOCS / "protocol.rst").read_text(encoding="utf-8"), re.MULTILINE),
    )
    limits = HandshakeLimits()
    for name, told in {
        "unproven sources": (limits.open_rate, limits.open_burst),
        "proven sources together": (limits.proven_rate, limits.proven_burst),
        "each IPv4 address or IPv6 /64": (limits.source_rate, limits.source_burst),
        "circuits together": (limits.circuit_rate, limits.circuit_burst),
        "each relay": (limits.relay_rate, limits.relay_burst),
        "each circuit": (limits.one_circuit_rate, limits.one_circuit_burst),
    }.items():
        assert rows[f"handshakes answered, {name}"].startswith("{:g}/s, {:g} at once".format(*told))
    assert rows["half-open sessions"] == f"{handshakes._MAX_HALF_OPEN}, each for {handshakes._HALF_OPEN_LIFETIME:g} s"
    assert rows["sessions"].startswith(f"{NodeConfig().max_sessions}, an eighth")
    assert handshakes._OWN_PART == 8
    assert rows["paths of a session"] == f"{session._MAX_PATHS}"


def test_limits_in_the_text_are_as_described() -> None:
    protocol, threats = squeezed("protocol.rst"), squeezed("threat-model.rst")
    limits = HandshakeLimits()
    for page, told in (
        (protocol, f"Each of the first {handshakes._MAX_INITS} addresses has an INIT of its own"),
        (protocol, f"goes there again at once, at most {handshakes._MAX_COOKIES} times"),
        (protocol, "repeated after {:g}, {:g}, {:g} and then every {:g} s".format(*dialing._RETRY)),
        (protocol, f"INITs answered in the last {limits.repeat_lifetime:g} s"),
        (protocol, f"a secret that changes every {limits.cookie_lifetime:g} s"),
        (protocol, f"forgotten after {handshakes._HALF_OPEN_LIFETIME:g} s"),
        (protocol, f"puts up with {keys._RENEWALS} renewals at once"),
        (protocol, f"each {keys._RENEWAL_SECONDS:g} s and each {keys._RENEWAL_PACKETS} packets received"),
        (threats, f"above {limits.open_rate:g} a second an INIT has to prove its address"),
        (threats, f"there is a table of {handshakes._MAX_HALF_OPEN} for them"),
        (threats, f"There are up to {NodeConfig().max_sessions} sessions"),
    ):
        assert told in page


def keyed(key: bytes, data: bytes) -> bytes:
    return blake2s(data, key=key, digest_size=16).digest()


def test_the_page_shows_what_the_library_makes(capsys: pytest.CaptureFixture[str]) -> None:
    run_example(DOCS / "examples" / "protocol_bytes.py")
    assert capsys.readouterr().out == PAGE, "python docs/examples/protocol_bytes.py > docs/protocol-bytes.txt"


def test_macs_are_as_described() -> None:
    a, b, public_mesh = shown("Ed25519 key of A"), shown("Ed25519 key of B"), bytes(32)
    init, response = shown("INIT of A"), shown("RESPONSE of B")
    assert init[608:624] == keyed(blake2s(b"netmesh mac1" + b + public_mesh).digest(), init[:608])
    assert init[624:] == bytes(16)
    assert response[-16:] == keyed(blake2s(b"netmesh mac1" + a + public_mesh).digest(), response[:-16])
    assert response[8:12] == init[4:8] == shown("COOKIE of B")[4:8]
    # the hello of the RESPONSE is in a packet 72 + n bytes long, and 16 more of mac1
    assert len(response) == 88 + len(shown("Hello of B"))


def test_data_is_sealed_as_described() -> None:
    packet = shown("The same as a DATA packet")
    assert packet[:4] == b"\x04\0\0\0"
    assert packet[4:8] == shown("RESPONSE of B")[4:8]
    opener = ChaCha20Poly1305(shown("Key from A to B"))
    plain = opener.decrypt(bytes(4) + packet[8:16], packet[16:], None)
    assert plain == shown("Frames of packet 5 of A")
    assert plain == b"\x09" + bytes(4) + bytes(8) + b"\x04echo" + b"hello"
    assert shown("... and on a circuit") == b"\x05\0\0\0" + bytes.fromhex("c0c1c2c3c4c5c6c7") + packet
    assert shown("What B answers") == b"\x06\0\0\0" + packet[4:16]


def test_acks_count_as_described() -> None:
    ack = shown("ACK of packets")
    largest, delay, first, count = ack[1:9], ack[9:13], ack[13:17], ack[17]
    assert [int.from_bytes(field, "big") for field in (largest, delay, first)] == [10, 1500, 0]
    numbers = {10}
    low = 10
    for at in range(18, 18 + 8 * count, 8):
        gap, length = (int.from_bytes(ack[i : i + 4], "big") for i in (at, at + 4))
        high = low - gap - 2
        low = high - length
        numbers |= set(range(low, high + 1))
    assert numbers == {0, 1, 2, 3, 4, 7, 8, 10}


def test_service_tags_are_as_described() -> None:
    tag = blake2s(b"echo", digest_size=8, person=b"netmesh").digest()
    assert shown("Hello of B")[26:] == tag + b"\0"
    assert shown("CONTROL: services") == b"\x10\x0e\x02\0\x0c" + (1).to_bytes(4, "big") + tag
