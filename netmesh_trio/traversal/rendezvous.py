"""Rendezvous (subprotocol 0x0D01): how two peers agree to send to each other at once.

All messages are CBOR arrays, the first item being the kind.  Addresses are the 19 bytes of :meth:`Address.pack`, peers
their 32 bytes.  ``punch_id`` are 8 random bytes, drawn by who begins, which tie the messages of one attempt together:

    PunchRequest    [1, punch_id, target, reflex]                           to the coordinator
    PunchIntroduce  [2, punch_id, peer, reflex, delay in us, initiator]     from the coordinator, to both ends
    PunchAck        [3, punch_id, heard (19 bytes or null)]                 from end to end, inside the routed session
    PunchReject     [4, punch_id, reason (text)]                            from the coordinator, to who asked;
                                                                            or from end to end: busy
    Candidates      [5, punch_id or null, flags, [[kind, address], ...], filtering]   from end to end, likewise

The delay runs from the receipt of the introduction: no clock is compared with another.  Candidates never pass a third
party that could read or forge them.  Losing any of these messages costs the shorter path at most.
"""

from __future__ import annotations

import enum

import attrs

from ..addresses import PACKED_ADDRESS_SIZE, Address
from ..identity import KEY_SIZE, PeerId
from ..wire.control import (
    CborValue,
    decode_cbor_untrusted,
    encode_cbor,
    expect_bytes,
    expect_int,
    expect_list,
    expect_str,
)
from ..wire.errors import DecodeError
from .report import Dependence

__all__ = [
    "MAX_CANDIDATES",
    "MAX_DELAY_US",
    "MAX_MESSAGE_SIZE",
    "PUNCH_ID_SIZE",
    "Candidate",
    "CandidateKind",
    "Candidates",
    "PunchAck",
    "PunchIntroduce",
    "PunchReject",
    "PunchRequest",
    "RejectReason",
    "RendezvousMessage",
    "decode_rendezvous_message_untrusted",
]

PUNCH_ID_SIZE = 8
MAX_CANDIDATES = 8
"""Most candidates in one message, and most that one attempt sends to."""
MAX_DELAY_US = 1_000_000
"""The longest delay that an introduction may ask for, microseconds."""
MAX_MESSAGE_SIZE = 512

_REQUEST, _INTRODUCE, _ACK, _REJECT, _CANDIDATES = range(1, 6)
_REPLY_WANTED, _SPEAK_FIRST = 1, 2


class RejectReason(str, enum.Enum):
    """Why a coordinator declined, or the other end puts an attempt off; the value is what is on the wire."""

    RATE_LIMITED = "rate-limited"
    """The requester asked too often."""
    UNKNOWN_REFLEX = "unknown-reflex"
    """The coordinator does not see from outside where one of the two is, or not in the family of the other, or the
    target does not take part."""
    NO_SESSION = "no-session"
    """The coordinator has no session with the target."""
    ADDRESS_MISMATCH = "address-mismatch"
    """The requester claims another host than the coordinator sees it at."""
    BUSY = "busy"
    """Too many ask the other end at once, or this one too often; from that end itself: try again soon."""


class CandidateKind(enum.IntEnum):
    """Where a candidate comes from."""

    HOST = 1
    """An IPv4 address of an interface."""
    MAPPED = 2
    """The outside of a port mapping that the router granted."""
    IPV6 = 3
    """A global IPv6 address of an interface."""
    REFLEXIVE = 4
    """What peers observe."""


def _check_id(_instance: object, _attribute: object, value: bytes) -> None:
    if len(value) != PUNCH_ID_SIZE:
        raise ValueError(f"a punch id has {PUNCH_ID_SIZE} bytes")


def _check_target(_instance: object, _attribute: object, value: Address) -> None:
    if not (value.is_unicast and value.port):
        raise ValueError("there is an address that no host has")


def _check_delay(_instance: object, _attribute: object, value: int) -> None:
    if not 0 <= value <= MAX_DELAY_US:
        raise ValueError(f"a delay is 0 to {MAX_DELAY_US} microseconds")


def _check_candidates(_instance: object, _attribute: object, value: tuple[Candidate, ...]) -> None:
    if len(value) > MAX_CANDIDATES or len(set(value)) != len(value):
        raise ValueError(f"there may be {MAX_CANDIDATES} candidates, no two of them equal")


@attrs.frozen
class PunchRequest:
    """Introduce me to ``target``, please."""

    punch_id: bytes = attrs.field(validator=_check_id)
    target: PeerId
    reflex: Address = attrs.field(validator=_check_target)
    """Where the requester says that it is seen; its host must be the one that the coordinator sees."""

    def encode(self) -> bytes:
        """The CBOR of this message."""
        return encode_cbor([_REQUEST, self.punch_id, bytes(self.target), self.reflex.pack()])


@attrs.frozen
class PunchIntroduce:
    """Begin to send to ``peer``, so long after receipt."""

    punch_id: bytes = attrs.field(validator=_check_id)
    peer: PeerId
    """The other end."""
    reflex: Address = attrs.field(validator=_check_target)
    """Where the other end is seen."""
    delay_us: int = attrs.field(validator=_check_delay)
    """Microseconds to wait."""
    initiator: bool
    """Whether the receiver is the one that asked."""

    @property
    def delay(self) -> float:
        """Seconds to wait."""
        return self.delay_us / 1e6

    def encode(self) -> bytes:
        """The CBOR of this message."""
        return encode_cbor(
            [_INTRODUCE, self.punch_id, bytes(self.peer), self.reflex.pack(), self.delay_us, self.initiator]
        )


