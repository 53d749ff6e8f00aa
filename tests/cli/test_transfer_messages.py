"""The transfer's frames: exact bytes, round trips in any cut, and total on garbage."""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from netmesh_trio.cli.transfer import messages as m
from netmesh_trio.wire.errors import DecodeError

HASH = bytes(range(32))

MESSAGES: list[m.Message] = [
    m.Offer("root", True, 2, 5),
    m.Entries((m.Entry("root", is_dir=True), m.Entry("root/ü", 5, 123, True))),
    m.Offer("root", True, 2, 5, 2),
    m.Entries((m.Entry("root", is_dir=True, private=True), m.Entry("root/ü", 5, 123, True, private=True))),
    m.Have(((1, 5), (70000, 1 << 40))),
    m.HaveEnd(),
    m.Proof(((1, HASH),)),
    m.Start(((1, 0),)),
    m.StartEnd(),
    m.FileStart(1, 5),
    m.FileEnd(HASH),
    m.FileAbort("changed", "it did"),
    m.Verdict(1, "placed"),
    m.Verdict(2, "exists", "it is there"),
    m.Done(),
    m.Result(1, 2),
    m.Fail("disk-full", "no room"),
]


def decode(data: bytes) -> list[m.Message | memoryview]:
    decoder = m.Decoder()
    items = decoder.feed(data)
    assert decoder.idle
    return items


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (m.Offer("a", False, 1, 5), "01 00000007 8501616100 0105"),
        (m.Entries((m.Entry("a", 5, 0, True),)), "02 00000008 81856161 05000100"),
        (m.HaveEnd(), "04 00000001 80"),
        (m.FileStart(3, 256), "08 00000005 8203190100"),
        (m.FileEnd(HASH), "09 00000023 815820" + HASH.hex()),
        (m.Fail("x", "y"), "0e 00000005 8261786179"),
    ],
)
def test_bytes(message: m.Message, data: str) -> None:
    raw = bytes.fromhex(data)
    assert m.encode(message).hex() == raw.hex()
    assert decode(raw) == [message]


def test_data_header() -> None:
    assert m.data_header(1 << 20).hex() == "1000100000"


@pytest.mark.parametrize("message", MESSAGES)
def test_round_trip_and_every_cut(message: m.Message) -> None:
    data = m.encode(message)
    for cut in range(1, len(data)):
        decoder = m.Decoder()
        assert decoder.feed(data[:cut]) == []
        assert not decoder.idle
        assert decoder.feed(data[cut:]) == [message]
        assert decoder.idle


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.integers(1, 20))
def test_content_in_any_chunks(blocks: list[bytes], chunk: int) -> None:
    stream = b"".join(m.data_header(len(block)) + block for block in blocks) + m.encode(m.Done())
    decoder = m.Decoder()
    content, messages = b"", []
    for start in range(0, len(stream), chunk):
        for item in decoder.feed(stream[start : start + chunk]):
            if isinstance(item, memoryview):
                content += item
            else:
                messages.append(item)
    assert content == b"".join(blocks)
    assert messages == [m.Done()]
    assert decoder.idle


@given(st.binary(max_size=200))
def test_any_bytes_give_items_or_one_error(data: bytes) -> None:
    decoder = m.Decoder()
    with contextlib.suppress(DecodeError):
        decoder.feed(data)


@given(st.integers(0, 20), st.binary(max_size=100), st.sampled_from(MESSAGES), st.data())
def test_any_payload_gives_a_message_or_one_error(
    kind: int, payload: bytes, message: m.Message, data: st.DataObject
) -> None:
    damaged = bytearray(m.encode(message))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    for raw in (bytes([kind]) + len(payload).to_bytes(4, "big") + payload, bytes(damaged)):
        try:
            for item in m.Decoder().feed(raw):
                if not isinstance(item, memoryview):
                    # What was read strictly can be said again.
                    m.encode(item)
        except DecodeError:
            pass


@pytest.mark.parametrize(
    "data",
    [
        "10 00000000",  # no content in DATA
        "10 00100001",  # more than a chunk
        "04 00040001",  # a control frame over its limit
        "04 00000000",  # no CBOR
        "04 00000002 8080",  # two items
        "00 00000001 80",
        "0f 00000001 80",
        "04 00000002 8100",
        "01 00000006 8501616100 01",  # an array that is cut
        "01 00000007 8503616100010500",  # version 3... and a stray byte
        "01 00000007 85f561610001 05",  # true for the version 1
        "02 00000001 80",  # no entries
        "02 00000008 818561610000 04 00",  # a flag that nobody knows
        "08 00000003 820320",  # a negative offset
        "08 00000003 8203f5",  # a boolean
        "09 00000002 8140",  # an empty hash
        "03 00000003 818101",  # a pair of one
    ],
)
def test_malformed(data: str) -> None:
    with pytest.raises(DecodeError):
        m.Decoder().feed(bytes.fromhex(data))


def test_another_version_is_named() -> None:
    raw = bytearray(m.encode(m.Offer("a", False, 1, 5)))
    raw[6] = 3
    with pytest.raises(DecodeError, match="version 3"):
        m.Decoder().feed(raw)


@pytest.mark.parametrize("path", ["a", "a/b", "ü/…", ".hidden", "a\\b", "...", "a b", "x" * 255])
def test_paths(path: str) -> None:
    assert m.check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\0b", "x" * 256]
    + ["a/" * 64 + "a", "\ud800", None, b"a", 1],
)
def test_paths_that_are_refused(path: object) -> None:
    with pytest.raises(DecodeError):
        m.check_path(path)


@given(st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), max_size=60)))
def test_manifests_of_any_names_fit_their_frames(names: list[str]) -> None:
    entries = [m.Entry(f"r/{i}/{name}x", 1) for i, name in enumerate(names)]
    got: list[m.Entry] = []
    for batch in m.entry_batches(entries):
        for item in decode(m.encode(batch)):
            assert isinstance(item, m.Entries)
            got += item.entries
    assert got == entries


def test_the_longest_manifest_fits_its_frames() -> None:
    name = "/".join(["\U0001f600" * 63] * 16)[:1000]
    entries = [m.Entry(f"{name}/{i}", (1 << 62) - i, (1 << 62) - i, True) for i in range(2000)]
    batches = list(m.entry_batches(entries))
    assert all(len(m.encode(batch)) <= m.MAX_CONTROL + 5 for batch in batches)
    assert sum(len(batch.entries) for batch in batches) == 2000


def test_the_longest_lists_fit_their_frames() -> None:
    pairs = tuple((i + (1 << 61), HASH) for i in range(m.PAIRS))
    assert len(m.encode(m.Proof(pairs))) <= m.MAX_CONTROL + 5
    long = m.Verdict(1, "x" * 5000, "y" * 5000)
    (item,) = decode(m.encode(long))
    assert isinstance(item, m.Verdict)
    assert len(item.message) == m.MAX_TEXT


def test_file_ids_tell_states_apart() -> None:
    entry = m.Entry("a/b", 5, 7)
    others = [m.Entry("a/c", 5, 7), m.Entry("a/b", 6, 7), m.Entry("a/b", 5, 8)]
    others.append(m.Entry("a/b", 5, 7, executable=True))
    assert len({entry.file_id, *(other.file_id for other in others)}) == 5
