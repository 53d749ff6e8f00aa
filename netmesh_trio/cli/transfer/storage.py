"""Where received files go: checks, partial files, verified and atomic placing.  Blocking calls
only, no trio.

While it arrives, a file is ``.NAME.ID.part`` beside its place; ID names the sender's state of the
file (:attr:`Entry.file_id`), so that a later transfer of the same state finds it and goes on.  It
gets its name when it is whole and its hash is right, in one step that never shows half a file and,
unless told to overwrite, never replaces one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from netmesh_trio.cli.locks import try_lock
from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.cli.transfer.folders import Folder, open_folder
from netmesh_trio.cli.transfer.messages import CHUNK, Entry, new_hash

__all__ = ["Incoming", "Prefix", "Store", "partial_name", "storage_error"]

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part", re.DOTALL)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
}


def storage_error(error: OSError, where: str) -> TransferError:
    """What an error of the operating system at the receiver means for the transfer."""
    if error.errno in _FULL:
        return TransferError(
            "disk-full",
            f"no space left for {where} at the receiver; free some, send again: it resumes",
        )
    return TransferError("storage", f"cannot write {where} at the receiver: {error.strerror or error}")


def check_name(name: str, windows: bool = sys.platform == "win32") -> None:
    """TransferError for a name that this platform cannot have."""
    if windows:
        bad = (
            any(char in '<>:"|?*\\' or char < " " for char in name)
            or name[-1] in ". "
            or name.split(".")[0].rstrip(" ").upper() in _RESERVED
        )
        if bad:
            raise TransferError("bad-path", f"the receiver's system cannot have a file named {name!r}; rename it")


def _stem(entry: Entry) -> str:
    return entry.path.rsplit("/", 1)[-1].encode()[:200].decode(errors="ignore")


def partial_name(entry: Entry) -> str:
    """The name of the partial copy of a file, at most 255 bytes."""
    return f".{_stem(entry)}.{entry.file_id}.part"


@attrs.define
class Prefix:
    """First bytes of a file that are here already, from a partial copy or from a file in place."""

    length: int
    complete: bool
    """Whether it is a file in place rather than a partial copy."""
    state: hashlib.blake2b | None = None
    """The running hash over them, once :meth:`Store.hash_prefix` went through."""


class Store:
    """One directory that receives files.  Serves several transfers, from several threads.

    ``again`` is asked when another transfer writes a wanted file, as that of a sender who was
    killed and is not missed yet: with the file's path and the seconds that it was asked for,
    whether to look once more.  It may block meanwhile.

    OSError if the directory cannot be made or opened.
    """

    def __init__(
        self,
        directory: Path,
        *,
        overwrite: bool = False,
        again: Callable[[str, float], bool] = lambda path, seconds: False,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.overwrite = overwrite
        self.again = again
        self._root = open_folder(directory)
        #: By directory, the partial copies that lie in it, by the name in them.
        self._partials: dict[str, dict[str, set[str]]] = {}

    def close(self) -> None:
        """Let go of the directory."""
        self._root.close()

    def free_bytes(self) -> int:
        """Room on the disk, as far as the system tells."""
        return shutil.disk_usage(self.directory).free

    def parent(self, entry: Entry, create: bool) -> Folder:
        """The directory that the entry lies in, to be closed by the caller.

        FileNotFoundError if it is not there and not to be made; TransferError if the way leads
        over a link.
        """
        *above, last = entry.path.split("/")
        check_name(last)
        folder = self._root.enter(".", create=False)
        for name in above:
            check_name(name)
            try:
                inner = folder.enter(name, create)
            finally:
                folder.close()
            folder = inner
        return folder

    def make_directory(self, entry: Entry) -> None:
        """Make a directory of the manifest, and those above it."""
        folder = self.parent(entry, create=True)
        try:
            mode = 0o700 if entry.private else 0o777
            folder.enter(entry.path.rsplit("/", 1)[-1], create=True, mode=mode).close()
        finally:
            folder.close()

    def look(self, entry: Entry) -> Prefix | None:
        """What is here of a file.  TransferError if it cannot be received at all."""
        try:
            folder = self.parent(entry, create=False)
        except FileNotFoundError:
            return None
        try:
            name = entry.path.rsplit("/", 1)[-1]
            try:
                found = folder.lstat(name)
            except FileNotFoundError:
                pass
            else:
                if not stat.S_ISREG(found.st_mode):
                    what = "directory" if stat.S_ISDIR(found.st_mode) else "special file or link"
                    if not self.overwrite or stat.S_ISDIR(found.st_mode):
                        raise TransferError(
                            "exists",
                            f"{entry.path!r} is a {what} at the receiver; it was left alone",
                        )
                elif found.st_size == entry.size:
                    return Prefix(entry.size, complete=True)
                elif not self.overwrite:
                    raise self.exists(entry)
            try:
                found = folder.lstat(partial_name(entry))
            except FileNotFoundError:
                return None
            if stat.S_ISREG(found.st_mode) and 0 < found.st_size <= entry.size:
                return Prefix(found.st_size, complete=False)
            return None
        finally:
            folder.close()

    @staticmethod
    def exists(entry: Entry) -> TransferError:
        """The refusal to replace a different file."""
        return TransferError(
            "exists",
            f"{entry.path!r} is at the receiver with other content; move it or receive --overwrite",
        )

    def hash_prefix(self, entry: Entry, prefix: Prefix) -> None:
        """Hash the bytes that are here, for comparison with the sender's.  If they went away,
        ``state`` stays None.
        """
        name = entry.path.rsplit("/", 1)[-1] if prefix.complete else partial_name(entry)
        try:
            folder = self.parent(entry, create=False)
        except FileNotFoundError:
            return
        try:
            fd = folder.open(name, os.O_RDONLY)
        except OSError:
            return
        finally:
            folder.close()
        state = new_hash()
        left = prefix.length
        try:
            while left:
                block = os.read(fd, min(CHUNK, left))
                if not block:
                    return
                state.update(block)
                left -= len(block)
        finally:
            os.close(fd)
        prefix.state = state

    def remember(self, folder: Folder, entry: Entry) -> None:
        """Note that there is a partial copy of a file now; and, once for each directory, those that are there."""
        above = entry.path.rpartition("/")[0]
        if above not in self._partials:
            there: dict[str, set[str]] = {}
            for name in folder.names():
                if match := _PARTIAL.fullmatch(name):
                    there.setdefault(match[1], set()).add(name)
            self._partials[above] = there
        name = partial_name(entry)
        self._partials[above].setdefault(_stem(entry), set()).add(name)

    def forget(self, folder: Folder, entry: Entry) -> None:
        """A file is in place: partial copies of other states of it, which nobody writes, have no use any more."""
        above = entry.path.rpartition("/")[0]
        old = self._partials[above].pop(_stem(entry), set())
        for name in old - {partial_name(entry)}:
            with contextlib.suppress(OSError):
                fd = folder.open(name, os.O_RDWR)
                try:
                    if try_lock(fd):
                        folder.unlink(name)
                finally:
                    os.close(fd)

    def begin(self, entry: Entry, offset: int, prefix: Prefix | None) -> Incoming:
        """Open the partial copy of a file to write it from ``offset`` on (0, or the length of a
        proven prefix).
        """
        return Incoming(self, entry, offset, prefix)


class Incoming:
    """One file while it arrives.  OSError of the disk comes out as TransferError."""

    def __init__(self, store: Store, entry: Entry, offset: int, prefix: Prefix | None) -> None:
        self._store = store
        self.entry = entry
        self._fd = -1
        self._name = entry.path.rsplit("/", 1)[-1]
        self._partial = partial_name(entry)
        self._state = new_hash()
        self._ours = False
        self._offset = offset
        self.received: int = offset
        try:
            self._folder = store.parent(entry, create=True)
        except OSError as error:
            raise storage_error(error, repr(entry.path)) from error
        try:
            self._open()
            asked = time.monotonic()
            while not self._lock():
                if not store.again(entry.path, time.monotonic() - asked):
                    raise TransferError(
                        "busy",
                        f"another transfer is writing {entry.path!r} at the receiver; send again later",
                    )
            if offset:
                assert prefix is not None
                assert prefix.state is not None
                if os.fstat(self._fd).st_size < offset:
                    raise TransferError("storage", f"the partial copy of {entry.path!r} shrank; send again")
                self._state = prefix.state.copy()
            os.ftruncate(self._fd, offset)
            os.lseek(self._fd, offset, os.SEEK_SET)
        except OSError as error:
            self.close()
            raise storage_error(error, repr(entry.path)) from error
        except TransferError:
            self.close()
            raise

    def _open(self) -> None:
        mode = 0o777 if self.entry.executable else 0o666
        if self.entry.private:
            mode &= 0o700
        self._fd = self._folder.open(self._partial, os.O_RDWR | os.O_CREAT, mode)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise TransferError("bad-path", f"{self._partial!r} at the receiver is not a file; remove it")
        self._store.remember(self._folder, self.entry)

    def _lock(self) -> bool:
        """Whether the partial copy is ours alone now."""
        if not try_lock(self._fd):
            return False
        # Whoever had the lock until now may have put the file in place, or removed it: then ours
        # has no name any more.
        try:
            named = self._folder.lstat(self._partial)
        except FileNotFoundError:
            named = None
        if named is not None and os.path.samestat(named, os.fstat(self._fd)):
            self._ours = True
            if self.entry.private and hasattr(os, "fchmod"):
                # a copy that was begun before it was private
                os.fchmod(self._fd, stat.S_IMODE(named.st_mode) & 0o700)
        elif not self._offset:
            os.close(self._fd)
            self._fd = -1
            self._open()
        return self._ours

    def write(self, block: bytes | memoryview) -> None:
        """Append content.  TransferError ``protocol`` beyond the announced size."""
        if self.received + len(block) > self.entry.size:
            raise TransferError("protocol", f"more bytes than announced for {self.entry.path!r}")
        self._state.update(block)
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise storage_error(error, repr(self.entry.path)) from error
        self.received += len(block)

    def finish(self, digest: bytes) -> None:
        """Verify, make it last, put it in place; closes.  TransferError (``corrupt``,
        ``exists``...) if it is not there.
        """
        entry = self.entry
        try:
            if self.received != entry.size or self._state.digest() != digest:
                self._folder.unlink(self._partial)
                raise TransferError(
                    "corrupt",
                    f"{entry.path!r} arrived with a wrong hash and was thrown away; send it again",
                )
            os.fsync(self._fd)
            if os.utime in os.supports_fd:
                os.utime(self._fd, ns=(entry.mtime_ns, entry.mtime_ns))
            if sys.platform == "win32":
                os.close(self._fd)
                self._fd = -1
            self._place()
            self._store.forget(self._folder, entry)
            self._folder.sync()
        except OSError as error:
            raise storage_error(error, repr(entry.path)) from error
        finally:
            self.close()

    def _place(self) -> None:
        if self._store.overwrite:
            try:
                self._folder.replace(self._partial, self._name)
            except IsADirectoryError:
                raise TransferError("exists", f"{self.entry.path!r} is a directory at the receiver") from None
            return
        try:
            self._folder.link(self._partial, self._name)
        except FileExistsError:
            raise Store.exists(self.entry) from None
        except OSError as error:
            if error.errno not in (
                errno.EPERM,
                errno.ENOTSUP,
                errno.EMLINK,
                errno.EXDEV,
                errno.ENOSYS,
            ):
                raise
        else:
            self._folder.unlink(self._partial)
            return
        # No hard links here (FAT, some network file systems): look, then rename.
        try:
            self._folder.lstat(self._name)
        except FileNotFoundError:
            self._folder.replace(self._partial, self._name)
        else:
            raise Store.exists(self.entry)

    def discard(self) -> None:
        """Close, and remove the partial copy: it is of no use any more."""
        with contextlib.suppress(OSError):
            self._folder.unlink(self._partial)
        self.close()

    def close(self) -> None:
        """Close; the partial copy stays for a later run.  Harmless when closed already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._ours and not self.received:
                # An empty partial copy resumes nothing.
                with contextlib.suppress(OSError):
                    self._folder.unlink(self._partial)
        self._folder.close()
