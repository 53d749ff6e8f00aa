"""The messages of a file transfer, as bytes and as values.  No I/O.

A transfer is one stream, and every message on it is a frame::

    type     1 byte
    length   4 bytes, big-endian
    payload  `length` bytes: for DATA up to 1 MiB of a file's content, for all else CBOR of up to
    256 KiB

The conversation, S for the sender and R for the receiver::

    S  OFFER, ENTRIES...           what there is: names, sizes, times
    R  VERDICT..., HAVE..., HAVE_END   files refused or already there; bytes it holds of others
    S  PROOF...                    BLAKE2b of that many first bytes of each file in HAVE, in order
    R  VERDICT..., START..., START_END    where to start in each file of HAVE that is still wanted
    S  FILE, DATA..., FILE_END     for each wanted file; FILE_ABORT in place of FILE_END if it
    cannot go on R  VERDICT                     for each file, as soon as it is in place
    S  DONE
    R  RESULT

FAIL from either side ends it at any time.  The receiver never sends a hash of what it holds: the
sender has to show that it knows the bytes, so nobody can ask a receiver what is in its files.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import cbor2

from netmesh_trio.wire.control import decode_cbor_untrusted
from netmesh_trio.wire.errors import DecodeError

__all__ = [
    "CHUNK",
    "DIGEST_SIZE",
    "MAX_CONTROL",
    "PAIRS",
    "Decoder",
    "Done",
    "Entries",
    "Entry",
    "Fail",
    "FileAbort",
    "FileEnd",
    "FileStart",
    "Have",
    "HaveEnd",
    "Message",
    "Offer",
    "Proof",
    "Result",
    "Start",
    "StartEnd",
    "Verdict",
    "check_manifest",
    "check_path",
    "data_header",
    "encode",
    "entry_batches",
    "hashing_batches",
    "new_hash",
    "tree_digest",
]

VERSIONS = (1, 2)
CHUNK = 1 << 20
"""Largest DATA payload, in bytes."""
MAX_CONTROL = 256 * 1024
"""Largest payload of any other frame, in bytes."""
DIGEST_SIZE = 32
"""Bytes of every hash: BLAKE2b-256, what ``b2sum -l 256`` prints."""
MAX_PATH = 4096
MAX_NAME = 255
MAX_DEPTH = 64
MAX_TEXT = 1000
PAIRS = 4000
"""Pairs that go into one HAVE, PROOF or START: at most 46 bytes each."""
_MAX_SIZE = 1 << 62
_HEADER = struct.Struct("!BI")

DATA = 0x10


def new_hash() -> hashlib.blake2b:
    """A fresh BLAKE2b-256."""
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


@attrs.frozen
class Entry:
    """One file or directory of a manifest."""

    path: str
    """Relative, with ``/``; begins with the offer's root name."""
    size: int = 0
    """Bytes; 0 for a directory."""
    mtime_ns: int = 0
    """Time of last change, nanoseconds since 1970."""
    executable: bool = False
    is_dir: bool = False
    private: bool = False
    """The sender's copy gives nothing to its group and to others, nor shall the receiver's."""

    @property
    def file_id(self) -> str:
        """16 hex digits that name this state of this file: what a partial copy of it is filed
        under.
        """
        text = f"{self.size}:{self.mtime_ns}:{int(self.executable)}:{self.path}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@attrs.frozen
class Offer:
    """S: what follows is ``count`` entries under ``root``, together ``total`` bytes."""

    root: str
    is_dir: bool
    count: int
    total: int
    version: int = 1
    """Of the protocol: 2 if an entry is private, which version 1 knows nothing of."""


@attrs.frozen
class Entries:
    """S: the next entries of the manifest."""

    entries: tuple[Entry, ...]


@attrs.frozen
class Have:
    """R: pairs (index of the entry, first bytes held already)."""

    items: tuple[tuple[int, int], ...]


@attrs.frozen
class HaveEnd:
    """R: no more HAVE."""


