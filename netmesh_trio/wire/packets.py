"""Outer packets: what a UDP datagram of ours looks like from outside.

The first byte is the type.

====  ========  =====================================================================================
type  name      layout
====  ========  =====================================================================================
0x01  INIT      handshake message 1, see :mod:`netmesh_trio.session.handshake`
0x02  RESPONSE  handshake message 2, likewise
0x03  COOKIE    stateless address proof under load, likewise
0x04  DATA      type u8, epoch u8, zero u16, receiver index u32, counter u64 (little-endian), ciphertext
0x05  CIRCUIT   type u8, zero u24, circuit id 8 bytes, then a whole packet of another type
0x06  STRANGER  type u8, zero u24, receiver index u32, counter u64: of a DATA packet for no session
0x07  CANARY    type u8, zero u24, token 8 bytes: sent to see whether it gets in, never answered
====  ========  =====================================================================================

DATA's AEAD is ChaCha20-Poly1305 with the nonce of the Noise transport (four zero bytes, then the counter) and no
associated data: the index selects the session, the epoch the key, the counter is the nonce, and the two remaining
bytes must be zero, so nothing in the header can be changed unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = [
    "BASE_DATAGRAM_SIZE",
    "CANARY",
    "CANARY_SIZE",
    "CIRCUIT",
    "CIRCUIT_HEADER_SIZE",
    "COOKIE",
    "DATA",
    "DATA_HEADER_SIZE",
    "DATA_OVERHEAD",
    "INIT",
    "RESPONSE",
    "STRANGER",
    "STRANGER_SIZE",
    "TAG_SIZE",
    "canary",
    "circuit_header",
    "data_prefix",
    "stranger",
    "unpack_data_header",
]

INIT = 0x01
RESPONSE = 0x02
COOKIE = 0x03
DATA = 0x04
CIRCUIT = 0x05
STRANGER = 0x06
CANARY = 0x07

DATA_HEADER_SIZE = 16
CIRCUIT_HEADER_SIZE = 12
TAG_SIZE = 16
STRANGER_SIZE = 16
CANARY_SIZE = 12
DATA_OVERHEAD = DATA_HEADER_SIZE + TAG_SIZE
#: Every path must carry UDP payloads of this many bytes (RFC 9000, section 14).
BASE_DATAGRAM_SIZE = 1200

_PREFIX = struct.Struct("<BBHI")
#: ``(first eight bytes as an integer, counter)`` of a DATA packet, in one call.
unpack_data_header: Callable[..., tuple[int, int]] = struct.Struct("<QQ").unpack_from


def data_prefix(epoch: int, index: int) -> bytes:
    """The eight bytes before the counter: type, epoch (mod 256), zero, receiver index."""
    return _PREFIX.pack(DATA, epoch & 0xFF, 0, index)


def circuit_header(circuit_id: bytes) -> bytes:
    """The twelve bytes in front of a packet that travels on the circuit leg ``circuit_id`` (8 bytes)."""
    return b"\x05\x00\x00\x00" + circuit_id


def stranger(index: int, counter: int) -> bytes:
    """The answer to a DATA packet whose index nobody knows here.  It proves nothing: it asks for a handshake."""
    return struct.pack("<B3xIQ", STRANGER, index, counter)


def canary(token: bytes) -> bytes:
    """A packet whose arrival tells its receiver that its NAT lets this source in; ``token`` (8 bytes) is the
    receiver's own."""
    return b"\x07\x00\x00\x00" + token
