"""The receiving side of a transfer, over any trio stream."""

from __future__ import annotations

import math
from collections import deque

import attrs
import trio

from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.cli.transfer.messages import (
    CHUNK,
    PAIRS,
    Decoder,
    Done,
    Entries,
    Entry,
    Fail,
    FileAbort,
    FileEnd,
    FileStart,
    Have,
    HaveEnd,
    Message,
    Offer,
    Proof,
    Result,
    Start,
    StartEnd,
    Verdict,
    check_manifest,
    encode,
    hashing_batches,
    new_hash,
    tree_digest,
)
from netmesh_trio.cli.transfer.outcome import (
    Failure,
    Outcome,
    Progress,
    ProgressHook,
    drain,
    gone,
    lone_error,
    no_progress,
)
from netmesh_trio.cli.transfer.storage import Prefix, Store, storage_error
from netmesh_trio.cli.transfer.writer import Judgment, Operation, Writer
from netmesh_trio.errors import NetmeshError
from netmesh_trio.wire.errors import DecodeError

__all__ = ["Limits", "receive_files"]

_LAST_WORDS = 5.0
_CONTROL_COST = 512  # what a message counts in a batch, so that a million empty files make many batches


@attrs.frozen
class Limits:
    """What a receiver takes at most in one transfer."""

    entries: int = 100_000
    """Files and directories."""
    path_bytes: int = 32 << 20
    """Characters of all paths together."""
    total: int | None = None
    """Bytes of content; None: what the disk has room for."""
    offer_seconds: float = 60.0
    """Time for the whole manifest to arrive."""


async def receive_files(
    stream: trio.abc.HalfCloseableStream,
    store: Store,
    on_progress: ProgressHook = no_progress,
    limits: Limits = Limits(),
) -> Outcome:
    """Take what the other side of ``stream`` offers into ``store``; the outcome says what is in
    place.

    TransferError when the transfer as a whole fails; the sender is told why if it can still hear.
    What arrived of an unfinished file stays as a partial copy for a later transfer.  The stream is
    left to the caller to close.
    """
    receiver = _Receiver(stream, store, on_progress, limits)
    started = trio.current_time()
    with lone_error():
        await receiver.run()
    return receiver.outcome(trio.current_time() - started)


