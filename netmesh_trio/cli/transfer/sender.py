"""The sending side of a transfer, over any trio stream."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.cli.transfer.messages import (
    CHUNK,
    DIGEST_SIZE,
    Decoder,
    Done,
    Fail,
    Have,
    HaveEnd,
    Message,
    Proof,
    Result,
    Start,
    StartEnd,
    Verdict,
    encode,
    entry_batches,
    hashing_batches,
    new_hash,
)
from netmesh_trio.cli.transfer.outcome import (
    Failure,
    Outcome,
    Progress,
    ProgressHook,
    gone,
    lone_error,
    no_progress,
)
from netmesh_trio.cli.transfer.source import Source
from netmesh_trio.wire.errors import DecodeError

__all__ = ["send_files"]

_SMALL = 16 * 1024
_LAST_WORDS = 3.0


async def send_files(
    stream: trio.abc.HalfCloseableStream, source: Source, on_progress: ProgressHook = no_progress
) -> Outcome:
    """Offer ``source`` over ``stream``, send what the receiver wants, and return its verdict on
    every file.

    Files that the receiver did not put in place are in ``outcome.failures``.  TransferError when
    the transfer as a whole fails; the errors of the stream's session otherwise.  The stream is
    left to the caller to close.
    """
    sender = _Sender(stream, source, on_progress)
    started = trio.current_time()
    with lone_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.listen)
            await sender.talk()
    return sender.outcome(trio.current_time() - started)


class _Sender:
    """``talk`` sends in the order of the protocol; ``listen`` takes all that comes, at any time,
    and checks it.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, source: Source, on_progress: ProgressHook) -> None:
        self._stream = stream
        self._source = source
        self._on_progress = on_progress
        self._sizes = {index: entry.size for index, entry in enumerate(source.entries) if not entry.is_dir}
        self._progress = Progress(source.offer.root, files=len(self._sizes), total=source.offer.total)
        self._haves: dict[int, int] = {}
        self._offsets: dict[int, int] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._all_haves = trio.Event()
        self._all_starts = trio.Event()
        self._all_sent = False
        self._result: Result | None = None

    # -- what the receiver says

    async def listen(self) -> None:
        """Take messages until RESULT."""
        decoder = Decoder()
        while self._result is None:
            try:
                chunk = await self._stream.receive_some(64 * 1024)
            except trio.BrokenResourceError as error:
                raise gone(error, self._progress) from error
            if not chunk:
                raise gone(None, self._progress)
            try:
                for item in decoder.feed(chunk):
                    if isinstance(item, memoryview):
                        raise DecodeError("content from the receiver")
                    self._heard(item)
            except DecodeError as error:
                raise TransferError(
                    "protocol", f"the receiver does not follow the transfer protocol: {error}"
                ) from None

    def _heard(self, message: Message) -> None:
        if isinstance(message, Verdict):
            self._judged(message)
        elif isinstance(message, Have) and message.items and not self._all_haves.is_set():
            for index, length in message.items:
                if index in self._haves or not 0 < length <= self._sizes.get(index, -1):
                    raise DecodeError("a HAVE that does not fit the offer")
                self._haves[index] = length
        elif isinstance(message, HaveEnd):
            self._all_haves.set()
        elif isinstance(message, Start) and message.items and not self._all_starts.is_set():
            for index, offset in message.items:
                if index in self._offsets or offset not in (0, self._haves.get(index)):
                    raise DecodeError("a START that does not fit what was said before")
                self._offsets[index] = offset
                self._advance(done=offset)
        elif isinstance(message, StartEnd) and self._all_haves.is_set():
            self._all_starts.set()
        elif isinstance(message, Result) and self._all_sent and self._result is None:
            self._result = message
        elif isinstance(message, Fail):
            raise TransferError(message.kind, message.message, remote=True)
        else:
            raise DecodeError(f"a {type(message).__name__} out of turn")

    def _judged(self, verdict: Verdict) -> None:
        index = verdict.index
        if index in self._verdicts or not 0 <= index < len(self._source.entries):
            raise DecodeError("a verdict on a file that was not offered, or a second one")
        if verdict.ok and index not in self._source.digests:
            # Nothing but an empty file can be in place before we showed its hash.
            if self._sizes.get(index) != 0:
                raise DecodeError("a verdict on a file before it was sent")
            self._source.digests[index] = new_hash().digest()
        self._verdicts[index] = verdict
        if verdict.ok:
            self._progress.files_done += 1
            if verdict.status == "identical":
                self._advance(done=self._sizes[index])
            else:
                self._advance()

    def _advance(self, moved: int = 0, done: int = 0) -> None:
        self._progress.moved += moved
        self._progress.done += moved + done
        self._on_progress(self._progress)

    # -- what we say

    async def talk(self) -> None:
        """Say everything up to DONE."""
        await self._send(encode(self._source.offer))
        for batch in entry_batches(self._source.entries):
            await self._send(encode(batch))
        await self._all_haves.wait()
        await self._send_proofs()
        await self._all_starts.wait()
        wanted = {index: self._offsets.get(index, 0) for index in self._sizes if index not in self._verdicts}
        await self._send_content(wanted)
        self._all_sent = True
        await self._send(encode(Done()))

    async def _send(self, data: bytes | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            # The reason may be on its way to the listener, who then ends us with it.
            with trio.move_on_after(_LAST_WORDS):
                await trio.sleep_forever()
            raise gone(error, self._progress) from error

    async def _send_proofs(self) -> None:
        for batch in hashing_batches(self._haves.items()):
            pairs = await trio.to_thread.run_sync(self._proofs, batch)
            await self._send(encode(Proof(pairs)))

    def _proofs(self, batch: list[tuple[int, int]]) -> tuple[tuple[int, bytes], ...]:
        return tuple((index, self._proof(index, length)) for index, length in batch)

    def _proof(self, index: int, length: int) -> bytes:
        try:
            return self._source.prefix_digest(index, length)
        except TransferError:
            # No hash has this value: the receiver starts afresh, and reading the file then says
            # what is wrong.
            return bytes(DIGEST_SIZE)

    async def _send_content(self, wanted: dict[int, int]) -> None:
        """Read one batch ahead in a thread while the stream takes the last one."""
        frames = self._source.frames(wanted)
        batches_in, batches = trio.open_memory_channel[list[bytes | memoryview]](1)

        async def read() -> None:
            async with batches_in:
                while batch := await trio.to_thread.run_sync(_take, frames):
                    await batches_in.send(batch)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                async for batch in batches:
                    await self._send_batch(batch)
        finally:
            frames.close()

    async def _send_batch(self, batch: list[bytes | memoryview]) -> None:
        small: list[bytes | memoryview] = []
        moved = 0
        for piece in batch:
            if isinstance(piece, memoryview):
                moved += len(piece)
            if len(piece) <= _SMALL:
                small.append(piece)
                continue
            if small:
                await self._send(b"".join(small))
                small.clear()
            await self._send(piece)
        if small:
            await self._send(b"".join(small))
        self._advance(moved=moved)

    def outcome(self, seconds: float) -> Outcome:
        """After the last word: what came of it.  TransferError if the receiver contradicts
        itself.
        """
        source, result = self._source, self._result
        good = sum(verdict.ok for verdict in self._verdicts.values())
        bad = len(self._verdicts) - good
        missing = sum(index not in self._verdicts for index in self._sizes)
        if result is None or missing or result != Result(good, bad):
            raise TransferError("protocol", "the receiver's last word does not fit its verdicts; nothing is sure")
        return Outcome(
            root=source.offer.root,
            is_dir=source.offer.is_dir,
            files=good,
            bytes=sum(size for index, size in self._sizes.items() if self._verdicts[index].ok),
            moved=self._progress.moved,
            seconds=seconds,
            digest="" if bad or source.failed else source.digest().hex(),
            failures=(
                *source.failed,
                *(
                    Failure(source.entries[index].path, verdict.status, verdict.message)
                    for index, verdict in sorted(self._verdicts.items())
                    if not verdict.ok
                ),
            ),
            skipped=tuple(source.skipped),
        )


def _take(frames: Iterator[bytes | memoryview]) -> list[bytes | memoryview]:
    """The next frames, some CHUNK bytes of them; none at the end."""
    batch: list[bytes | memoryview] = []
    size = 0
    for piece in frames:
        batch.append(piece)
        size += len(piece)
        if size >= CHUNK:
            break
    return batch