@attrs.frozen
class Proof:
    """S: pairs (index, hash of the first bytes that HAVE named)."""

    items: tuple[tuple[int, bytes], ...]


@attrs.frozen
class Start:
    """R: pairs (index, offset to start at)."""

    items: tuple[tuple[int, int], ...]


@attrs.frozen
class StartEnd:
    """R: all is said, send."""


@attrs.frozen
class FileStart:
    """S: DATA that follows is of this file, from this offset."""

    index: int
    offset: int


@attrs.frozen
class FileEnd:
    """S: the file is complete, and this is its hash from the first byte."""

    digest: bytes


@attrs.frozen
class FileAbort:
    """S: the file cannot be completed, and this is why."""

    kind: str
    message: str


@attrs.frozen
class Verdict:
    """R: what became of a file: ``status`` is ``placed``, ``identical`` (was there already), or
    the kind of trouble.
    """

    index: int
    status: str
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the file is there now, whole and verified."""
        return self.status in ("placed", "identical")


@attrs.frozen
class Done:
    """S: every wanted file was sent."""


@attrs.frozen
class Result:
    """R: so many files are in place, so many are not.  The last word."""

    good: int
    bad: int


@attrs.frozen
class Fail:
    """Either: the transfer is over, and this is why."""

    kind: str
    message: str


Message: TypeAlias = (
    Offer
    | Entries
    | Have
    | HaveEnd
    | Proof
    | Start
    | StartEnd
    | FileStart
    | FileEnd
    | FileAbort
    | Verdict
    | Done
    | Result
    | Fail
)


def data_header(length: int) -> bytes:
    """The five bytes in front of ``length`` bytes of content."""
    return _HEADER.pack(DATA, length)


def entry_batches(entries: Sequence[Entry]) -> Iterator[Entries]:
    """A manifest as messages that each fit a frame."""
    batch: list[Entry] = []
    room = MAX_CONTROL - 64
    for entry in entries:
        cost = 4 * len(entry.path) + 40  # a character is at most 4 bytes of UTF-8
        if batch and (cost > room or len(batch) >= 1000):
            yield Entries(tuple(batch))
            batch, room = [], MAX_CONTROL - 64
        batch.append(entry)
        room -= cost
    if batch:
        yield Entries(tuple(batch))


def hashing_batches(have: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cut pairs (index, bytes) into what one thread should hash in one go: some 32 MiB."""
    batch: list[tuple[int, int]] = []
    size = 0
    for pair in have:
        batch.append(pair)
        size += pair[1] + 64 * 1024
        if size >= 32 * CHUNK or len(batch) == PAIRS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def encode(message: Message) -> bytes:
    """A message as one frame, header included.

    ValueError when it would not fit a frame; lists are to be cut by the caller
    (:func:`entry_batches`, PAIRS).
    """
    kind, value = _to_wire(message)
    payload = cbor2.dumps(value)
    if len(payload) > MAX_CONTROL:
        raise ValueError(f"a {type(message).__name__} of {len(payload)} bytes does not fit one frame")
    return _HEADER.pack(kind, len(payload)) + payload


def _to_wire(message: Message) -> tuple[int, list[Any]]:
    if isinstance(message, Offer):
        return 1, [message.version, message.root, int(message.is_dir), message.count, message.total]
    if isinstance(message, Entries):
        return 2, [[e.path, e.size, e.mtime_ns, e.executable + 2 * e.private, int(e.is_dir)] for e in message.entries]
    if isinstance(message, Have):
        return 3, [list(item) for item in message.items]
    if isinstance(message, HaveEnd):
        return 4, []
    if isinstance(message, Proof):
        return 5, [list(item) for item in message.items]
    if isinstance(message, Start):
        return 6, [list(item) for item in message.items]
    if isinstance(message, StartEnd):
        return 7, []
    if isinstance(message, FileStart):
        return 8, [message.index, message.offset]
    if isinstance(message, FileEnd):
        return 9, [message.digest]
    if isinstance(message, FileAbort):
        return 10, [_clip(message.kind), _clip(message.message)]
    if isinstance(message, Verdict):
        return 11, [message.index, _clip(message.status), _clip(message.message)]
    if isinstance(message, Done):
        return 12, []
    if isinstance(message, Result):
        return 13, [message.good, message.bad]
    return 14, [_clip(message.kind), _clip(message.message)]


