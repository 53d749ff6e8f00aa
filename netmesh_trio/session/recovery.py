"""What was sent and is not yet acknowledged; which of it is lost (RFC 9002, sections 5 and 6).

The books are kept by runs: a batch of full packets that carries consecutive bytes of one stream is one record.  An
acknowledgement or a loss that covers part of a record splits it, so nothing has to be kept per packet until a packet
is missing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter

from ..paths.path import Path
from .send_stream import SendStream

__all__ = ["Control", "FrameRecord", "LostLately", "Reset", "Sent", "SentPackets", "Stop", "StreamData", "Window"]

_MAX_LOST_LATELY = 64

_last: Callable[[Sent], int] = attrgetter("last")


class StreamData:
    """Record of a STREAM frame."""

    __slots__ = ("fin", "length", "offset", "stream")

    def __init__(self, stream: SendStream, offset: int, length: int, fin: bool) -> None:
        self.stream: SendStream = stream
        self.offset: int = offset
        self.length: int = length
        self.fin: bool = fin


class Control:
    """Record of a frame that is sent again, as it is, until it arrives."""

    __slots__ = ("frame",)

    def __init__(self, frame: bytes) -> None:
        self.frame: bytes = frame


class Reset:
    """Record of a RESET_STREAM frame."""

    __slots__ = ("frame", "stream")

    def __init__(self, stream: SendStream, frame: bytes) -> None:
        self.stream: SendStream = stream
        self.frame: bytes = frame


class Stop:
    """Record of a STOP_SENDING frame for a stream."""

    __slots__ = ("frame", "stream_id")

    def __init__(self, stream_id: int, frame: bytes) -> None:
        self.stream_id: int = stream_id
        self.frame: bytes = frame


class Window:
    """Record of a stream-window message: on loss the then newest limits are sent."""

    __slots__ = ("stream_ids",)

    def __init__(self, stream_ids: Sequence[int]) -> None:
        self.stream_ids: Sequence[int] = stream_ids


FrameRecord = StreamData | Control | Reset | Stop | Window


class Sent:
    """Packets ``first`` to ``last``, all of ``size`` bytes, sent together.

    Either each carries ``chunk`` bytes of ``stream`` from ``offset`` on, or it is a single packet with ``frames``.
    """

    __slots__ = ("chunk", "first", "frames", "last", "offset", "path", "probe", "size", "stream", "time")

    def __init__(
        self,
        first: int,
        last: int,
        size: int,
        path: Path,
        time: float,
        stream: SendStream | None,
        offset: int,
        chunk: int,
        frames: Sequence[FrameRecord],
        probe: bool = False,
    ) -> None:
        self.first: int = first
        self.last: int = last
        self.size: int = size
        self.path: Path = path
        self.time: float = time
        self.stream: SendStream | None = stream
        self.offset: int = offset
        self.chunk: int = chunk
        self.frames: Sequence[FrameRecord] = frames
        #: A probe for a larger datagram: its loss says nothing about congestion.
        self.probe: bool = probe

    @property
    def count(self) -> int:
        """How many packets."""
        return self.last - self.first + 1

    @property
    def total(self) -> int:
        """Bytes of all its packets."""
        return self.count * self.size

    def split(self, number: int) -> Sent:
        """Cut before packet ``number``; self keeps the earlier part, the later is returned."""
        later = Sent(
            number,
            self.last,
            self.size,
            self.path,
            self.time,
            self.stream,
            self.offset + (number - self.first) * self.chunk,
            self.chunk,
            self.frames,
            self.probe,
        )
        self.last = number - 1
        return later


class SentPackets:
    """Ack-eliciting packets in flight, in the order of their numbers."""

    __slots__ = ("records",)

    def __init__(self) -> None:
        self.records: list[Sent] = []

    def _find(self, number: int) -> int:
        """Index of the first record that ends at ``number`` or later."""
        records = self.records
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            if records[middle].last < number:
                low = middle + 1
            else:
                high = middle
        return low

    def acknowledge(self, runs: Sequence[tuple[int, int]]) -> list[Sent]:
        """Take out what ``runs`` (newest first) acknowledges; newest records first by run."""
        records = self.records
        if len(runs) == 1 and records and runs[0][0] <= records[0].first and runs[0][1] >= records[-1].last:
            self.records = []
            return records
        taken: list[Sent] = []
        for first, last in runs:
            if not records or last < records[0].first:
                break  # runs only get older
            i = self._find(first)
            if i == len(records) or records[i].first > last:
                continue
            if records[i].first < first:
                records.insert(i + 1, records[i].split(first))
                i += 1
            j = self._find(last + 1)
            if j < len(records) and records[j].first <= last:
                records.insert(j + 1, records[j].split(last + 1))
                j += 1
            taken += records[i:j]
            del records[i:j]
        return taken

    def detect_lost(self, top: int, now: float, waiting: int) -> list[Sent]:
        """Take out what counts as lost now, and lower each path's next loss time to when more would.

        ``top`` is the largest packet number acknowledged on any path, ``waiting`` on how many paths something is under
        way.

        Numbers are compared within a path only: two paths reorder each other all the time.
        """
        lost: list[Sent] = []
        kept: list[Sent] = []
        # Of one path, numbers and times only grow: behind the first that is not lost nothing is.  A peer that
        # acknowledges every other packet leaves thousands of records, not to be gone through for each of its words.
        settled: set[Path] = set()
        stop = 0
        for record in self.records:
            if record.first > top or len(settled) >= waiting:
                break
            stop += 1
            path = record.path
            if path in settled:
                kept.append(record)
                continue
            if record.first > path.largest_acked:
                kept.append(record)
                settled.add(path)
                continue
            deadline = record.time + path.rtt.loss_delay(path.patience)
            if deadline <= now or record.last <= path.largest_acked - path.packet_threshold:
                if record.last < path.largest_acked:
                    lost.append(record)
                    continue
            elif record.first <= path.largest_acked - path.packet_threshold:
                kept.append(record.split(path.largest_acked - path.packet_threshold + 1))
                lost.append(record)
                path.loss_time = min(path.loss_time, deadline)
                settled.add(path)
                continue
            path.loss_time = min(path.loss_time, deadline)
            kept.append(record)
            settled.add(path)
        if lost:
            self.records[:stop] = kept
        return lost

    def take_path(self, path: Path) -> list[Sent]:
        """Take out everything sent on ``path``: it is given up."""
        taken = [r for r in self.records if r.path is path]
        if taken:
            self.records = [r for r in self.records if r.path is not path]
        return taken

    def oldest(self, path: Path) -> Sent | None:
        """The oldest record on ``path``."""
        return next((r for r in self.records if r.path is path), None)


class LostLately:
    """What was taken for lost not long ago: if it is acknowledged after all, the network only reordered it."""

    __slots__ = ("records",)

    def __init__(self) -> None:
        #: By their numbers; each has been given up, and was as a rule sent again.
        self.records: list[Sent] = []

    def add(self, lost: Sequence[Sent]) -> None:
        """Remember these; of many, the newest."""
        self.records += lost
        self.records.sort(key=lambda record: record.first)
        del self.records[:-_MAX_LOST_LATELY]

    def take(self, runs: Sequence[tuple[int, int]]) -> list[tuple[Sent, bool]]:
        """Take out what ``runs`` (newest first) acknowledges, even in part; with whether it is all of it."""
        found: list[tuple[Sent, bool]] = []
        records = self.records
        for first, last in runs:
            low = bisect_left(records, first, key=_last)
            high = low
            while high < len(records) and records[high].first <= last:
                high += 1
            if high > low:
                found += [(each, first <= each.first and last >= each.last) for each in reversed(records[low:high])]
                del records[low:high]
        return found