@attrs.frozen
class PunchAck:
    """A probe of yours came in; told by the routed path, which is sure to carry it."""

    punch_id: bytes = attrs.field(validator=_check_id)
    heard: Address | None = attrs.field(default=None, validator=attrs.validators.optional(_check_target))
    """From which address it came; None on a train that only begins."""

    def encode(self) -> bytes:
        """The CBOR of this message."""
        return encode_cbor([_ACK, self.punch_id, None if self.heard is None else self.heard.pack()])


@attrs.frozen
class PunchReject:
    """No introduction, and why: a refusal costs a round trip, not the deadline."""

    punch_id: bytes = attrs.field(validator=_check_id)
    reason: RejectReason

    def encode(self) -> bytes:
        """The CBOR of this message."""
        return encode_cbor([_REJECT, self.punch_id, self.reason.value])


@attrs.frozen
class Candidate:
    """An address at which a node may be reached."""

    kind: CandidateKind
    address: Address = attrs.field(validator=_check_target)


@attrs.frozen
class Candidates:
    """Where I may be reached besides; told to the other end only."""

    punch_id: bytes | None = attrs.field(default=None, validator=attrs.validators.optional(_check_id))
    """The attempt that they belong to; None if to none."""
    candidates: tuple[Candidate, ...] = attrs.field(default=(), validator=_check_candidates)
    """Best first."""
    reply_wanted: bool = False
    """Whether the receiver is to send its own."""
    speak_first: bool = False
    """Whether the receiver is to send challenges to these and to our announced address now."""
    filtering: Dependence | None = None
    """What the NAT of the sender lets in, if it knows."""

    def encode(self) -> bytes:
        """The CBOR of this message."""
        flags = _REPLY_WANTED * self.reply_wanted | _SPEAK_FIRST * self.speak_first
        return encode_cbor(
            [
                _CANDIDATES,
                self.punch_id,
                flags,
                [[int(c.kind), c.address.pack()] for c in self.candidates],
                _FILTERS.index(self.filtering),
            ]
        )


_FILTERS = (
    None,
    Dependence.ENDPOINT_INDEPENDENT,
    Dependence.ADDRESS_DEPENDENT,
    Dependence.ADDRESS_AND_PORT_DEPENDENT,
)

RendezvousMessage = PunchRequest | PunchIntroduce | PunchAck | PunchReject | Candidates


def decode_rendezvous_message_untrusted(data: bytes | bytearray | memoryview) -> RendezvousMessage:
    """Read any message of the rendezvous subprotocol; any bytes give a message or :class:`DecodeError`."""
    fields = expect_list(decode_cbor_untrusted(data, MAX_MESSAGE_SIZE), 3, 6)
    kind = expect_int(fields[0], _REQUEST, _CANDIDATES)
    try:
        return _READERS[kind](fields)
    except DecodeError:
        raise
    except ValueError as error:  # of the validators above
        raise DecodeError(str(error)) from error


def _punch_id(value: CborValue) -> bytes:
    return expect_bytes(value, PUNCH_ID_SIZE)


def _peer(value: CborValue) -> PeerId:
    return PeerId(expect_bytes(value, KEY_SIZE))


def _address(value: CborValue) -> Address:
    return Address.unpack(expect_bytes(value, PACKED_ADDRESS_SIZE))


def _bool(value: CborValue) -> bool:
    if not isinstance(value, bool):
        raise DecodeError("expected true or false")
    return value


def _read_request(fields: list[CborValue]) -> RendezvousMessage:
    expect_list(fields, 4)
    return PunchRequest(_punch_id(fields[1]), _peer(fields[2]), _address(fields[3]))


def _read_introduce(fields: list[CborValue]) -> RendezvousMessage:
    expect_list(fields, 6)
    return PunchIntroduce(
        _punch_id(fields[1]),
        _peer(fields[2]),
        _address(fields[3]),
        expect_int(fields[4], 0, MAX_DELAY_US),
        _bool(fields[5]),
    )


def _read_ack(fields: list[CborValue]) -> RendezvousMessage:
    expect_list(fields, 3)
    return PunchAck(_punch_id(fields[1]), None if fields[2] is None else _address(fields[2]))


def _read_reject(fields: list[CborValue]) -> RendezvousMessage:
    expect_list(fields, 3)
    return PunchReject(_punch_id(fields[1]), RejectReason(expect_str(fields[2], 1, 32)))


def _read_candidates(fields: list[CborValue]) -> RendezvousMessage:
    expect_list(fields, 5)
    flags = expect_int(fields[2], 0, _REPLY_WANTED | _SPEAK_FIRST)
    candidates = []
    for item in expect_list(fields[3], 0, MAX_CANDIDATES):
        pair = expect_list(item, 2)
        kind = CandidateKind(expect_int(pair[0], min(CandidateKind), max(CandidateKind)))
        candidates.append(Candidate(kind, _address(pair[1])))
    return Candidates(
        punch_id=None if fields[1] is None else _punch_id(fields[1]),
        candidates=tuple(candidates),
        reply_wanted=bool(flags & _REPLY_WANTED),
        speak_first=bool(flags & _SPEAK_FIRST),
        filtering=_FILTERS[expect_int(fields[4], 0, len(_FILTERS) - 1)],
    )


_READERS = {
    _REQUEST: _read_request,
    _INTRODUCE: _read_introduce,
    _ACK: _read_ack,
    _REJECT: _read_reject,
    _CANDIDATES: _read_candidates,
}
