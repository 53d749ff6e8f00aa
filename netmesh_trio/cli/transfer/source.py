"""What a sender sends: a file or a tree, listed once and then read in order.  Blocking calls only,
no trio.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Generator, Mapping
from pathlib import Path

import attrs

from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.cli.transfer.messages import (
    CHUNK,
    Entry,
    FileAbort,
    FileEnd,
    FileStart,
    Offer,
    check_path,
    data_header,
    encode,
    new_hash,
    tree_digest,
)
from netmesh_trio.cli.transfer.outcome import Failure
from netmesh_trio.wire.errors import DecodeError

__all__ = ["MAX_FILES", "Source"]

MAX_FILES = 100_000
_MAX_TIME = (1 << 62) - 1
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


@attrs.define
class Source:
    """A file or directory tree as it was when it was listed."""

    offer: Offer
    entries: list[Entry]
    root: Path
    """Where the offered file or directory is."""
    skipped: list[str]
    """Paths left out: symbolic links and special files."""
    failed: list[Failure] = attrs.field(factory=list)
    """What should be sent and cannot be: directories that cannot be read, names that are not UTF-8."""
    digests: dict[int, bytes] = attrs.field(factory=dict)
    """Hash of every file that was read to its end, by index."""
    _prefixes: dict[int, tuple[int, hashlib.blake2b]] = attrs.field(factory=dict)

    @classmethod
    def scan(cls, path: Path) -> Source:
        """List ``path``.  TransferError ``source`` if it is not there, cannot be read or has too
        many files.
        """
        try:
            found = path.stat()
            # "." and "dir/.." have no name of their own, nor has "/".
            name = path.name if path.name not in ("", "..") else path.resolve().name or "root"
            entries: list[Entry] = []
            skipped: list[str] = []
            failed: list[Failure] = []
            if stat.S_ISDIR(found.st_mode):
                entries.append(Entry(_path(name), is_dir=True, private=_private(found)))
                _walk(path, entries[0].path, entries, skipped, failed)
            elif stat.S_ISREG(found.st_mode):
                if not os.access(path, os.R_OK):
                    raise TransferError("source", f"cannot read {str(path)!r}: permission denied")
                entries.append(_file(_path(name), found))
            else:
                raise TransferError("source", f"{str(path)!r} is neither a file nor a directory")
        except OSError as error:
            raise TransferError("source", f"cannot read {str(error.filename or path)!r}: {error.strerror}") from error
        version = 2 if any(entry.private for entry in entries) else 1
        total = sum(entry.size for entry in entries)
        offer = Offer(entries[0].path, entries[0].is_dir, len(entries), total, version)
        return cls(offer, entries, path, skipped, failed)

    def digest(self) -> bytes:
        """One hash for all: of a single file its own, of a tree over paths, kinds and hashes in
        manifest order.
        """
        if not self.offer.is_dir:
            return self.digests[0]
        return tree_digest(self.entries, self.digests)

    def prefix_digest(self, index: int, length: int) -> bytes:
        """Hash of the first ``length`` bytes of a file.  TransferError if it has not that many any
        more.
        """
        entry = self.entries[index]
        state = new_hash()
        fd = self._open(entry)
        try:
            left = length
            while left:
                block = os.read(fd, min(CHUNK, left))
                if not block:
                    raise _changed(entry)
                state.update(block)
                left -= len(block)
        except OSError as error:
            raise _unreadable(entry, error) from error
        finally:
            os.close(fd)
        if length == entry.size:
            self.digests[index] = state.digest()
        self._prefixes[index] = (length, state)
        return state.digest()

    def _open(self, entry: Entry) -> int:
        # A link in place of a file of the tree was not there when it was listed, and is not
        # followed.
        nofollow = getattr(os, "O_NOFOLLOW", 0) if self.offer.is_dir else 0
        try:
            below = entry.path[len(self.offer.root) + 1 :]
            return os.open(self.root / below if below else self.root, _READ | nofollow)
        except OSError as error:
            raise _unreadable(entry, error) from error

    def frames(self, wanted: Mapping[int, int]) -> Generator[bytes | memoryview, None, None]:
        """The frames that carry the wanted files (index to offset), in order of index, read as
        they are asked for.

        Content comes as memoryviews (one to a DATA frame, behind its header), all else as bytes.
        """
        for index in sorted(wanted):
            yield from self._file_frames(index, wanted[index])

    def _file_frames(self, index: int, offset: int) -> Generator[bytes | memoryview, None, None]:
        entry = self.entries[index]
        yield encode(FileStart(index, offset))
        try:
            fd = self._open(entry)
        except TransferError as error:
            yield encode(FileAbort(error.kind, str(error)))
            return
        state = new_hash()
        position = 0
        try:
            if offset:
                # The hash covers the file from its first byte; that of the prefix was taken for
                # its proof.
                position, state = self._prefixes.pop(index)
                os.lseek(fd, position, os.SEEK_SET)
            while position < entry.size:
                block = os.read(fd, min(CHUNK, entry.size - position))
                if not block:
                    break
                state.update(block)
                position += len(block)
                yield data_header(len(block))
                yield memoryview(block)
            now = os.fstat(fd)
            if position != entry.size or now.st_size != entry.size or _mtime(now) != entry.mtime_ns:
                raise _changed(entry)
        except TransferError as error:
            yield encode(FileAbort(error.kind, str(error)))
            return
        except OSError as error:
            yield encode(FileAbort("source", str(_unreadable(entry, error))))
            return
        finally:
            os.close(fd)
        self.digests[index] = state.digest()
        yield encode(FileEnd(state.digest()))


def _changed(entry: Entry) -> TransferError:
    return TransferError("changed", f"{entry.path!r} changed while it was being sent; send it again")


def _unreadable(entry: Entry, error: OSError) -> TransferError:
    return TransferError("source", f"cannot read {entry.path!r} at the sender: {error.strerror or error}")


def _path(path: str) -> str:
    try:
        return check_path(path)
    except DecodeError as error:
        raise TransferError("source", f"cannot send {path!r}: {error}") from None


def _mtime(found: os.stat_result) -> int:
    return min(max(found.st_mtime_ns, 0), _MAX_TIME)


def _file(path: str, found: os.stat_result) -> Entry:
    return Entry(path, found.st_size, _mtime(found), bool(found.st_mode & 0o111), private=_private(found))


def _private(found: os.stat_result) -> bool:
    return not found.st_mode & 0o077


def _walk(directory: Path, prefix: str, entries: list[Entry], skipped: list[str], failed: list[Failure]) -> None:
    stack = [(directory, prefix)]
    while stack:
        here, path = stack.pop()
        try:
            with os.scandir(here) as scan:
                found = sorted(scan, key=lambda item: item.name)
        except OSError as error:
            if here == directory:
                raise
            failed.append(Failure(path, "source", f"cannot read {path!r} at the sender: {error.strerror}"))
            continue
        below: list[tuple[Path, str]] = []
        for item in found:
            inner = f"{path}/{item.name}"
            if item.is_symlink():
                skipped.append(inner)
                continue
            try:
                _path(inner)
                status = item.stat(follow_symlinks=False)
            except TransferError as error:
                failed.append(Failure(inner, error.kind, str(error)))
                continue
            except OSError as error:
                failed.append(Failure(inner, "source", f"cannot read {inner!r} at the sender: {error.strerror}"))
                continue
            if item.is_dir(follow_symlinks=False):
                entries.append(Entry(inner, is_dir=True, private=_private(status)))
                below.append((here / item.name, inner))
            elif item.is_file(follow_symlinks=False):
                entries.append(_file(inner, status))
            else:
                skipped.append(inner)
            if len(entries) > MAX_FILES:
                raise TransferError(
                    "source",
                    f"more than {MAX_FILES:,} files and directories; pack them into one file",
                )
        stack.extend(reversed(below))
