from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.identity import PeerId
from netmesh_trio.traversal import Dependence
from netmesh_trio.traversal.rendezvous import (
    MAX_MESSAGE_SIZE,
    Candidate,
    CandidateKind,
    Candidates,
    PunchAck,
    PunchIntroduce,
    PunchReject,
    PunchRequest,
    RejectReason,
    RendezvousMessage,
    decode_rendezvous_message_untrusted,
)
from netmesh_trio.wire.errors import DecodeError

ID = bytes(range(8))
PEER = PeerId(b"\x11" * 32)
V4, V6 = Address("203.0.113.7", 4650), Address("2001:db8::7", 4650)
V4_PACKED, V6_PACKED = V4.pack(), V6.pack()
H_ID = "480001020304050607"
H_PEER = "5820" + "11" * 32
H_V4 = "53" + V4_PACKED.hex()

VECTORS: list[tuple[str, RendezvousMessage]] = [
    ("84 01" + H_ID + H_PEER + H_V4, PunchRequest(ID, PEER, V4)),
    ("86 02" + H_ID + H_PEER + H_V4 + "1a000186a0 f5", PunchIntroduce(ID, PEER, V4, 100_000, True)),
    ("86 02" + H_ID + H_PEER + H_V4 + "00 f4", PunchIntroduce(ID, PEER, V4, 0, False)),
    ("83 03" + H_ID + "f6", PunchAck(ID)),
    ("83 03" + H_ID + H_V4, PunchAck(ID, V4)),
    ("83 04" + H_ID + "6a" + b"no-session".hex(), PunchReject(ID, RejectReason.NO_SESSION)),
    ("85 05 f6 00 80 00", Candidates()),
    (
        "85 05" + H_ID + "03 81 82 01" + H_V4 + "02",
        Candidates(ID, (Candidate(CandidateKind.HOST, V4),), True, True, Dependence.ADDRESS_DEPENDENT),
    ),
]


@pytest.mark.parametrize(("data", "message"), VECTORS)
def test_vectors(data: str, message: RendezvousMessage) -> None:
    assert message.encode().hex() == data.replace(" ", "")
    assert decode_rendezvous_message_untrusted(message.encode()) == message


def test_all_reasons_kinds_and_filters_round_trip() -> None:
    messages: list[RendezvousMessage] = [PunchReject(ID, reason) for reason in RejectReason]
    messages += [Candidates(ID, (Candidate(kind, V6),)) for kind in CandidateKind]
    messages += [Candidates(filtering=filtering) for filtering in (None, *Dependence)]
    messages += [Candidates(reply_wanted=True), Candidates(speak_first=True)]
    for message in messages:
        assert decode_rendezvous_message_untrusted(message.encode()) == message


def test_the_largest_message_fits() -> None:
    most = Candidates(
        ID, tuple(Candidate(CandidateKind.IPV6, Address("2001:db8::7", 65000 + n)) for n in range(8)), True, True
    )
    assert len(most.encode()) <= MAX_MESSAGE_SIZE
    assert decode_rendezvous_message_untrusted(most.encode()) == most


MULTICAST = Address("224.0.0.1", 5).pack()
PORT_0 = Address("203.0.113.7", 0).pack()


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [0, ID, None],
        [6, ID, None],
        [True, ID, bytes(32), V4_PACKED],
        [1, ID, bytes(32)],
        [1, ID, bytes(32), V4_PACKED, 0],
        [1, ID[:7], bytes(32), V4_PACKED],
        [1, ID, bytes(31), V4_PACKED],
        [1, ID, bytes(32), V4_PACKED[:18]],
        [1, ID, bytes(32), MULTICAST],
        [1, ID, bytes(32), PORT_0],
        [1, ID, bytes(32), None],
        [2, ID, bytes(32), V4_PACKED, 0],
        [2, ID, bytes(32), V4_PACKED, -1, True],
        [2, ID, bytes(32), V4_PACKED, 1_000_001, True],
        [2, ID, bytes(32), V4_PACKED, 0, 1],
        [2, ID, bytes(32), V4_PACKED, 0.5, True],
        [3, ID],
        [3, None, None],
        [3, ID, b""],
        [3, ID, MULTICAST],
        [4, ID, "because"],
        [4, ID, ""],
        [4, ID, "x" * 40],
        [4, ID, b"no-session"],
        [5, ID, 0, []],
        [5, ID, 4, [], 0],
        [5, ID, 0, [], 4],
        [5, b"", 0, [], 0],
        [5, ID, 0, None, 0],
        [5, ID, 0, [[0, V4_PACKED]], 0],
        [5, ID, 0, [[5, V4_PACKED]], 0],
        [5, ID, 0, [[1]], 0],
        [5, ID, 0, [[1, MULTICAST]], 0],
        [5, ID, 0, [[1, V4_PACKED], [1, V4_PACKED]], 0],
        [5, ID, 0, [[1, Address("203.0.113.7", n).pack()] for n in range(1, 10)], 0],
    ],
)
def test_refused(value: object) -> None:
    with pytest.raises(DecodeError):
        decode_rendezvous_message_untrusted(cbor2.dumps(value, canonical=True))


def test_too_long_is_refused() -> None:
    with pytest.raises(DecodeError, match="at most 512"):
        decode_rendezvous_message_untrusted(cbor2.dumps([1, ID, bytes(600), V4_PACKED]))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_decode_error(data: bytes) -> None:
    try:
        message = decode_rendezvous_message_untrusted(data)
    except DecodeError:
        return
    assert message.encode() == data


@given(st.sampled_from([m for _, m in VECTORS]), st.integers(0, 200), st.integers(0, 255))
def test_one_wrong_byte_gives_a_message_or_a_decode_error(message: RendezvousMessage, index: int, byte: int) -> None:
    data = bytearray(message.encode())
    data[index % len(data)] = byte
    try:
        read = decode_rendezvous_message_untrusted(data)
    except DecodeError:
        return
    assert read.encode() == bytes(data)  # one message, one spelling


def test_what_is_made_here_is_checked_too() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        PunchRequest(b"", PEER, V4)
    with pytest.raises(ValueError, match="no host"):
        Candidate(CandidateKind.HOST, Address("0.0.0.0", 5))
    with pytest.raises(ValueError, match="no host"):
        PunchAck(ID, Address("203.0.113.7", 0))
    with pytest.raises(ValueError, match="1000000 microseconds"):
        PunchIntroduce(ID, PEER, V4, 2_000_000, True)
    with pytest.raises(ValueError, match="8 candidates"):
        Candidates(ID, (Candidate(CandidateKind.HOST, V4),) * 2)