# -- reading: every value is checked for type, range and number before anybody uses it


def _array(value: object, length: int) -> list[Any]:
    if type(value) is not list or len(value) != length:
        raise DecodeError("transfer message: an array of the wrong shape")
    return value


def _uint(value: object, limit: int = _MAX_SIZE) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise DecodeError("transfer message: a number out of range")
    return value


def _text(value: object) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise DecodeError("transfer message: a text is missing or too long")
    # Text from the other side ends on somebody's terminal: one line, no control characters.
    return "".join(char if char.isprintable() else "?" for char in value)


def _digest(value: object) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_SIZE:
        raise DecodeError("transfer message: a hash of the wrong size")
    return value


def _pairs(value: object) -> list[list[Any]]:
    if type(value) is not list:
        raise DecodeError("transfer message: a list is missing")
    return [_array(item, 2) for item in value]


def check_path(path: object) -> str:
    """The path if it is relative, has no ``.`` or ``..``, and is of sane length; else
    DecodeError.
    """
    if type(path) is not str:
        raise DecodeError("a path is not text")
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise DecodeError("a path is not UTF-8") from None
    if not raw or len(raw) > MAX_PATH or b"\0" in raw:
        raise DecodeError(f"a path is empty, too long or has a zero byte: {path[:80]!r}")
    names = raw.split(b"/")
    if len(names) > MAX_DEPTH:
        raise DecodeError(f"a path is deeper than {MAX_DEPTH} directories: {path[:80]!r}")
    for name in names:
        if name in (b"", b".", b"..") or len(name) > MAX_NAME:
            raise DecodeError(f"a path leaves its directory or has a name that is too long: {path[:80]!r}")
    return path


def _entry(value: object) -> Entry:
    path, size, mtime_ns, flags, is_dir = _array(value, 5)
    is_dir = bool(_uint(is_dir, 1))
    flags = _uint(flags, 3)
    return Entry(
        path=check_path(path),
        size=_uint(size, 0 if is_dir else _MAX_SIZE),
        mtime_ns=_uint(mtime_ns),
        executable=bool(flags & 1),
        is_dir=is_dir,
        private=bool(flags & 2),
    )


def _offer(value: object) -> Offer:
    if type(value) is not list or not value:
        raise DecodeError("transfer message: an array of the wrong shape")
    if type(value[0]) is not int or value[0] not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise DecodeError(f"the sender speaks version {str(value[0])[:20]} of this protocol, not {known}")
    version, root, is_dir, count, total = _array(value, 5)
    if "/" in check_path(root):
        raise DecodeError("the offered name is a path")
    if not count:
        raise DecodeError("an offer of nothing")
    return Offer(root, bool(_uint(is_dir, 1)), _uint(count), _uint(total), version)


def _decode(kind: int, payload: bytes) -> Message:
    value: object = decode_cbor_untrusted(payload, MAX_CONTROL)
    if kind == 1:
        return _offer(value)
    if kind == 2:
        if type(value) is not list or not value:
            raise DecodeError("transfer message: no entries")
        return Entries(tuple(_entry(item) for item in value))
    if kind == 3:
        return Have(tuple([(_uint(index), _uint(length)) for index, length in _pairs(value)]))
    if kind == 5:
        return Proof(tuple([(_uint(index), _digest(digest)) for index, digest in _pairs(value)]))
    if kind == 6:
        return Start(tuple([(_uint(index), _uint(offset)) for index, offset in _pairs(value)]))
    if kind == 8:
        index, offset = _array(value, 2)
        return FileStart(_uint(index), _uint(offset))
    if kind == 9:
        return FileEnd(_digest(_array(value, 1)[0]))
    if kind == 11:
        index, status, message = _array(value, 3)
        return Verdict(_uint(index), _text(status), _text(message))
    if kind == 13:
        good, bad = _array(value, 2)
        return Result(_uint(good), _uint(bad))
    if kind in (10, 14):
        what, message = _array(value, 2)
        return FileAbort(_text(what), _text(message)) if kind == 10 else Fail(_text(what), _text(message))
    empty = _EMPTY.get(kind)
    if empty is None:
        raise DecodeError(f"transfer message of unknown type {kind}")
    _array(value, 0)
    return empty


