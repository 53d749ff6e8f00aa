from __future__ import annotations

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.wire.control import (
    MAX_CONTROL_SIZE,
    MAX_DEPTH,
    decode_cbor_untrusted,
    encode_cbor,
    expect_bytes,
    expect_int,
    expect_list,
    expect_str,
)
from netmesh_trio.wire.errors import DecodeError

KEYS = st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=8) | st.text(max_size=8)
VALUES = st.recursive(
    KEYS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


def depth(value: object) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


@given(VALUES)
def test_round_trip(value: object) -> None:
    if depth(value) > MAX_DEPTH:
        with pytest.raises(DecodeError):
            decode_cbor_untrusted(encode_cbor(value))
    else:
        assert decode_cbor_untrusted(encode_cbor(value)) == value


def plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(type(key) in (int, str, bytes) for key in value) and all(map(plain, value.values()))
    return value is None or type(value) in (int, str, bytes, bool)


@given(st.binary(max_size=64))
def test_any_bytes_give_a_plain_value_or_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        value = decode_cbor_untrusted(data)
        assert plain(value)
        # One value, one spelling: all but the order of the keys in a map is fixed.
        assert len(encode_cbor(value)) == len(data)


@given(VALUES, st.integers(0, 200), st.integers(0, 255))
def test_one_wrong_byte_gives_a_plain_value_or_a_decode_error(value: object, index: int, byte: int) -> None:
    data = bytearray(encode_cbor(value))
    data[index % len(data)] = byte
    with contextlib.suppress(DecodeError):
        assert plain(decode_cbor_untrusted(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "cut short"),
        ("19ff", "cut short"),
        ("8101 00", "bytes after"),
        ("82 01", "cut short"),
        ("43 0102", "cut short"),
        ("9bffffffffffffffff", "cut short"),
        ("bbffffffffffffffff", "cut short"),
        ("5bffffffffffffffff00", "cut short"),
        ("1c", "reserved"),
        ("9f01ff", "indefinite"),
        ("bf0102ff", "indefinite"),
        ("5f4101ff", "indefinite"),
        ("7f6161ff", "indefinite"),
        ("ff", "simple"),
        ("1817", "shortest"),
        ("1900ff", "shortest"),
        ("1a0000ffff", "shortest"),
        ("1b00000000ffffffff", "shortest"),
        ("580141", "shortest"),
        ("c24101", "tags"),  # a big integer
        ("c11a514b67b0", "tags"),  # a date
        ("d8236161", "tags"),  # a regular expression
        ("d81c81d81d00", "tags"),  # a list that holds itself
        ("f7", "simple"),  # undefined
        ("e0", "simple"),
        ("f820", "simple"),
        ("f93c00", "floats"),
        ("fb3ff199999999999a", "floats"),
        ("a201020103", "twice"),
        ("a2616102616103", "twice"),
        ("a1810102", "map key"),
        ("a1f500", "map key"),
        ("62c328", "not CBOR"),  # not UTF-8
        ("81" * (MAX_DEPTH + 1) + "00", "nested"),
        ("a100" * (MAX_DEPTH + 1) + "00", "nested"),
        ("81" * 2000 + "00", "nested"),
    ],
)
def test_refused(data: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_cbor_untrusted(bytes.fromhex(data))


def test_limits() -> None:
    assert decode_cbor_untrusted(cbor2.dumps(bytes(MAX_CONTROL_SIZE - 3))) is not None
    with pytest.raises(DecodeError, match="2049 bytes"):
        decode_cbor_untrusted(cbor2.dumps(bytes(MAX_CONTROL_SIZE - 2)))
    with pytest.raises(ValueError, match="at most 2048"):
        encode_cbor(bytes(MAX_CONTROL_SIZE))
    with pytest.raises(DecodeError):
        decode_cbor_untrusted(cbor2.dumps(bytes(20)), max_size=20)
    assert decode_cbor_untrusted(memoryview(b"\x81\x05")) == [5]


def test_expect() -> None:
    assert expect_int(5, 0, 5) == 5
    assert expect_bytes(b"ab", 2) == b"ab"
    assert expect_str("ab", 0, 2) == "ab"
    assert expect_list([1], 0, 1) == [1]
    with pytest.raises(DecodeError):
        expect_int(True, 0, 5)
    with pytest.raises(DecodeError):
        expect_int(6, 0, 5)
    with pytest.raises(DecodeError):
        expect_bytes("ab", 2)
    with pytest.raises(DecodeError):
        expect_bytes(b"ab", 3)
    with pytest.raises(DecodeError):
        expect_str(b"ab", 2)
    with pytest.raises(DecodeError):
        expect_str("abc", 1, 2)
    with pytest.raises(DecodeError):
        expect_list({}, 0)
    with pytest.raises(DecodeError):
        expect_list([1], 2)
