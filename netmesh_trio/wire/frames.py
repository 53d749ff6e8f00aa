"""Frames: what the plaintext of a DATA packet consists of.  All integers are big-endian.

====  ==============  ==============================================================================================
type  frame           layout after the type byte
====  ==============  ==============================================================================================
0x00  PADDING         nothing; the rest of the packet is padding
0x01  PING            nothing
0x02  ACK             largest u64, delay in microseconds u32, first range u32, n u8, then n x (gap u32, range u32)
0x03  PATH_CHALLENGE  8 bytes
0x04  PATH_RESPONSE   8 bytes
0x05  RESET_STREAM    stream u32, code u32, final size u64
0x06  STOP_SENDING    stream u32, code u32
0x07  CLOSE           code u16, n u8, n bytes of UTF-8
0x08  STREAM          stream u32, offset u64, data to the end of the packet
0x09  STREAM fin      the same, and the data ends the stream
0x0A  STREAM len      stream u32, offset u64, n u16, n bytes
0x0B  STREAM len fin  the same, and the data ends the stream
0x0C  DATAGRAM        n u16, then n bytes: m u8, m bytes of service name, data
0x10  CONTROL         subprotocol u16, n u16, n bytes
====  ==============  ==============================================================================================

ACK ranges are RFC 9000's (section 19.3.1): ``first range`` packets before ``largest`` are acknowledged too; each
``gap`` is the number of missing packets less one, each ``range`` the number of packets after the first of its run.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from .errors import DecodeError

__all__ = [
    "ACK",
    "ACK_MAX_RANGES",
    "CLOSE",
    "CONTROL",
    "CONTROL_MAX_PAYLOAD",
    "DATAGRAM",
    "PADDING",
    "PATH_CHALLENGE",
    "PATH_RESPONSE",
    "PING",
    "RESET_STREAM",
    "STOP_SENDING",
    "STREAM",
    "STREAM_FIN",
    "STREAM_HEADER_SIZE",
    "STREAM_LEN",
    "STREAM_LEN_FIN",
    "SUBPROTOCOL_ANNOUNCEMENT",
    "SUBPROTOCOL_CHANNEL",
    "SUBPROTOCOL_CIRCUIT",
    "SUBPROTOCOL_PORT_MAPPING",
    "SUBPROTOCOL_REFLEX",
    "SUBPROTOCOL_REKEY",
    "SUBPROTOCOL_RENDEZVOUS",
    "SUBPROTOCOL_SERVICES",
    "SUBPROTOCOL_STREAM_WINDOW",
    "encode_ack",
    "encode_close",
    "encode_control",
    "encode_datagram",
    "encode_reset_stream",
    "encode_stop_sending",
    "pack_stream_header",
    "pack_stream_len_header",
    "read_ack",
    "read_close",
    "read_datagram",
    "unpack_control",
    "unpack_reset",
    "unpack_stop",
    "unpack_stream",
    "unpack_stream_len",
]

PADDING = 0x00
PING = 0x01
ACK = 0x02
PATH_CHALLENGE = 0x03
PATH_RESPONSE = 0x04
RESET_STREAM = 0x05
STOP_SENDING = 0x06
CLOSE = 0x07
STREAM = 0x08
STREAM_FIN = 0x09
STREAM_LEN = 0x0A
STREAM_LEN_FIN = 0x0B
DATAGRAM = 0x0C
CONTROL = 0x10

SUBPROTOCOL_CHANNEL = 0x0A00
SUBPROTOCOL_STREAM_WINDOW = 0x0B00
SUBPROTOCOL_ANNOUNCEMENT = 0x0C00
SUBPROTOCOL_REFLEX = 0x0D00
SUBPROTOCOL_RENDEZVOUS = 0x0D01
#: Reserved for metadata of port mappings.
SUBPROTOCOL_PORT_MAPPING = 0x0D02
SUBPROTOCOL_CIRCUIT = 0x0E00
SUBPROTOCOL_REKEY = 0x0E01
SUBPROTOCOL_SERVICES = 0x0E02

#: An ACK never lists more runs than this: 10 + 8 * 32 bytes.
ACK_MAX_RANGES = 32
#: What fits into one packet of the smallest path, behind a circuit header and beside an ACK of moderate size.
CONTROL_MAX_PAYLOAD = 1100

STREAM_HEADER_SIZE = 13
pack_stream_header: Callable[[int, int, int], bytes] = struct.Struct(">BIQ").pack
pack_stream_len_header: Callable[[int, int, int, int], bytes] = struct.Struct(">BIQH").pack
unpack_stream: Callable[[bytes, int], tuple[int, int]] = struct.Struct(">IQ").unpack_from
unpack_stream_len: Callable[[bytes, int], tuple[int, int, int]] = struct.Struct(">IQH").unpack_from
unpack_reset: Callable[[bytes, int], tuple[int, int, int]] = struct.Struct(">IIQ").unpack_from
unpack_stop: Callable[[bytes, int], tuple[int, int]] = struct.Struct(">II").unpack_from
unpack_control: Callable[[bytes, int], tuple[int, int]] = struct.Struct(">HH").unpack_from

_ACK = struct.Struct(">BQIIB")
_ACK_BODY = struct.Struct(">QIIB")
_RANGE = struct.Struct(">II")
_RESET = struct.Struct(">BIIQ")
_STOP = struct.Struct(">BII")
_CONTROL = struct.Struct(">BHH")
_DATAGRAM = struct.Struct(">BHB")
_U32 = 0xFFFF_FFFF


def encode_ack(runs: Sequence[tuple[int, int]], delay: float) -> bytes:
    """An ACK of ``runs``: ``(first, last)`` packet numbers, newest run first, disjoint and not touching.

    ``delay`` is how long ago the newest packet came in, in seconds.
    """
    first, largest = runs[0]
    microseconds = int(delay * 1e6)
    length = largest - first
    frame = _ACK.pack(ACK, largest, microseconds if microseconds < _U32 else _U32, length if length < _U32 else _U32, 0)
    if len(runs) == 1:
        return frame
    out = [frame]
    below = first
    for low, high in runs[1:ACK_MAX_RANGES]:
        gap = below - high - 2
        if gap > _U32 or high - low > _U32:
            break
        out.append(_RANGE.pack(gap, high - low))
        below = low
    if len(out) > 1:
        out[0] = out[0][:-1] + bytes((len(out) - 1,))
        return b"".join(out)
    return out[0]


def read_ack(data: bytes, at: int) -> tuple[list[tuple[int, int]], float, int]:
    """Read an ACK behind its type byte: ``(runs, delay in seconds, where it ends)``."""
    try:
        largest, delay, first, count = _ACK_BODY.unpack_from(data, at)
        at += 17
        low = largest - first
        runs = [(low, largest)]
        if not count and low >= 0:
            return runs, delay / 1e6, at
        for _ in range(count):
            gap, length = _RANGE.unpack_from(data, at)
            at += 8
            high = low - gap - 2
            low = high - length
            runs.append((low, high))
    except struct.error:
        raise DecodeError("ACK is cut short") from None
    if low < 0 or count >= ACK_MAX_RANGES:
        raise DecodeError("ACK of packets that cannot be")
    return runs, delay / 1e6, at


def encode_reset_stream(stream_id: int, code: int, final_size: int) -> bytes:
    """RESET_STREAM: we send no more on the stream, and the bytes so far need not arrive."""
    return _RESET.pack(RESET_STREAM, stream_id, code, final_size)


def encode_stop_sending(stream_id: int, code: int) -> bytes:
    """STOP_SENDING: we read no more of the stream."""
    return _STOP.pack(STOP_SENDING, stream_id, code)


def encode_close(code: int, reason: str) -> bytes:
    """CLOSE: the session is over.  The reason is cut to 200 bytes."""
    text = reason.encode()[:200].decode(errors="ignore").encode()
    return struct.pack(">BHB", CLOSE, code, len(text)) + text


def read_close(data: bytes, at: int) -> tuple[int, str]:
    """Read a CLOSE behind its type byte: ``(code, reason)``."""
    if len(data) < at + 3 or len(data) < at + 3 + data[at + 2]:
        raise DecodeError("CLOSE is cut short")
    code = data[at] << 8 | data[at + 1]
    return code, data[at + 3 : at + 3 + data[at + 2]].decode(errors="replace")


def encode_control(subprotocol: int, payload: bytes) -> bytes:
    """CONTROL: a message of a subprotocol, at most :data:`CONTROL_MAX_PAYLOAD` bytes."""
    if len(payload) > CONTROL_MAX_PAYLOAD:
        raise ValueError(f"a control message of {len(payload)} bytes; {CONTROL_MAX_PAYLOAD} fit")
    return _CONTROL.pack(CONTROL, subprotocol, len(payload)) + payload


def encode_datagram(service: bytes, payload: bytes) -> bytes:
    """DATAGRAM: ``payload`` for the service named ``service`` (1 to 64 bytes)."""
    return _DATAGRAM.pack(DATAGRAM, 1 + len(service) + len(payload), len(service)) + service + payload


def read_datagram(data: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Read a DATAGRAM behind its type byte: ``(service, payload, where it ends)``."""
    if len(data) < at + 3:
        raise DecodeError("DATAGRAM is cut short")
    start = at + 3
    end = at + 2 + (data[at] << 8 | data[at + 1])
    named = start + data[at + 2]
    if end > len(data) or named > end or named == start:
        raise DecodeError("DATAGRAM is cut short")
    return data[start:named], data[named:end], end
