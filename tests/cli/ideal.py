"""A pair of streams for tests of the transfer: bounded, in memory, cut or changed at will."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio


class _Direction:
    """What one end sends and the other receives."""

    def __init__(self, limit: int | None, change: Callable[[bytes], bytes] | None) -> None:
        self.left = limit
        self.change = change
        self.pieces: deque[bytes] = deque()
        self.ended = False
        self.broken = False
        self.moved = trio.lowlevel.ParkingLot()

    def wake(self) -> None:
        self.moved.unpark_all()


class End(trio.abc.HalfCloseableStream):
    """One end.  ``chunk`` is the most that one receive gives."""

    def __init__(self, out: _Direction, into: _Direction, chunk: int) -> None:
        self._out = out
        self._in = into
        self._chunk = chunk

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        out = self._out
        sent = bytes(data) if out.change is None else out.change(bytes(data))
        for start in range(0, len(sent), self._chunk):
            while len(out.pieces) >= 8 and not out.broken and not self._in.broken:
                await out.moved.park()
            if out.broken or self._in.broken:
                raise trio.BrokenResourceError("cut")
            piece = sent[start : start + self._chunk]
            if out.left is not None:
                piece = piece[: out.left]
                out.left -= len(piece)
            out.pieces.append(piece)
            out.wake()
            if out.left == 0:
                self.cut()

    def cut(self) -> None:
        """As if the peer's machine lost its power."""
        for direction in (self._out, self._in):
            direction.broken = True
            direction.wake()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self._out.ended = True
        self._out.wake()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        into = self._in
        while not into.pieces:
            if into.broken:
                raise trio.BrokenResourceError("cut")
            if into.ended:
                return b""
            await into.moved.park()
        piece = into.pieces.popleft()
        into.wake()
        return piece

    async def aclose(self) -> None:
        # As a real stream: the other side can read what was sent, and cannot send any more.
        self._out.ended = True
        self._in.broken = True
        self._out.wake()
        self._in.wake()
        await trio.lowlevel.checkpoint()


def stream_pair(
    *,
    limit: int | None = None,
    change: Callable[[bytes], bytes] | None = None,
    chunk: int = 64 * 1024,
) -> tuple[End, End]:
    """Two ends; what the first sends goes through ``change`` and breaks after ``limit`` bytes."""
    there, back = _Direction(limit, change), _Direction(None, None)
    return End(there, back, chunk), End(back, there, chunk)
