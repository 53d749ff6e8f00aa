"""What is inside control frames: the one CBOR reader and writer that all subprotocols share.

A control frame holds one CBOR item (RFC 8949), inside an authenticated session.
Authenticated is not trusted: a peer may send anything.  So only a small subset is read: integers of
64 bits, byte and text strings, true, false, null, arrays and maps, all of definite length and in
their shortest form, no more than :data:`MAX_CONTROL_SIZE` bytes and :data:`MAX_DEPTH` levels.
Tags, floats, big integers and repeated keys are refused by a scan of our own before cbor2 sees a
byte: cbor2 runs a decoder for every tag it knows (regular expressions and MIME messages among
them), and what it checks differs between its releases.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import cbor2

from netmesh_trio.wire.errors import DecodeError

__all__ = [
    "MAX_CONTROL_SIZE",
    "MAX_DEPTH",
    "CborValue",
    "decode_cbor_untrusted",
    "encode_cbor",
    "expect_bytes",
    "expect_int",
    "expect_list",
    "expect_str",
]

MAX_CONTROL_SIZE = 2048
"""Most bytes of CBOR in one control frame."""

MAX_DEPTH = 6
"""Most arrays and maps inside one another."""

CborValue: TypeAlias = "int | bytes | str | bool | list[CborValue] | dict[int | bytes | str, CborValue] | None"
"""What :func:`decode_cbor_untrusted` returns: plain values only."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE_TRUE_NULL = (20, 21, 22)


def encode_cbor(value: object) -> bytes:
    """Write *value* in the form that :func:`decode_cbor_untrusted` reads.

    Raises :class:`ValueError` if the result is longer than :data:`MAX_CONTROL_SIZE` bytes.
    """
    data = cbor2.dumps(value, canonical=True)
    if len(data) > MAX_CONTROL_SIZE:
        raise ValueError(f"control message of {len(data)} bytes; at most {MAX_CONTROL_SIZE} fit")
    return data


def decode_cbor_untrusted(data: bytes | bytearray | memoryview, max_size: int = MAX_CONTROL_SIZE) -> CborValue:
    """Read one CBOR item that fills *data* exactly.

    Raises :class:`DecodeError`, and nothing else, for whatever is not in the subset that the module
    names.
    """
    if len(data) > max_size:
        raise DecodeError(f"control message of {len(data)} bytes; at most {max_size} are read")
    plain = bytes(data)
    _scan_untrusted(plain)
    try:
        return cast("CborValue", cbor2.loads(plain))
    except (cbor2.CBORError, ValueError) as error:  # after the scan: text that is not UTF-8
        raise DecodeError(f"not CBOR: {error}") from error


def _scan_untrusted(data: bytes) -> None:
    """Walk over the heads of all items, without recursion, and refuse what is outside the
    subset."""
    end = len(data)
    position = 0
    left = [1]  # for each open container, the items still to come; keys and values count singly
    seen_keys: list[set[bytes] | None] = [None]  # ... and the keys so far, if it is a map
    while True:
        while left[-1] == 0:
            left.pop()
            seen_keys.pop()
            if not left:
                if position != end:
                    raise DecodeError("bytes after the end of the CBOR item")
                return
        keys = seen_keys[-1]
        is_key = keys is not None and left[-1] % 2 == 0
        left[-1] -= 1
        if position >= end:
            raise DecodeError("CBOR item cut short")
        start = position
        major, info = data[position] >> 5, data[position] & 31
        position += 1
        if major == _TAG:
            raise DecodeError("CBOR tags are not allowed")
        if is_key and major > _TEXT:
            raise DecodeError("a CBOR map key is neither a number nor a string")
        if major == _SIMPLE:
            if info not in _FALSE_TRUE_NULL:
                raise DecodeError("CBOR floats and simple values are not allowed")
            continue
        argument = info
        if info >= 24:
            if info > 27:
                raise DecodeError("CBOR of indefinite length or with a reserved head")
            width = 1 << (info - 24)
            if position + width > end:
                raise DecodeError("CBOR item cut short")
            argument = int.from_bytes(data[position : position + width], "big")
            position += width
            if argument < 24 or (width > 1 and argument >> (width * 4) == 0):
                raise DecodeError("CBOR number not in its shortest form")
        if major in (_BYTES, _TEXT):
            if argument > end - position:
                raise DecodeError("CBOR item cut short")
            position += argument
        elif major in (_ARRAY, _MAP):
            if argument > end - position:
                raise DecodeError("CBOR item cut short")
            if len(left) > MAX_DEPTH:
                raise DecodeError(f"CBOR nested more than {MAX_DEPTH} deep")
            left.append(argument if major == _ARRAY else 2 * argument)
            seen_keys.append(None if major == _ARRAY else set())
        if is_key and keys is not None:
            # Shortest forms only, so equal keys are equal bytes.
            key = data[start:position]
            if key in keys:
                raise DecodeError("a CBOR map has a key twice")
            keys.add(key)


def expect_list(value: CborValue, low: int, high: int | None = None) -> list[CborValue]:
    """Return *value* if it is an array of *low* (to *high*) items, else raise
    :class:`DecodeError`."""
    if not isinstance(value, list) or not low <= len(value) <= (low if high is None else high):
        raise DecodeError(f"expected an array of {_span(low, high)} items")
    return value


def expect_int(value: CborValue, low: int, high: int) -> int:
    """Return *value* if it is an integer from *low* to *high*, else raise :class:`DecodeError`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise DecodeError(f"expected an integer from {low} to {high}")
    return value


def expect_bytes(value: CborValue, low: int, high: int | None = None) -> bytes:
    """Return *value* if it is a byte string of *low* (to *high*) bytes, else raise
    :class:`DecodeError`."""
    if not isinstance(value, bytes) or not low <= len(value) <= (low if high is None else high):
        raise DecodeError(f"expected a string of {_span(low, high)} bytes")
    return value


def expect_str(value: CborValue, low: int, high: int | None = None) -> str:
    """Return *value* if it is a text of *low* (to *high*) characters, else raise
    :class:`DecodeError`."""
    if not isinstance(value, str) or not low <= len(value) <= (low if high is None else high):
        raise DecodeError(f"expected a text of {_span(low, high)} characters")
    return value


def _span(low: int, high: int | None) -> str:
    return str(low) if high is None else f"{low} to {high}"
