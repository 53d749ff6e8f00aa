"""NAT-PMP (RFC 6886), bytes to values and back.  Numbers are big-endian.

::

    address request    version 0, opcode 0                                                            2 bytes
    address answer     version 0, opcode 128, result (2), epoch (4), address (4)                     12 bytes
    map request        version 0, opcode 1 (UDP), zero (2), inside port (2), outside port (2),
                       lifetime (4)                                                                  12 bytes
    map answer         version 0, opcode 129, result (2), epoch (4), inside port (2), outside port (2),
                       lifetime (4)                                                                  16 bytes

An answer that refuses may end after the epoch.  Lifetime 0 removes; the outside port is 0 then.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final

import attrs

from ...wire.errors import DecodeError
from .mapping import PortMapCause, PortMapError

__all__ = [
    "ADDRESS_REQUEST",
    "PORT",
    "AddressAnswer",
    "MapAnswer",
    "encode_map_request",
    "read_address_answer_untrusted",
    "read_map_answer_untrusted",
]

PORT: Final = 5351
"""Where routers listen, for PCP as well."""
ADDRESS_REQUEST: Final = bytes(2)

_MAX_ANSWER = 1100  # of PCP; a NAT-PMP answer with more than it needs is read as far as it is one
_HEADER = struct.Struct(">BBHI")
_MAP = struct.Struct(">BBHHHI")
_MAPPED = struct.Struct(">HHI")

_RESULTS = {
    1: (PortMapCause.UNSUPPORTED, "another version"),
    2: (PortMapCause.REFUSED, "not allowed on this router"),
    3: (PortMapCause.NETWORK_FAILURE, "the router has no outside address now"),
    4: (PortMapCause.OUT_OF_RESOURCES, "the router has no mapping left"),
    5: (PortMapCause.UNSUPPORTED, "unknown request"),
}


@attrs.frozen
class AddressAnswer:
    """The router's outside address."""

    epoch: int
    """Seconds since the router lost its mappings last."""
    external: str


@attrs.frozen
class MapAnswer:
    """A mapping, or with lifetime 0 its end."""

    epoch: int
    internal_port: int
    external_port: int
    lifetime: int


def encode_map_request(internal_port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for a mapping of a UDP port, or with lifetime 0 for its end."""
    return _MAP.pack(0, 1, 0, internal_port, external_port, lifetime)


def _check(data: bytes, opcode: int, size: int) -> int:
    """The epoch of an answer to ``opcode`` that says yes.

    Raises PortMapError for one that says no, DecodeError for what is no answer to it.
    """
    if not _HEADER.size <= len(data) <= _MAX_ANSWER:
        raise DecodeError(f"a NAT-PMP answer of {len(data)} bytes")
    version, kind, result, epoch = _HEADER.unpack_from(data)
    if version != 0 or kind != 128 + opcode:
        raise DecodeError("no answer to this request")
    if result:
        cause, meaning = _RESULTS.get(result, (PortMapCause.REFUSED, "unknown reason"))
        raise PortMapError(cause, "nat-pmp", f"{meaning} (result {result})")
    if len(data) < size:
        raise DecodeError("a NAT-PMP answer that ends too early")
    return int(epoch)


def read_address_answer_untrusted(data: bytes) -> AddressAnswer:
    """The answer to an address request.  Raises PortMapError if it is a refusal, DecodeError if it is none."""
    epoch = _check(data, 0, 12)
    return AddressAnswer(epoch, str(ipaddress.IPv4Address(data[8:12])))


def read_map_answer_untrusted(data: bytes) -> MapAnswer:
    """The answer to a map request.  Raises PortMapError if it is a refusal, DecodeError if it is none."""
    epoch = _check(data, 1, 16)
    return MapAnswer(epoch, *_MAPPED.unpack_from(data, 8))
