"""The sending half of a stream: what the program wrote and the peer has not acknowledged yet."""

from __future__ import annotations

from bisect import bisect_right

from ..octets import octets
from .ranges import RangeSet

__all__ = ["SendStream"]

# Writes from this size on are kept as they are, without a copy; smaller ones are gathered.
_KEEP = 8192
_GATHER = 65536


class SendStream:
    """Sending half of one stream.  Offsets and sizes are bytes from the start of the stream.

    Data below ``base`` is acknowledged and gone, ``[base, next)`` was sent, ``[next, end)`` was not yet.
    """

    __slots__ = (
        "_acked",
        "_blobs",
        "_lost",
        "_starts",
        "base",
        "end",
        "fin",
        "fin_acked",
        "fin_pending",
        "id",
        "limit",
        "most",
        "next",
        "priority",
        "queued",
        "quota",
        "reset_acked",
        "reset_code",
        "stop_code",
    )

    def __init__(self, stream_id: int, limit: int, priority: int, most: int = 1 << 62) -> None:
        self.id: int = stream_id
        #: The highest offset that the peer lets us send (flow control).
        self.limit: int = limit
        #: Bytes that may be under way, whatever the peer allows: all after one that it never acknowledges is kept.
        self.most: int = most
        self.priority: int = priority
        self.base: int = 0
        self.next: int = 0
        self.end: int = 0
        #: The program wrote its last byte.
        self.fin: bool = False
        self.fin_pending: bool = False
        self.fin_acked: bool = False
        self.reset_code: int | None = None
        self.reset_acked: bool = False
        #: The code with which the peer asked us to stop.
        self.stop_code: int | None = None
        # the scheduler's: whether it stands in line, and the packets left of its turn
        self.queued: bool = False
        self.quota: int = 0
        self._starts: list[int] = []
        self._blobs: list[bytes | bytearray | memoryview] = []
        self._acked = RangeSet()
        self._lost = RangeSet()

    @property
    def unsent(self) -> int:
        """Bytes written and never sent."""
        return self.end - self.next

    @property
    def done(self) -> bool:
        """Everything that will ever be sent has been acknowledged."""
        return self.fin_acked and self.base == self.end if self.reset_code is None else self.reset_acked

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``.  Large ``bytes``, or views of some, are referred to, everything else is copied.

        Raises TypeError for what is not bytes; the stream is as it was then.
        """
        if type(data) is not bytes:
            data = octets(data)
        size = len(data)
        if self.reset_code is not None:
            return
        if size >= _KEEP:
            owner = data.obj if type(data) is memoryview and data.c_contiguous else data
            self._starts.append(self.end)
            self._blobs.append(data if type(owner) is bytes else bytes(data))
        elif size:
            last = self._blobs[-1] if self._blobs else None
            if type(last) is bytearray and len(last) < _GATHER:
                last += data
            else:
                self._starts.append(self.end)
                self._blobs.append(bytearray(data))
        self.end += size

    def finish(self) -> None:
        """No more will be written."""
        if not self.fin:
            self.fin = self.fin_pending = True

    def reset(self, code: int) -> None:
        """Drop everything not acknowledged; the peer gets ``code`` instead."""
        if self.reset_code is None and not self.done:
            self.reset_code = code
            self.fin = True
            self.fin_pending = False
            self._starts.clear()
            self._blobs.clear()
            self._lost = RangeSet()
            self.end = self.next

    @property
    def lost(self) -> bool:
        """Something must be sent again."""
        return bool(self._lost.starts)

    @property
    def _bound(self) -> int:
        """The first offset that may not be sent: by what the peer allows, or by what we keep for it."""
        return min(self.limit, self.base + self.most)

    def sendable(self, credit: int) -> bool:
        """Whether a frame can be made, given ``credit`` bytes of the session's flow control."""
        if self._lost.starts:
            return True
        if self.next == self.end:
            return self.fin_pending
        return credit > 0 and self.next < self._bound

    def read(self, start: int, stop: int) -> bytes | bytearray | memoryview:
        """The bytes ``[start, stop)``, which are not acknowledged yet."""
        at = bisect_right(self._starts, start) - 1
        blob = self._blobs[at]
        begin = start - self._starts[at]
        if stop - self._starts[at] <= len(blob):
            return blob[begin : begin + stop - start]
        parts = [blob[begin:]]
        have = len(parts[0])
        while have < stop - start:
            at += 1
            part = self._blobs[at][: stop - start - have]
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def take_bulk(self, chunk: int, count: int, credit: int) -> list[tuple[bytes | bytearray | memoryview, int, int]]:
        """New data of up to ``count`` pieces of ``chunk`` bytes, counted as sent.

        Returns runs, in order: ``(buffer, where in it, how many pieces)``.
        """
        starts = self._starts
        left = min(count, min(self.end - self.next, credit, self._bound - self.next) // chunk)
        runs: list[tuple[bytes | bytearray | memoryview, int, int]] = []
        at = bisect_right(starts, self.next) - 1
        while left > 0:
            blob = self._blobs[at]
            begin = self.next - starts[at]
            whole = min(left, (len(blob) - begin) // chunk)
            if whole:
                runs.append((blob, begin, whole))
            else:
                whole = 1
                runs.append((self.read(self.next, self.next + chunk), 0, 1))
            self.next += whole * chunk
            left -= whole
            while at + 1 < len(starts) and starts[at + 1] <= self.next:
                at += 1
        return runs

    def take(self, room: int, credit: int) -> tuple[int, bytes | bytearray | memoryview, bool, bool]:
        """What to send next in ``room`` bytes: ``(offset, data, fin, whether it is new data)``.

        Lost data goes first.  Empty data without fin means that there is nothing.
        """
        while self._lost.starts:
            start = self._lost.starts[0]
            stop = self._lost.stops[0]
            gaps = self._acked.missing(max(start, self.base), stop)
            if not gaps:
                self._lost.forget_lowest(1)
                continue
            start, gap_stop = gaps[0]
            end = min(gap_stop, start + room)
            if end >= stop:
                self._lost.forget_lowest(1)
            else:
                self._lost.starts[0] = end
            fin = self.fin_pending and end == self.end
            if fin:
                self.fin_pending = False
            return start, self.read(start, end), fin, False
        start = self.next
        end = min(self.end, start + room, start + credit, max(start, self._bound))
        data = self.read(start, end) if end > start else b""
        self.next = end
        fin = self.fin_pending and end == self.end
        if fin:
            self.fin_pending = False
        return start, data, fin, True

    def on_acked(self, offset: int, length: int, fin: bool) -> None:
        """The peer has ``[offset, offset + length)``, and the end of the stream if ``fin``."""
        if fin:
            self.fin_acked = True
        if not length or self.reset_code is not None:
            return
        if offset <= self.base and not self._acked.starts:
            self.base = max(self.base, offset + length)
        else:
            if offset + length <= self.base:
                return
            self._acked.add(max(offset, self.base), offset + length)
            if self._acked.starts[0] <= self.base:
                self.base = self._acked.forget_lowest(1)
        starts = self._starts
        drop = 0
        while drop < len(starts) and starts[drop] + len(self._blobs[drop]) <= self.base:
            drop += 1
        if drop:
            # a gathering buffer that is wholly sent is dropped too: the next write starts another
            del starts[:drop]
            del self._blobs[:drop]

    def on_lost(self, offset: int, length: int, fin: bool) -> None:
        """A packet with this data is lost."""
        if self.reset_code is not None:
            return
        if fin and not self.fin_acked:
            self.fin_pending = True
        start = max(offset, self.base)
        if start < offset + length:
            self._lost.add(start, offset + length)
