"""Directories that are held open, so that nobody can move a symbolic link under our feet.

:class:`HeldFolder` works with directory descriptors (``openat`` and family) and never follows a
symbolic link below the directory that it began at.  :class:`NamedFolder` is for systems without
those calls: it looks before each step, which is as good unless somebody else changes the tree
meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Protocol

from netmesh_trio.cli.transfer.errors import TransferError

__all__ = ["Folder", "HeldFolder", "NamedFolder", "open_folder"]

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
# A FIFO that somebody put there must not block us.
_SAFE = _NOFOLLOW | _BINARY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class Folder(Protocol):
    """One directory.  Names are single components; all methods raise OSError as the calls of
    :mod:`os` do.
    """

    def enter(self, name: str, create: bool, mode: int = 0o777) -> Folder:
        """The directory of that name inside; made with ``mode`` if ``create``.  TransferError if it
        is a link or no directory.
        """
        ...

    def names(self) -> list[str]:
        """All that is in it."""
        ...

    def lstat(self, name: str) -> os.stat_result:
        """What is there, itself, not what it points to."""
        ...

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor of a file inside, never through a link."""
        ...

    def link(self, old: str, new: str) -> None:
        """A second name for a file; FileExistsError if the name is taken."""
        ...

    def replace(self, old: str, new: str) -> None:
        """Rename over whatever has the new name."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a file's name."""
        ...

    def sync(self) -> None:
        """Make the names in it last through a power cut, where the system can."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def _not_a_folder(name: str) -> TransferError:
    return TransferError(
        "bad-path",
        f"{name!r} at the receiver is a link or no directory; move it away or receive elsewhere",
    )


class HeldFolder:
    """A directory by its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def enter(self, name: str, create: bool, mode: int = 0o777) -> Folder:
        """See :class:`Folder`."""
        flags = os.O_RDONLY | _DIRECTORY | _SAFE
        try:
            try:
                return HeldFolder(os.open(name, flags, dir_fd=self._fd))
            except FileNotFoundError:
                if not create:
                    raise
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=self._fd)
            return HeldFolder(os.open(name, flags, dir_fd=self._fd))
        except (NotADirectoryError, FileExistsError):
            raise _not_a_folder(name) from None
        except OSError as error:
            # ELOOP: a symbolic link under O_NOFOLLOW.
            if self._is_link(name):
                raise _not_a_folder(name) from error
            raise

    def names(self) -> list[str]:
        """See :class:`Folder`."""
        return os.listdir(self._fd)

    def _is_link(self, name: str) -> bool:
        try:
            return stat.S_ISLNK(self.lstat(name).st_mode)
        except OSError:
            return False

    def lstat(self, name: str) -> os.stat_result:
        """See :class:`Folder`."""
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """See :class:`Folder`."""
        return os.open(name, flags | _SAFE, mode, dir_fd=self._fd)

    def link(self, old: str, new: str) -> None:
        """See :class:`Folder`."""
        os.link(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)

    def replace(self, old: str, new: str) -> None:
        """See :class:`Folder`."""
        os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        """See :class:`Folder`."""
        os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        """See :class:`Folder`."""
        # Some network file systems cannot sync a directory.
        with contextlib.suppress(OSError):
            os.fsync(self._fd)

    def close(self) -> None:
        """See :class:`Folder`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class NamedFolder:
    """A directory by its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def enter(self, name: str, create: bool, mode: int = 0o777) -> Folder:
        """See :class:`Folder`."""
        path = self._path / name
        if create:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode)
        found = os.lstat(path)
        # A Windows junction is a reparse point that lstat calls a directory.
        reparse: int = getattr(found, "st_reparse_tag", 0)
        if reparse or not stat.S_ISDIR(found.st_mode):
            raise _not_a_folder(name)
        return NamedFolder(path)

    def names(self) -> list[str]:
        """See :class:`Folder`."""
        return os.listdir(self._path)

    def lstat(self, name: str) -> os.stat_result:
        """See :class:`Folder`."""
        return os.lstat(self._path / name)

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """See :class:`Folder`."""
        return os.open(self._path / name, flags | _SAFE, mode)

    def link(self, old: str, new: str) -> None:
        """See :class:`Folder`."""
        os.link(self._path / old, self._path / new)

    def replace(self, old: str, new: str) -> None:
        """See :class:`Folder`."""
        os.replace(self._path / old, self._path / new)

    def unlink(self, name: str) -> None:
        """See :class:`Folder`."""
        os.unlink(self._path / name)

    def sync(self) -> None:
        """See :class:`Folder`."""

    def close(self) -> None:
        """See :class:`Folder`."""


def open_folder(path: Path) -> Folder:
    """The directory to begin at, itself found the usual way (it may be a link: its owner named
    it).
    """
    if os.open in os.supports_dir_fd and os.link in os.supports_dir_fd and _DIRECTORY:
        return HeldFolder(os.open(path, os.O_RDONLY | _DIRECTORY | getattr(os, "O_CLOEXEC", 0)))
    if not path.is_dir():
        raise NotADirectoryError(20, "not a directory", str(path))
    return NamedFolder(path)
