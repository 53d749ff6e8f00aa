"""PCP (RFC 6887), bytes to values and back.  Numbers are big-endian, IPv4 addresses are IPv4-mapped IPv6 ones.

::

    request     version 2, opcode, zero (2), lifetime (4), the client's address (16)                        24 bytes
    answer      version 2, opcode + 128, zero (1), result (1), lifetime (4), epoch (4), zero (12)           24 bytes
    MAP         nonce (12), protocol (1), zero (3), inside port (2), outside port (2), outside address (16) 36 bytes
    option      code (1), zero (1), length (2), data, padded to a multiple of 4

ANNOUNCE (opcode 0) has a header only; MAP is opcode 1.  A packet has at most 1100 bytes, a multiple of 4.  THIRD_PARTY
is never sent: we ask for ourselves.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

import attrs

from ...addresses import Address
from ...wire.errors import DecodeError
from .mapping import PortMapCause, PortMapError

__all__ = [
    "CANNOT_PROVIDE_EXTERNAL",
    "NONCE_SIZE",
    "OPTION_RESULTS",
    "MapAnswer",
    "PcpRefusal",
    "encode_announce_request",
    "encode_map_request",
    "read_announce_answer_untrusted",
    "read_map_answer_untrusted",
]

NONCE_SIZE: Final = 12
MAX_PACKET: Final = 1100
CANNOT_PROVIDE_EXTERNAL: Final = 11
OPTION_RESULTS: Final = frozenset((5, 6))
"""The router does not take the option."""

_ANNOUNCE, _MAP = 0, 1
_UNKNOWN_OPCODE = 4
_UDP = 17
_PREFER_FAILURE = bytes((2, 0, 0, 0))
_REQUEST = struct.Struct(">BBxxI16s")
_ANSWER = struct.Struct(">BBxBII12x")
_MAP_DATA = struct.Struct(">12sBxxxHH16s")

_RESULTS = {
    1: (PortMapCause.UNSUPPORTED, "another version"),
    2: (PortMapCause.REFUSED, "not allowed on this router"),
    3: (PortMapCause.MALFORMED, "the router cannot read the request"),
    4: (PortMapCause.UNSUPPORTED, "unknown request"),
    5: (PortMapCause.UNSUPPORTED, "unknown option"),
    6: (PortMapCause.MALFORMED, "the router cannot read the option"),
    7: (PortMapCause.NETWORK_FAILURE, "the router has no outside address now"),
    8: (PortMapCause.OUT_OF_RESOURCES, "the router has no mapping left"),
    9: (PortMapCause.UNSUPPORTED, "not for UDP"),
    10: (PortMapCause.OUT_OF_RESOURCES, "this host has had its share"),
    CANNOT_PROVIDE_EXTERNAL: (PortMapCause.CONFLICT, "another has the outside port"),
    12: (PortMapCause.REFUSED, "a NAT stands between this host and the router"),
    13: (PortMapCause.OUT_OF_RESOURCES, "too many peers"),
}
# RFC 6887, 7.4: an error counts for the time that the answer names; longer than this nobody need believe it.
_MAX_RETRY = 1800


class PcpRefusal(PortMapError):
    """The router says no; ``result`` is its code."""

    def __init__(self, result: int, lifetime: int) -> None:
        cause, meaning = _RESULTS.get(result, (PortMapCause.REFUSED, "unknown reason"))
        super().__init__(cause, "pcp", f"{meaning} (result {result})", float(min(lifetime, _MAX_RETRY)))
        self.args: tuple[object, ...] = (result, lifetime)
        self.result = result


@attrs.frozen
class MapAnswer:
    """A mapping, or with lifetime 0 its end."""

    epoch: int
    """Seconds since the router lost its mappings last."""
    lifetime: int
    internal_port: int
    external: Address


def _pack(host: str) -> bytes:
    ip = ipaddress.ip_address(host.partition("%")[0])
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


def _unpack(data: bytes) -> str:
    ip = ipaddress.IPv6Address(data)
    return str(ip.ipv4_mapped or ip)


def encode_announce_request(client: str) -> bytes:
    """Ask for nothing but the epoch."""
    return _REQUEST.pack(2, _ANNOUNCE, 0, _pack(client))


def encode_map_request(
    client: str,
    nonce: bytes,
    internal_port: int,
    lifetime: int,
    suggested: Address | None = None,
    *,
    prefer_failure: bool = False,
) -> bytes:
    """Ask for a mapping of a UDP port, or with lifetime 0 for its end.

    With ``prefer_failure`` the router is to say no rather than give another outside address than ``suggested``.
    """
    if suggested is None:  # "any", in the family of the client
        suggested = Address("::" if ":" in client else "0.0.0.0", 0)
    data = _MAP_DATA.pack(nonce, _UDP, internal_port, suggested.port, _pack(suggested.host))
    options = _PREFER_FAILURE if prefer_failure else b""
    return _REQUEST.pack(2, _MAP, lifetime, _pack(client)) + data + options


def _check(data: bytes, opcode: int) -> tuple[int, int, int]:
    """Result, lifetime and epoch.  Raises DecodeError for what is no answer to ``opcode``."""
    if len(data) >= 4 and data[0] == 0 and data[1] >= 128:
        # RFC 6887, 9: a router that speaks NAT-PMP only answers in its own version that it knows no other
        raise PcpRefusal(1, _MAX_RETRY)
    if not _ANSWER.size <= len(data) <= MAX_PACKET or len(data) % 4:
        raise DecodeError(f"a PCP answer of {len(data)} bytes")
    version, kind, result, lifetime, epoch = _ANSWER.unpack_from(data)
    if kind != 128 + opcode:
        raise DecodeError("no answer to this request")
    if version != 2 and result != 1:
        raise DecodeError(f"PCP version {version}")
    return result, lifetime, epoch


def read_announce_answer_untrusted(data: bytes) -> int:
    """The epoch in the answer to an ANNOUNCE.  Raises PcpRefusal if it is a refusal, DecodeError if it is none.

    A router that does not know ANNOUNCE speaks PCP all the same, and tells its epoch.
    """
    result, lifetime, epoch = _check(data, _ANNOUNCE)
    if result and result != _UNKNOWN_OPCODE:
        raise PcpRefusal(result, lifetime)
    return epoch


def read_map_answer_untrusted(data: bytes, nonce: bytes, internal_port: int) -> MapAnswer:
    """The answer to the MAP with this nonce.  Raises PcpRefusal if it is a refusal, DecodeError if it is none."""
    result, lifetime, epoch = _check(data, _MAP)
    if result == 1:  # may end after the header
        raise PcpRefusal(result, lifetime)
    if len(data) < _ANSWER.size + _MAP_DATA.size:
        raise DecodeError("a PCP answer that ends too early")
    its_nonce, protocol, port, external_port, external = _MAP_DATA.unpack_from(data, _ANSWER.size)
    if (its_nonce, protocol, port) != (nonce, _UDP, internal_port):
        raise DecodeError("a PCP answer to another request")
    if result:
        raise PcpRefusal(result, lifetime)
    return MapAnswer(epoch, lifetime, port, Address(_unpack(external), external_port))
