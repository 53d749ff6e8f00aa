from __future__ import annotations

import array
from typing import Any, cast

import pytest

from netmesh_trio.octets import octets

WIDE = memoryview(array.array("i", range(6)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"abc", b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc"), b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"abc").cast("c"), b"abc"),
        (WIDE, WIDE.tobytes()),
        (WIDE[::2], WIDE.tobytes()[:4] + WIDE.tobytes()[8:12] + WIDE.tobytes()[16:20]),
        (WIDE.cast("B").cast("H", (2, 6)), WIDE.tobytes()),
        (WIDE[:0], b""),
        (array.array("d", [1.5, 2.5]), array.array("d", [1.5, 2.5]).tobytes()),
    ],
)
def test_length_and_slices_are_of_bytes(data: Any, expected: bytes) -> None:
    found = octets(data)
    assert len(found) == len(expected)
    assert bytes(found) == expected
    assert [bytes(found[i : i + 1]) for i in range(len(expected))] == [
        expected[i : i + 1] for i in range(len(expected))
    ]


def test_only_what_is_not_contiguous_is_copied() -> None:
    assert memoryview(octets(WIDE)).obj is WIDE.obj
    assert memoryview(octets(WIDE[::2])).obj is not WIDE.obj
    data = bytes(100_000)
    assert octets(data) is data
    view = octets(memoryview(data))
    assert type(view) is memoryview
    assert view.obj is data


@pytest.mark.parametrize("data", ["text", None, 5, [1, 2], object()])
def test_what_has_no_bytes_is_refused_with_what_to_do(data: Any) -> None:
    with pytest.raises(TypeError, match=r"encode it|bytearray or a memoryview, not"):
        octets(data)


def test_text_is_to_be_encoded() -> None:
    with pytest.raises(TypeError, match=r"not str: encode it, as in text\.encode\(\)"):
        octets(cast(Any, "text"))