class _Receiver:
    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        store: Store,
        on_progress: ProgressHook,
        limits: Limits,
    ) -> None:
        self._stream = stream
        self._store = store
        self._on_progress = on_progress
        self._limits = limits
        self._decoder = Decoder()
        self._items: deque[Message | memoryview] = deque()
        self._progress = Progress()
        self._offer = Offer("", False, 0, 0)
        self._entries: list[Entry] = []
        self._verdicts: dict[int, Verdict] = {}
        self._digests: dict[int, bytes] = {}
        self._prefixes: dict[int, Prefix] = {}
        self._wanted: dict[int, int] = {}
        # At most a few replies per entry are ever said, so the manifest's limit is the bound of
        # this queue.
        self._replies_in, self._replies = trio.open_memory_channel[Message](math.inf)

    async def run(self) -> None:
        """The whole conversation."""
        failure: NetmeshError | None = None
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(self._talk, scope)
            with self._replies_in:
                try:
                    with lone_error():
                        await self._receive()
                except NetmeshError as error:
                    failure = error
                    if isinstance(error, TransferError) and not error.remote and error.kind != "peer-gone":
                        self._say(Fail(error.kind, str(error)))
            # Nothing more is said; what is queued gets this long to leave.
            scope.deadline = trio.current_time() + 2 * _LAST_WORDS
        if failure is not None:
            raise failure

    def _say(self, message: Message) -> None:
        self._replies_in.send_nowait(message)

    async def _talk(self, scope: trio.CancelScope) -> None:
        with scope:
            try:
                async for message in self._replies:
                    await self._stream.send_all(encode(message))
                await self._stream.send_eof()
            except trio.BrokenResourceError:
                return  # whoever reads meets the same, and says so
            await drain(self._stream, _LAST_WORDS)

    # -- reading

    async def _fill(self) -> None:
        try:
            chunk = await self._stream.receive_some(CHUNK)
        except trio.BrokenResourceError as error:
            raise gone(error, self._progress) from error
        if not chunk:
            raise gone(None, self._progress)
        try:
            self._items.extend(self._decoder.feed(chunk))
        except DecodeError as error:
            raise _protocol(error) from None

    async def _next(self) -> Message | memoryview:
        while not self._items:
            await self._fill()
        return self._items.popleft()

    async def _receive(self) -> None:
        try:
            with trio.fail_after(self._limits.offer_seconds):
                await self._read_manifest()
        except trio.TooSlowError:
            raise _protocol("no offer in time") from None
        await self._negotiate()
        await self._read_content()
        good = sum(verdict.ok for verdict in self._verdicts.values())
        self._say(Result(good, len(self._verdicts) - good))

    async def _read_manifest(self) -> None:
        offer = await self._next()
        if not isinstance(offer, Offer):
            raise _protocol("no offer")
        limits = self._limits
        if offer.count > limits.entries:
            raise TransferError(
                "refused",
                f"{offer.count:,} files are more than the {limits.entries:,} that this takes",
            )
        if limits.total is not None and offer.total > limits.total:
            raise TransferError(
                "refused",
                f"{offer.total:,} bytes are more than the {limits.total:,} that this takes",
            )
        self._offer = offer
        path_bytes = 0
        while len(self._entries) < offer.count:
            message = await self._next()
            if not isinstance(message, Entries):
                raise _protocol("an unfinished manifest")
            self._entries += message.entries
            path_bytes += sum(len(entry.path) for entry in message.entries)
            if path_bytes > limits.path_bytes:
                raise TransferError("refused", "the names of the files are more than this takes")
        try:
            await trio.to_thread.run_sync(check_manifest, offer, self._entries)
        except DecodeError as error:
            raise _protocol(error) from None
        progress = self._progress
        progress.root, progress.total = offer.root, offer.total
        progress.files = sum(not entry.is_dir for entry in self._entries)

    # -- what is wanted

    async def _negotiate(self) -> None:
        have, judged = await trio.to_thread.run_sync(self._survey)
        self._judge(judged)
        for start in range(0, len(have), PAIRS):
            self._say(Have(tuple(have[start : start + PAIRS])))
        self._say(HaveEnd())
        starts: list[tuple[int, int]] = []
        proofs: deque[tuple[int, bytes]] = deque()
        for batch in hashing_batches(have):
            # The sender is hashing the same bytes meanwhile.
            await trio.to_thread.run_sync(self._hash_prefixes, batch)
            for index, _ in batch:
                if not proofs:
                    message = await self._next()
                    if not isinstance(message, Proof):
                        raise _protocol("a missing proof")
                    proofs.extend(message.items)
                if not proofs or proofs[0][0] != index:
                    raise _protocol("a proof of something else")
                self._compare(index, proofs.popleft()[1], starts)
        if proofs:
            raise _protocol("a proof too many")
        self._judge(await trio.to_thread.run_sync(self._make_directories))
        for first in range(0, len(starts), PAIRS):
            self._say(Start(tuple(starts[first : first + PAIRS])))
        self._say(StartEnd())

    def _survey(self) -> tuple[list[tuple[int, int]], list[Judgment]]:
        """Thread: look at the place of every file; what is there of it, and what need not come."""
        have: list[tuple[int, int]] = []
        judged: list[Judgment] = []
        needed = 0
        for index, entry in enumerate(self._entries):
            if entry.is_dir:
                continue
            try:
                prefix = self._store.look(entry)
            except TransferError as error:
                judged.append((Verdict(index, error.kind, str(error)), None))
                continue
            except OSError as error:
                raise storage_error(error, repr(entry.path)) from error
            if prefix is not None and prefix.complete and not prefix.length:
                judged.append((Verdict(index, "identical"), new_hash().digest()))
                continue
            self._wanted[index] = 0
            needed += entry.size
            if prefix is not None:
                self._prefixes[index] = prefix
                have.append((index, prefix.length))
                needed -= prefix.length
        free = self._store.free_bytes()
        if needed > free:
            raise TransferError(
                "disk-full",
                f"{needed / 1e6:,.1f} MB needed, {free / 1e6:,.1f} MB left at the receiver",
            )
        return have, judged

    def _hash_prefixes(self, batch: list[tuple[int, int]]) -> None:
        for index, _ in batch:
            entry = self._entries[index]
            try:
                self._store.hash_prefix(entry, self._prefixes[index])
            except OSError as error:
                raise storage_error(error, repr(entry.path)) from error

    def _compare(self, index: int, proof: bytes, starts: list[tuple[int, int]]) -> None:
        entry, prefix = self._entries[index], self._prefixes[index]
        same = prefix.state is not None and prefix.state.digest() == proof
        if prefix.complete and (same or not self._store.overwrite):
            del self._wanted[index]
            if same:
                self._judge([(Verdict(index, "identical"), proof)])
            else:
                self._judge([(Verdict(index, "exists", str(Store.exists(entry))), None)])
            return
        if same and not prefix.complete:
            self._wanted[index] = prefix.length
            self._advance(done=prefix.length)
        starts.append((index, self._wanted[index]))

    def _make_directories(self) -> list[Judgment]:
        judged: list[Judgment] = []
        for index, entry in enumerate(self._entries):
            if not entry.is_dir:
                continue
            try:
                self._store.make_directory(entry)
            except TransferError as error:
                judged.append((Verdict(index, error.kind, str(error)), None))
            except OSError as error:
                raise storage_error(error, repr(entry.path)) from error
        return judged

    def _judge(self, judged: list[Judgment]) -> None:
        for verdict, digest in judged:
            self._verdicts[verdict.index] = verdict
            self._say(verdict)
            if digest is not None:
                self._digests[verdict.index] = digest
                self._progress.files_done += 1
            if verdict.status == "identical":
                self._progress.done += self._entries[verdict.index].size
        if judged:
            self._advance()

    def _advance(self, moved: int = 0, done: int = 0) -> None:
        self._progress.moved += moved
        self._progress.done += moved + done
        self._on_progress(self._progress)

    # -- content

    async def _read_content(self) -> None:
        writer = Writer(self._store, self._entries, self._wanted, self._prefixes)
        jobs_in, jobs = trio.open_memory_channel[list[Operation]](1)

        async def write() -> None:
            async for job in jobs:
                self._judge(await trio.to_thread.run_sync(writer.apply, job))

        failure: NetmeshError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                with jobs_in:
                    try:
                        await self._batch_content(jobs_in)
                    except NetmeshError as error:
                        # What came before the end still goes to the disk: less to send again.
                        failure = error
        finally:
            writer.close()
        if failure is not None:
            raise failure
        if writer.missing:
            raise _protocol(f"{writer.missing} files that were never sent")

    async def _batch_content(self, jobs: trio.MemorySendChannel[list[Operation]]) -> None:
        """Cut what comes into jobs of some CHUNK bytes, or less whenever the disk has nothing to
        do.
        """
        batch: list[Operation] = []
        cost = moved = 0
        try:
            while True:
                if not self._items:
                    self._advance(moved)
                    moved = 0
                    await self._fill()
                    continue
                item = self._items.popleft()
                if isinstance(item, memoryview):
                    batch.append(item)
                    cost += len(item)
                    moved += len(item)
                elif isinstance(item, (FileStart, FileEnd, FileAbort)):
                    batch.append(item)
                    cost += _CONTROL_COST
                elif isinstance(item, Done):
                    return
                else:
                    raise _unexpected(item)
                if cost >= CHUNK:
                    await jobs.send(batch)
                    batch, cost = [], 0
                elif not self._items and isinstance(item, (FileEnd, FileAbort)):
                    try:
                        jobs.send_nowait(batch)
                    except trio.WouldBlock:
                        continue
                    batch, cost = [], 0
        finally:
            self._advance(moved)
            if batch:
                await jobs.send(batch)

    def outcome(self, seconds: float) -> Outcome:
        """After a conversation that went through: what is in place."""
        offer, entries = self._offer, self._entries
        bad = [verdict for _, verdict in sorted(self._verdicts.items()) if not verdict.ok]
        if bad:
            digest = ""
        else:
            digest = (tree_digest(entries, self._digests) if offer.is_dir else self._digests[0]).hex()
        return Outcome(
            root=offer.root,
            is_dir=offer.is_dir,
            files=len(self._digests),
            bytes=sum(entries[index].size for index in self._digests),
            moved=self._progress.moved,
            seconds=seconds,
            digest=digest,
            failures=tuple(Failure(entries[v.index].path, v.status, v.message) for v in bad),
        )


def _protocol(what: object) -> TransferError:
    return TransferError("protocol", f"the sender does not follow the transfer protocol: {what}")


def _unexpected(message: Message | memoryview) -> TransferError:
    if isinstance(message, Fail):
        return TransferError(message.kind, message.message, remote=True)
    return _protocol(f"a {type(message).__name__} out of turn")
