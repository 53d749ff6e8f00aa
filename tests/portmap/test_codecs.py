from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.traversal.portmap import PortMapCause, PortMapError, natpmp, pcp
from netmesh_trio.wire.errors import DecodeError

NONCE = bytes(range(12))
V4 = "00000000000000000000ffff"  # before an IPv4 address
MAP_BODY = NONCE.hex() + "11000000" + "122a" + "1f90" + V4 + "cb007107"

REQUESTS = {
    "NAT-PMP address": (natpmp.ADDRESS_REQUEST, "0000"),
    "NAT-PMP map": (natpmp.encode_map_request(4650, 8080, 3600), "0001 0000 122a 1f90 00000e10"),
    "NAT-PMP unmap": (natpmp.encode_map_request(4650, 0, 0), "0001 0000 122a 0000 00000000"),
    "PCP announce": (pcp.encode_announce_request("10.0.0.7"), f"0200 0000 00000000 {V4} 0a000007"),
    "PCP map": (
        pcp.encode_map_request("10.0.0.7", NONCE, 4650, 3600),
        f"0201 0000 00000e10 {V4} 0a000007 {NONCE.hex()} 11000000 122a 0000 {V4} 00000000",
    ),
    "PCP renew": (
        pcp.encode_map_request("10.0.0.7", NONCE, 4650, 60, Address("203.0.113.7", 8080), prefer_failure=True),
        f"0201 0000 0000003c {V4} 0a000007 {MAP_BODY} 02000000",
    ),
    "PCP pinhole": (
        pcp.encode_map_request("2001:db8::7", NONCE, 4650, 0),
        f"0201 0000 00000000 20010db8 00000000 00000000 00000007 {NONCE.hex()} 11000000 122a 0000" + 32 * "0",
    ),
}


@pytest.mark.parametrize(("made", "wanted"), REQUESTS.values(), ids=list(REQUESTS))
def test_requests(made: bytes, wanted: str) -> None:
    assert made == bytes.fromhex(wanted)


def test_natpmp_answers() -> None:
    answer = bytes.fromhex("0080 0000 00000063 cb007107")
    assert natpmp.read_address_answer_untrusted(answer) == natpmp.AddressAnswer(99, "203.0.113.7")
    answer = bytes.fromhex("0081 0000 00000063 122a 1f90 00000e10")
    assert natpmp.read_map_answer_untrusted(answer) == natpmp.MapAnswer(99, 4650, 8080, 3600)


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (1, PortMapCause.UNSUPPORTED),
        (2, PortMapCause.REFUSED),
        (3, PortMapCause.NETWORK_FAILURE),
        (4, PortMapCause.OUT_OF_RESOURCES),
        (5, PortMapCause.UNSUPPORTED),
        (6, PortMapCause.REFUSED),
        (65535, PortMapCause.REFUSED),
    ],
)
def test_natpmp_refusals(result: int, cause: PortMapCause) -> None:
    for read, opcode in ((natpmp.read_address_answer_untrusted, 128), (natpmp.read_map_answer_untrusted, 129)):
        with pytest.raises(PortMapError, match=f"result {result}") as caught:
            read(bytes((0, opcode)) + result.to_bytes(2, "big") + bytes(4))
        assert (caught.value.cause, caught.value.protocol) == (cause, "nat-pmp")


def pcp_answer(result: int, lifetime: int = 3600, opcode: int = 1, body: str = MAP_BODY) -> bytes:
    head = bytes((2, 128 + opcode, 0, result)) + lifetime.to_bytes(4, "big") + (99).to_bytes(4, "big") + bytes(12)
    return head + bytes.fromhex(body)


