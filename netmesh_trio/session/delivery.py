"""What becomes of what a session sent: acknowledged, lost and to be sent again, or late (RFC 9002)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..paths.path import Path, PathKind
from ..wire.errors import DecodeError
from ..wire.packets import BASE_DATAGRAM_SIZE
from .recovery import LostLately, Reset, Sent, StreamData
from .send_stream import SendStream

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Delivery"]

_INFINITY = float("inf")


class Delivery:
    """Acknowledgements and losses of one session."""

    __slots__ = ("_lost_lately", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lost_lately = LostLately()

    def refer_to(self, session: Session) -> None:
        """Use another reference to the session."""
        self._session = session

    def on_ack(self, runs: Sequence[tuple[int, int]], delay: float, arrived: Path, now: float) -> None:
        """The peer acknowledges packets; the ACK came on the path ``arrived``."""
        session = self._session
        largest = runs[0][1]
        if largest >= session.out.next_number:
            raise DecodeError("acknowledgement of a packet that was never sent")
        if self._lost_lately.records:
            self._on_late(runs, now)
        acked = session.sent.acknowledge(runs)
        if not acked:
            return
        path = acked[0].path
        for record in acked:
            if record.path is not path:
                break
        else:
            self._on_ack_path(path, acked, largest, delay, arrived, now)
            self.detect_lost(now)
            return
        per_path: dict[Path, list[Sent]] = {}
        for record in acked:
            per_path.setdefault(record.path, []).append(record)
        for path, records in per_path.items():
            self._on_ack_path(path, records, largest, delay, arrived, now)
        self.detect_lost(now)

    def _on_late(self, runs: Sequence[tuple[int, int]], now: float) -> None:
        """Is anything acknowledged that was taken for lost?"""
        for record, whole in self._lost_lately.take(runs):
            path = record.path
            path.on_late(record.first, record.time, now)
            if whole:
                path.congestion.on_late(record.total, record.time)
                if record.stream is not None:
                    self._on_stream_acked(record.stream, record.offset, record.count * record.chunk, False)

    def _on_ack_path(
        self, path: Path, records: list[Sent], largest: int, delay: float, arrived: Path, now: float
    ) -> None:
        session = self._session
        newest = records[0]
        size = count = 0
        for record in records:
            if record.last > newest.last:
                newest = record
            packets = record.last - record.first + 1
            count += packets
            size += packets * record.size
            stream = record.stream
            if stream is None:
                self._delivered(record)
            else:
                self._on_stream_acked(stream, record.offset, packets * record.chunk, False)
        if newest.last > path.largest_acked:
            path.largest_acked = newest.last
        if newest.last == largest:
            path.rtt.sample(now - newest.time, delay)
        path.eliciting_in_flight -= count
        path.waiting_since = now
        session.unacknowledged_since = _INFINITY
        # over another path it may say what came before this one fell silent; and if this one brings us nothing, that
        # our packets get through is not enough
        heard = path.kind is PathKind.RELAYED or path.last_received >= path.doubted_at
        if arrived is path or (heard and newest.time >= path.doubted_at):
            path.pto_count = 0
            path.suspect = False
        elif path.pto_count and path is session.path:
            session.out.ping = True  # ask on: only an answer on this path clears it
        if newest.size > BASE_DATAGRAM_SIZE:
            path.mtu.large_lost = 0
        path.congestion.on_acked(size, newest.time, path.rtt.latest, newest.last, session.out.next_number, now)

    def _on_stream_acked(self, stream: SendStream, offset: int, length: int, fin: bool) -> None:
        stream.on_acked(offset, length, fin)
        if stream.next < stream.end:
            self._session.streams.enqueue(stream)  # it may have waited for this
        if stream.fin:
            self._session.forget_if_done(stream.id)

    def _delivered(self, record: Sent) -> None:
        if record.probe:
            if record.path.mtu.on_probe_acked(record.size):
                record.path.size_changed()
            return
        for frame in record.frames:
            if isinstance(frame, StreamData):
                self._on_stream_acked(frame.stream, frame.offset, frame.length, frame.fin)
            elif isinstance(frame, Reset):
                frame.stream.reset_acked = True
                self._session.forget_if_done(frame.stream.id)

    def detect_lost(self, now: float) -> None:
        """Send again what is lost by now, and tell congestion control."""
        session = self._session
        top = -1
        waiting = 0
        for path in session.paths.values():
            path.loss_time = _INFINITY
            if path.largest_acked > top:
                top = path.largest_acked
            if path.eliciting_in_flight:
                waiting += 1
        records = session.sent.records
        if not records or records[0].first > top:
            return
        per_path: dict[Path, list[Sent]] = {}
        for record in session.sent.detect_lost(top, now, waiting):
            record.path.eliciting_in_flight -= record.count
            if self._send_again(record, now):
                per_path.setdefault(record.path, []).append(record)
        for path, lost in per_path.items():
            newest = max(record.time for record in lost)
            self._lost_lately.add(lost)
            if path.congestion.on_lost(sum(record.total for record in lost), newest, now):
                path.on_cut()
            if any(record.size > BASE_DATAGRAM_SIZE for record in lost) and path.mtu.on_large_lost(now):
                path.size_changed()
            if newest - min(record.time for record in lost) > 3 * path.rtt.pto() and path.rtt.samples:
                path.congestion.on_persistent_congestion()

    def probe_unanswered(self, path: Path, now: float) -> bool:
        """Nothing but a probe for a larger size is under way on the path, and that is overdue: it is lost, and
        says nothing about the path.  False if there is anything else."""
        sent = self._session.sent
        if not all(record.probe for record in sent.records if record.path is path):
            return False
        for record in sent.take_path(path):
            self._send_again(record, now)
        path.eliciting_in_flight = 0
        return True

    def give_up(self, path: Path, now: float) -> None:
        """The path is left: what it still owes us goes out again on another, which says nothing about congestion."""
        for record in self._session.sent.take_path(path):
            if self._send_again(record, now):
                path.congestion.on_discarded(record.total)
        path.eliciting_in_flight = 0

    def _send_again(self, record: Sent, now: float) -> bool:
        """False if it was a probe for a larger size, which is not repeated and whose loss means nothing else."""
        self._session.stats.packets_lost += record.count
        if record.probe:
            record.path.mtu.on_probe_lost(record.size, now)
            record.path.congestion.on_discarded(record.total)
            return False
        self._session.out.again(record)
        return True