_EMPTY: dict[int, Message] = {4: HaveEnd(), 7: StartEnd(), 12: Done()}


class Decoder:
    """Cuts a byte stream into messages and pieces of content, whatever the chunks it arrives in.

    Content is handed out as it comes, as views into the chunk that was fed (no copy), so a DATA
    frame may give several pieces.  At most one control frame is held back.
    """

    def __init__(self) -> None:
        self._partial = bytearray()
        self._data_left = 0

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two frames, where an end of it is not a cut."""
        return not self._partial and not self._data_left

    def feed(self, chunk: bytes | bytearray) -> list[Message | memoryview]:
        """All that this chunk completes, in order.  DecodeError is final: the stream cannot be
        followed further.
        """
        items: list[Message | memoryview] = []
        view = memoryview(chunk)
        position, end = 0, len(chunk)
        partial = self._partial
        while position < end:
            if self._data_left:
                take = min(self._data_left, end - position)
                items.append(view[position : position + take])
                self._data_left -= take
                position += take
                continue
            if len(partial) < 5:
                take = min(5 - len(partial), end - position)
                partial += view[position : position + take]
                position += take
                if len(partial) < 5:
                    break
            kind, length = _HEADER.unpack_from(partial)
            if kind == DATA:
                if not 0 < length <= CHUNK:
                    raise DecodeError(f"a data frame of {length} bytes")
                self._data_left = length
                partial.clear()
                continue
            if length > MAX_CONTROL:
                raise DecodeError(f"a control frame of {length} bytes")
            take = min(5 + length - len(partial), end - position)
            partial += view[position : position + take]
            position += take
            if len(partial) == 5 + length:
                payload = bytes(partial[5:])
                partial.clear()
                items.append(_decode(kind, payload))
        return items


def check_manifest(offer: Offer, entries: list[Entry]) -> None:
    """DecodeError unless the entries are what the offer says and no two of them get in each
    other's way.
    """
    if len(entries) != offer.count or sum(entry.size for entry in entries) != offer.total:
        raise DecodeError("the manifest is not what the offer said")
    # With "/" as the lowest character, whatever lies under a path sorts right behind it.
    ordered = sorted(entries, key=lambda entry: entry.path.replace("/", "\0"))
    for before, entry in itertools.pairwise(ordered):
        if before.path == entry.path:
            raise DecodeError(f"the manifest names {entry.path[:80]!r} twice")
        if not before.is_dir and entry.path.startswith(before.path + "/"):
            raise DecodeError(f"the manifest has {before.path[:80]!r} as a file and as a directory")
    for entry in entries:
        if entry.path == offer.root:
            if entry.is_dir != offer.is_dir:
                raise DecodeError("the manifest is not what the offer said")
        elif not (offer.is_dir and entry.path.startswith(offer.root + "/")):
            raise DecodeError(f"the manifest has {entry.path[:80]!r} outside {offer.root[:80]!r}")


def tree_digest(entries: list[Entry], digests: Mapping[int, bytes]) -> bytes:
    """BLAKE2b over, for each entry: its path, a zero byte, ``d``, ``f`` or ``x``, and a file's
    hash.
    """
    state = new_hash()
    for index, entry in enumerate(entries):
        kind = b"d" if entry.is_dir else b"x" if entry.executable else b"f"
        state.update(entry.path.encode() + b"\0" + kind + (b"" if entry.is_dir else digests[index]))
    return state.digest()