def test_pcp_answers() -> None:
    assert pcp.read_announce_answer_untrusted(pcp_answer(0, 0, 0, "")) == 99
    assert pcp.read_announce_answer_untrusted(pcp_answer(4, 0, 0, "")) == 99
    with pytest.raises(pcp.PcpRefusal, match="result 2"):
        pcp.read_announce_answer_untrusted(pcp_answer(2, 0, 0, ""))
    wanted = pcp.MapAnswer(99, 3600, 4650, Address("203.0.113.7", 8080))
    assert pcp.read_map_answer_untrusted(pcp_answer(0), NONCE, 4650) == wanted
    # options of the router's that nobody asked for
    assert pcp.read_map_answer_untrusted(pcp_answer(0) + bytes(8), NONCE, 4650) == wanted
    body = NONCE.hex() + "11000000" + "122a" + "1f90" + "20010db8000000000000000000000007"
    assert pcp.read_map_answer_untrusted(pcp_answer(0, body=body), NONCE, 4650).external == Address("2001:db8::7", 8080)


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (1, PortMapCause.UNSUPPORTED),
        (2, PortMapCause.REFUSED),
        (3, PortMapCause.MALFORMED),
        (4, PortMapCause.UNSUPPORTED),
        (5, PortMapCause.UNSUPPORTED),
        (6, PortMapCause.MALFORMED),
        (7, PortMapCause.NETWORK_FAILURE),
        (8, PortMapCause.OUT_OF_RESOURCES),
        (9, PortMapCause.UNSUPPORTED),
        (10, PortMapCause.OUT_OF_RESOURCES),
        (11, PortMapCause.CONFLICT),
        (12, PortMapCause.REFUSED),
        (13, PortMapCause.OUT_OF_RESOURCES),
        (99, PortMapCause.REFUSED),
    ],
)
def test_pcp_refusals(result: int, cause: PortMapCause) -> None:
    with pytest.raises(pcp.PcpRefusal) as caught:
        pcp.read_map_answer_untrusted(pcp_answer(result, 2**32 - 1), NONCE, 4650)
    error = caught.value
    assert (error.cause, error.protocol, error.result, error.retry_after) == (cause, "pcp", result, 1800.0)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(twin) == str(error)
        assert twin.__dict__ == error.__dict__


def test_a_router_that_knows_natpmp_only_says_so_in_its_own_way() -> None:
    for answer in ("0080 0001", "0081 0001 00000063", "0081 0001 00000063 122a 1f90 00000e10"):
        with pytest.raises(pcp.PcpRefusal, match="another version"):
            pcp.read_map_answer_untrusted(bytes.fromhex(answer), NONCE, 4650)


WRONG_PCP = {
    "too short": pcp_answer(0)[:20],
    "no MAP part": pcp_answer(0)[:24],
    "cut": pcp_answer(0)[:56],
    "not a multiple of 4": pcp_answer(0) + b"\0",
    "too long": pcp_answer(0) + bytes(1044),
    "another version": b"\3" + pcp_answer(0)[1:],
    "a request": b"\2\1" + pcp_answer(0)[2:],
    "another opcode": pcp_answer(0, opcode=2),
    "another nonce": pcp_answer(0, body="ff" + MAP_BODY[2:]),
    "TCP": pcp_answer(0, body=MAP_BODY.replace("11000000", "06000000")),
    "another port": pcp_answer(0, body=MAP_BODY.replace("122a", "122b")),
    "a refusal of another": pcp_answer(2, body="ff" + MAP_BODY[2:]),
}


@pytest.mark.parametrize("data", WRONG_PCP.values(), ids=list(WRONG_PCP))
def test_what_is_no_pcp_answer(data: bytes) -> None:
    with pytest.raises(DecodeError):
        pcp.read_map_answer_untrusted(data, NONCE, 4650)


WRONG_NATPMP = ["", "0081", "0081 0000 000000", "0081 0000 00000063 122a 1f90 00000e", "0080 0000 00000063 cb007107"]


@pytest.mark.parametrize("data", [*WRONG_NATPMP, "0181 0000 00000063 122a 1f90 00000e10", "00" * 1101])
def test_what_is_no_natpmp_answer(data: str) -> None:
    with pytest.raises(DecodeError):
        natpmp.read_map_answer_untrusted(bytes.fromhex(data))


PREFIXES = st.sampled_from([b"", b"\0\x80\0\0", b"\0\x81\0\0", pcp_answer(0)[:4], pcp_answer(0)[:40], pcp_answer(0)])


@given(PREFIXES, st.binary(max_size=80))
def test_any_bytes_are_an_answer_a_refusal_or_none(prefix: bytes, data: bytes) -> None:
    for read in (
        natpmp.read_address_answer_untrusted,
        natpmp.read_map_answer_untrusted,
        pcp.read_announce_answer_untrusted,
        lambda data: pcp.read_map_answer_untrusted(data, NONCE, 4650),
    ):
        try:
            read(prefix + data)
        except (DecodeError, PortMapError) as error:
            assert str(error)
