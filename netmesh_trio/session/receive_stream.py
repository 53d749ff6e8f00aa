"""The receiving half of a stream: puts the pieces in order and holds them until the program reads."""

from __future__ import annotations

from collections import deque

from ..wire.errors import DecodeError
from .ranges import RangeSet

__all__ = ["PieceBudget", "ReceiveStream"]

# In-order pieces below this size are gathered: objects would cost more than the bytes in them.
_SMALL = 256
_GATHER = 4096
# Runs that one stream holds with something missing before each, whatever its window: to put one more among them takes
# the longer the more there are.  Of a larger window packets of some size leave no more than this part.
_RUNS = 8192
_RUNS_PART = 2048


class PieceBudget:
    """Pieces that all streams of a session together hold out of order, or know to have come though nobody reads them.
    A full window of ordinary packets stays far below the limit; tiny pieces, of which each costs more than its bytes,
    do not."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = 65536) -> None:
        self.limit: int = limit
        self.used: int = 0


class ReceiveStream:
    """Receiving half of one stream.  ``next`` is the first byte not yet received in order, ``consumed`` the first
    not yet read by the program, ``limit`` the first that the peer may not send (flow control)."""

    __slots__ = (
        "_budget",
        "_charged",
        "_chunks",
        "_held",
        "_pieces",
        "consumed",
        "final_size",
        "highest",
        "id",
        "limit",
        "next",
        "reset_code",
        "stop_code",
        "window",
    )

    def __init__(self, stream_id: int, window: int, budget: PieceBudget | None = None) -> None:
        self.id: int = stream_id
        self.window: int = window
        self.limit: int = window
        self.next: int = 0
        self.consumed: int = 0
        self.highest: int = 0
        self.final_size: int | None = None
        self.reset_code: int | None = None
        #: We asked the peer to stop; what still comes is acknowledged and thrown away.
        self.stop_code: int | None = None
        self._budget = budget or PieceBudget()
        self._charged = 0
        self._chunks: deque[bytes | bytearray] = deque()
        self._pieces: dict[int, bytes] = {}
        self._held = RangeSet()

    @property
    def readable(self) -> bool:
        """A read would return something: data, the end, or the reset."""
        return bool(self._chunks) or self.at_end or self.reset_code is not None

    @property
    def at_end(self) -> bool:
        """Everything was read, to the end of the stream.  One that was reset has no end, only a code."""
        return self.reset_code is None and self.final_size is not None and self.consumed == self.final_size

    @property
    def complete(self) -> bool:
        """Nothing more can come."""
        return self.reset_code is not None or self.final_size == self.next

    def push(self, offset: int, plain: bytes, start: int, stop: int, fin: bool) -> int:
        """Take in ``plain[start:stop]`` for ``offset``; return by how much the highest offset grew.

        Raises DecodeError when the peer breaks flow control or contradicts an earlier end of the stream.
        """
        end = offset + stop - start
        grown = end - self.highest
        if grown > 0:
            if end > self.limit or (self.final_size is not None and end > self.final_size):
                raise DecodeError("stream data beyond its limit")
            self.highest = end
        else:
            grown = 0
        if fin:
            if (self.final_size is not None and self.final_size != end) or end < self.highest:
                raise DecodeError("stream ends at two places")
            self.final_size = end
        if end <= self.next:
            return grown
        if self.stop_code is not None or self.reset_code is not None:
            # nobody reads it: only remember that it came
            self._held.add(max(offset, self.next), end)
            if self._held.starts[0] == self.next:
                self.next = self._held.forget_lowest(1)
            self._charge(len(self._held))
            return grown
        if offset == self.next and not self._pieces:
            if stop - start < _SMALL and self._chunks:
                self._append_small(plain[start:stop])
            else:
                self._chunks.append(plain[start:stop])
            self.next = end
            return grown
        for low, high in self._held.missing(max(offset, self.next), end):
            self._held.add(low, high)
            self._pieces[low] = plain[start + low - offset : start + high - offset]
        while (piece := self._pieces.pop(self.next, None)) is not None:
            if len(piece) < _SMALL and self._chunks:
                self._append_small(piece)
            else:
                self._chunks.append(piece)
            self.next += len(piece)
        self._charge(len(self._pieces))
        if self._held and self._held.starts[0] < self.next:
            if self._held.stops[0] <= self.next:
                self._held.forget_lowest(1)
            else:
                self._held.starts[0] = self.next
        return grown

    def _charge(self, pieces: int) -> None:
        if len(self._held) > max(_RUNS, self.window // _RUNS_PART):
            raise DecodeError("stream in too many pieces")
        budget = self._budget
        budget.used += pieces - self._charged
        self._charged = pieces
        if budget.used > budget.limit:
            raise DecodeError("streams in too many pieces")

    def _append_small(self, piece: bytes) -> None:
        last = self._chunks[-1]
        if type(last) is bytearray and len(last) < _GATHER:
            last += piece
        elif len(last) < _SMALL:
            self._chunks[-1] = bytearray(last) + piece
        else:
            self._chunks.append(piece)

    def reset(self, code: int, final_size: int) -> int:
        """The peer gave up the stream after ``final_size`` bytes; return by how much the highest offset grew."""
        if final_size < self.highest or self.final_size not in (None, final_size):
            raise DecodeError("stream reset at two places")
        if final_size > self.limit:
            raise DecodeError("stream reset beyond its limit")
        grown = final_size - self.highest
        self.highest = final_size
        if self.final_size == self.next:
            return grown  # all of it is here: the reset came too late to matter
        self.final_size = final_size
        self.reset_code = code
        return grown

    def discard(self) -> int:
        """Forget what was not read; return how many bytes the session's window gets back for it."""
        self._chunks.clear()
        self._pieces.clear()
        if self.reset_code is not None and self.final_size is not None:
            self.next = self.final_size
            self._held = RangeSet()
        # of a stream that goes on, which runs have come is still to be known
        self._budget.used += len(self._held) - self._charged
        self._charged = len(self._held)
        freed = self.next - self.consumed
        self.consumed = self.next
        return freed

    def read(self, max_bytes: int) -> bytes:
        """Up to ``max_bytes`` in order; ``b""`` when there is nothing now."""
        chunks = self._chunks
        if not chunks:
            return b""
        if len(chunks) == 1 and len(chunks[0]) <= max_bytes:
            chunk = chunks.popleft()
            data = chunk if type(chunk) is bytes else bytes(chunk)
        elif self.next - self.consumed <= max_bytes:
            data = b"".join(chunks)
            chunks.clear()
        else:
            parts = []
            room = max_bytes
            while room:
                part = chunks.popleft()
                if len(part) > room:
                    chunks.appendleft(part[room:])
                    part = part[:room]
                room -= len(part)
                parts.append(part)
            data = b"".join(parts)
        self.consumed += len(data)
        return data

    @property
    def wants_credit(self) -> bool:
        """Half of the window has been read: tell the peer the new limit."""
        return self.final_size is None and self.limit - self.consumed <= self.window // 2
