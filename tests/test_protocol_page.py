"""The bytes on the protocol page are those that the library makes, and mean what the page says."""

from __future__ import annotations

import re
from hashlib import blake2s
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

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
