"""The disk side of a receiver: content in the order in which it came, to files in place.
Blocking, no trio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.cli.transfer.messages import Entry, FileAbort, FileEnd, FileStart, Verdict
from netmesh_trio.cli.transfer.storage import Incoming, Prefix, Store

__all__ = ["Judgment", "Operation", "Writer"]

Operation: TypeAlias = FileStart | FileEnd | FileAbort | memoryview
Judgment: TypeAlias = tuple[Verdict, bytes | None]
"""A verdict, and the hash of the file if it is in place."""

# After these the rest has no chance; after all others the next file has.
_FATAL = ("disk-full", "storage", "protocol")


class Writer:
    """Writes the wanted files one after the other.  One thread at a time."""

    def __init__(
        self,
        store: Store,
        entries: Sequence[Entry],
        wanted: Mapping[int, int],
        prefixes: Mapping[int, Prefix],
    ) -> None:
        self._store = store
        self._entries = entries
        self._wanted = dict(wanted)
        self._prefixes = prefixes
        self._open: FileStart | None = None
        self._file: Incoming | None = None  # None while open: the file failed, and what comes of it is dropped

    @property
    def missing(self) -> int:
        """Wanted files that did not come yet."""
        return len(self._wanted) + (self._open is not None)

    def apply(self, operations: Sequence[Operation]) -> list[Judgment]:
        """Do it; what became of the files that ended.  TransferError if the whole transfer is to
        end.
        """
        judged: list[Judgment] = []
        block: list[memoryview] = []
        for operation in operations:
            if isinstance(operation, memoryview):
                block.append(operation)
                continue
            if block:
                self._write(block, judged)
                block = []
            if isinstance(operation, FileStart):
                self._start(operation, judged)
            elif isinstance(operation, FileEnd):
                self._end(operation, judged)
            else:
                self._abort(operation, judged)
        if block:
            self._write(block, judged)
        return judged

    def close(self) -> None:
        """Let go of the file that was being written; its partial copy stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self, start: FileStart, judged: list[Judgment]) -> None:
        if self._open is not None or self._wanted.pop(start.index, None) != start.offset:
            raise TransferError("protocol", "the sender sends a file that is not wanted, or from elsewhere")
        self._open = start
        try:
            self._file = self._store.begin(self._entries[start.index], start.offset, self._prefixes.get(start.index))
        except TransferError as error:
            self._failed(error, judged)

    def _write(self, block: list[memoryview], judged: list[Judgment]) -> None:
        if self._open is None:
            raise TransferError("protocol", "the sender sends content outside of any file")
        if self._file is None:
            return
        try:
            self._file.write(block[0] if len(block) == 1 else b"".join(block))
        except TransferError as error:
            self._failed(error, judged)

    def _end(self, end: FileEnd, judged: list[Judgment]) -> None:
        if self._open is None:
            raise TransferError("protocol", "the sender ends a file that it did not begin")
        if self._file is not None:
            try:
                self._file.finish(end.digest)
            except TransferError as error:
                self._failed(error, judged)
            else:
                judged.append((Verdict(self._open.index, "placed"), end.digest))
        self._open = self._file = None

    def _abort(self, abort: FileAbort, judged: list[Judgment]) -> None:
        if self._open is None:
            raise TransferError("protocol", "the sender ends a file that it did not begin")
        if self._file is not None:
            # A partial copy of a file that changed has no use; one that could not be read on may
            # be completed later.
            if abort.kind == "changed":
                self._file.discard()
            self._failed(TransferError(abort.kind, abort.message), judged)
        self._open = self._file = None

    def _failed(self, error: TransferError, judged: list[Judgment]) -> None:
        assert self._open is not None
        self.close()
        if error.kind in _FATAL:
            raise error
        # A sender may not claim success in place of a reason.
        kind = error.kind if error.kind not in ("placed", "identical") else "source"
        judged.append((Verdict(self._open.index, kind, str(error)), None))
