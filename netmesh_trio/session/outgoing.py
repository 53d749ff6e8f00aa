"""What a session sends next: packs frames into packets, batches of full packets first of all for speed."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..paths.path import Path
from ..wire import frames
from ..wire.packets import data_prefix
from .keys import pack_nonce
from .recovery import Control, FrameRecord, Reset, Sent, Stop, StreamData, Window
from .send_stream import SendStream
from .streams import SESSION
from .workspace import MAX_BATCH_BYTES, MAX_BATCH_PACKETS, Workspace

if TYPE_CHECKING:
    from .session import Session

__all__ = ["LOW_WATER", "Outgoing", "Transmit"]

#: A writer is woken when less than this many bytes of its stream are unsent.
LOW_WATER = 256 * 1024
_STREAM_LEN_HEADER = 15
_MAX_WINDOWS = 16
_INFINITY = float("inf")
# Packets of new data for which a full window waits until so many, or so much of it, may go out together.
_BURST = 6
_BURST_PART = 1 / 16

#: A packet number and a STREAM header, written in place.
_put_number = struct.Struct("<Q").pack_into
_put_stream_header = struct.Struct(">BIQ").pack_into


class Transmit(NamedTuple):
    """Datagrams for one path: ``pieces`` joined, cut every ``size`` bytes.  Good until the next transmission."""

    path: Path
    pieces: Sequence[bytes | memoryview]
    size: int
    total: int


class Outgoing:
    """The sending side of one session."""

    __slots__ = (
        "_probes_queue",
        "_session",
        "_workspace",
        "controls",
        "datagrams",
        "max_controls",
        "max_datagrams",
        "next_number",
        "pacing_until",
        "ping",
        "probes",
    )

    def __init__(self, session: Session, workspace: Workspace) -> None:
        self._session = session
        self._workspace = workspace
        self.next_number: int = 0
        #: Frames that are repeated until they arrive; :attr:`max_controls` bounds what callers add.
        self.controls: deque[Control | Reset | Stop] = deque()
        self.max_controls: int = 1024
        self.datagrams: deque[bytes] = deque()
        self.max_datagrams: int = 256
        self.ping: bool = False
        #: Packets that may go out though the window is full: nothing was acknowledged for too long.
        self.probes: int = 0
        self.pacing_until: float = _INFINITY
        self._probes_queue: deque[tuple[Path, bytes]] = deque()

    def refer_to(self, session: Session) -> None:
        """Use another reference to the session."""
        self._session = session

    def queue_probe(self, path: Path, plain: bytes) -> None:
        """Send these frames on that path, whichever is the present one."""
        if len(self._probes_queue) < 64:
            self._probes_queue.append((path, plain))

    def queue_close(self, frame: bytes) -> None:
        """CLOSE goes out on every usable path, and nothing after it."""
        self._probes_queue.clear()
        for path in self._session.paths.values():
            if path.usable:
                self._probes_queue.append((path, frame))

    def abandon(self) -> None:
        """The peer will not hear anything more in this session."""
        self._probes_queue.clear()

    def seal(self, plain: bytes, path: Path, now: float) -> bytes:
        """One packet, without the path's prefix."""
        session = self._session
        keys = session.keys
        nonce = pack_nonce(self.next_number)
        self.next_number += 1
        session.last_sent = now
        session.stats.packets_sent += 1
        head = data_prefix(keys.sent_generation, session.remote_index)
        return head + nonce[4:] + keys.sealer.encrypt(nonce, plain, None)

    def is_idle(self, now: float) -> bool:
        """Whether :meth:`transmit` would find nothing to send, but perhaps a probe for a larger size."""
        streams = self._session.streams
        return not (
            self._probes_queue
            or self.controls
            or self.datagrams
            or self.ping
            or self.probes
            or streams.window_dirty
            or self._session.acks.due(now)
            or streams.head() is not None
        )

    def transmit(self, now: float) -> Transmit | None:
        """The next datagrams, or None when there is nothing to send or nothing may be sent now."""
        session = self._session
        while self._probes_queue:
            path, plain = self._probes_queue.popleft()
            if path.failed:
                continue
            if plain[0] == frames.PATH_RESPONSE and path.prefix:
                # with what came in till now: if the old path died, only the rest has to be sent again
                plain = session.acks.encode(now) + plain
            size = len(plain) + path.overhead
            if not path.validated and not path.trains:
                if path.credit < size:
                    continue
                path.credit -= size
            packet = path.prefix + self.seal(plain, path, now)
            session.stats.bytes_sent += size
            return Transmit(path, (packet,), size, size)
        active = session.path
        if active is None or session.closed is not None:
            return None
        path = active
        self.pacing_until = _INFINITY
        acks = session.acks
        acking = acks.eliciting > 0 and acks.due(now)
        streams = session.streams
        other = self.controls or self.datagrams or streams.window_dirty or self.ping or self.probes
        stream = streams.head()
        if stream is None and not other:
            if acking:
                return self._mixed(path, now, 0)
            return self._mtu_probe(path, now) if now >= path.mtu.quiet_until else None
        size = path.mtu.current
        if self.probes:
            self.probes -= 1
            self.ping = True  # if there is nothing else to ask with
            room = size
        else:
            congestion = path.congestion
            available = int(congestion.window) - congestion.in_flight
            if available < _BURST * size and (
                available < size or (stream is not None and not other and self._wait_for_more(stream, available, size))
            ):
                congestion.limited = True
                return self._mixed(path, now, 0) if acking else None
            slow_start = congestion.window < congestion.ssthresh
            allowed = path.pacer.allowance(congestion.window, path.rtt.smoothed, size, slow_start, now)
            if allowed < size:
                self.pacing_until = path.pacer.next_time(size)
                return self._mixed(path, now, 0) if acking else None
            room = min(MAX_BATCH_BYTES, available, int(allowed))
        if now >= path.mtu.quiet_until:
            probe = self._mtu_probe(path, now)
            if probe is not None:
                return probe
        if stream is not None and not other and not stream.lost:
            if stream.end - stream.next >= path.chunk and not acking:
                batch = self._bulk(stream, path, room, now)
                if batch is not None:
                    return batch
            elif streams.alone and stream.next < stream.end and not stream.fin_pending:
                return self._small(stream, path, now)
        return self._mixed(path, now, room)

    def _wait_for_more(self, stream: SendStream, available: int, size: int) -> bool:
        """Whether what a nearly full window has room for had better wait for further acknowledgements.

        Packets that go out one for one that is acknowledged find, in a full queue, the place that one of their own has
        just left, and flows that send in small bursts, as the kernel's TCP does, find none.
        """
        path = self._session.path
        assert path is not None
        worth = min(_BURST * size, path.congestion.window * _BURST_PART)
        return not stream.lost and available < worth <= stream.end - stream.next

    def _small(self, stream: SendStream, path: Path, now: float) -> Transmit:
        """One packet of new data of the only stream that has any, behind an acknowledgement if one is waiting."""
        session = self._session
        streams = session.streams
        head = session.acks.encode(now) if session.acks.eliciting else b""
        room = path.chunk - len(head) - frames.STREAM_HEADER_SIZE
        offset, data, _, _ = stream.take(room, streams.send_limit - streams.sent)
        length = len(data)
        streams.sent += length
        stream.quota -= 1
        if stream.end - stream.next < LOW_WATER:
            session.drained.add(stream.id)
        number = self.next_number
        plain = b"".join((head, frames.pack_stream_header(frames.STREAM, stream.id, offset), data))
        packet = path.prefix + self.seal(plain, path, now)
        size = len(packet)
        session.sent.records.append(Sent(number, number, size, path, now, stream, offset, length, ()))
        path.congestion.in_flight += size
        path.pacer.on_sent(size)
        if not path.eliciting_in_flight:
            path.waiting_since = now
        path.eliciting_in_flight += 1
        session.stats.bytes_sent += size
        return Transmit(path, (packet,), size, size)

    def _bulk(self, stream: SendStream, path: Path, room: int, now: float) -> Transmit | None:
        """Full packets of one stream's new data, as many as may go out in one call."""
        session = self._session
        chunk = path.chunk - frames.STREAM_HEADER_SIZE
        size = path.mtu.current
        streams = session.streams
        count = min(room // size, MAX_BATCH_PACKETS)
        if not streams.alone:
            count = min(count, stream.quota)
        offset = stream.next
        runs = stream.take_bulk(chunk, count, streams.credit)
        count = (stream.next - offset) // chunk
        if not count:
            return None
        keys = session.keys
        encrypt_into = keys.sealer.encrypt_into
        nonce_of = pack_nonce
        kind = frames.STREAM
        stream_id = stream.id
        head = path.prefix + data_prefix(keys.sent_generation, session.remote_index)
        skip = len(head)
        packets = self._workspace.packets
        bodies, plain, text = self._workspace.sealing(size, skip + 8)
        body = iter(bodies)
        first = number = self.next_number
        at = 0
        position = offset
        for blob, start, pieces in runs:
            view = memoryview(blob)
            for begin in range(start, start + pieces * chunk, chunk):
                packets[at : at + skip] = head
                _put_number(packets, at + skip, number)
                _put_stream_header(plain, 0, kind, stream_id, position)
                text[:] = view[begin : begin + chunk]
                encrypt_into(nonce_of(number), plain, None, next(body))
                at += size
                number += 1
                position += chunk
        self.next_number = number
        streams.sent += count * chunk
        stream.quota -= count
        if stream.unsent < LOW_WATER:
            session.drained.add(stream_id)
        session.sent.records.append(Sent(first, number - 1, size, path, now, stream, offset, chunk, ()))
        self._account(path, count, at, now)
        return Transmit(path, (packets[:at],), size, at)

    def _account(self, path: Path, count: int, total: int, now: float) -> None:
        session = self._session
        path.congestion.on_sent(total)
        path.pacer.on_sent(total)
        if not path.eliciting_in_flight:
            path.waiting_since = now
        path.eliciting_in_flight += count
        session.last_sent = now
        session.stats.packets_sent += count
        session.stats.bytes_sent += total

    def _mixed(self, path: Path, now: float, room: int) -> Transmit | None:
        """One packet of whatever is due.  With ``room`` 0 only an acknowledgement may go out."""
        session = self._session
        parts: list[bytes | bytearray | memoryview] = []
        records: list[FrameRecord] = []
        left = path.chunk
        if session.acks.eliciting:
            ack = session.acks.encode(now)
            parts.append(ack)
            left -= len(ack)
        eliciting = False
        if room:
            left = self._pack_controls(parts, records, left)
            while self.datagrams and (len(self.datagrams[0]) <= left or len(self.datagrams[0]) > path.chunk):
                datagram = self.datagrams.popleft()
                if len(datagram) > path.chunk:
                    session.stats.datagrams_dropped += 1  # the path shrank since it was queued
                    continue
                parts.append(datagram)
                left -= len(datagram)
                eliciting = True
            self._pack_streams(parts, records, left)
            if self.ping:
                if not records and not eliciting:
                    parts.insert(0, bytes((frames.PING,)))
                    eliciting = True
                self.ping = False
        if not parts:
            return None
        plain = b"".join(parts)
        number = self.next_number
        packet = path.prefix + self.seal(plain, path, now)
        size = len(packet)
        if records or eliciting:
            session.sent.records.append(Sent(number, number, size, path, now, None, 0, 0, records))
            path.congestion.on_sent(size)
            path.pacer.on_sent(size)
            if not path.eliciting_in_flight:
                path.waiting_since = now
            path.eliciting_in_flight += 1
        session.stats.bytes_sent += size
        return Transmit(path, (packet,), size, size)

    def _pack_controls(self, parts: list[bytes | bytearray | memoryview], records: list[FrameRecord], left: int) -> int:
        session = self._session
        streams = session.streams
        if streams.window_dirty:
            told = [streams.window_dirty.pop() for _ in range(min(len(streams.window_dirty), _MAX_WINDOWS))]
            frame = frames.encode_control(
                frames.SUBPROTOCOL_STREAM_WINDOW,
                streams.encode_windows(t for t in told if t != SESSION),
            )
            parts.append(frame)
            records.append(Window(told))
            left -= len(frame)
        while self.controls and len(self.controls[0].frame) <= left:
            control = self.controls.popleft()
            parts.append(control.frame)
            records.append(control)
            left -= len(control.frame)
        return left

    def _pack_streams(self, parts: list[bytes | bytearray | memoryview], records: list[FrameRecord], left: int) -> None:
        session = self._session
        streams = session.streams
        pending: list[tuple[int, int, bytes | bytearray | memoryview, bool]] = []
        while left > _STREAM_LEN_HEADER:
            stream = streams.head()
            if stream is None:
                break
            offset, data, fin, new = stream.take(left - _STREAM_LEN_HEADER, streams.credit)
            if not data and not fin:
                continue  # what was lost has been acknowledged meanwhile
            if new:
                streams.sent += len(data)
            stream.quota -= 1
            if stream.unsent < LOW_WATER:
                session.drained.add(stream.id)
            left -= _STREAM_LEN_HEADER + len(data)
            pending.append((stream.id, offset, data, fin))
            records.append(StreamData(stream, offset, len(data), fin))
        if not pending:
            return
        last = len(pending) - 1
        for i, (stream_id, offset, data, fin) in enumerate(pending):
            if i == last:  # the data runs to the end of the packet: no length needed
                kind = frames.STREAM_FIN if fin else frames.STREAM
                parts.append(frames.pack_stream_header(kind, stream_id, offset))
            else:
                kind = frames.STREAM_LEN_FIN if fin else frames.STREAM_LEN
                parts.append(frames.pack_stream_len_header(kind, stream_id, offset, len(data)))
            parts.append(data)

    def _mtu_probe(self, path: Path, now: float) -> Transmit | None:
        session = self._session
        if not (session.streams.sent or session.streams.received) or not path.rtt.samples:
            return None  # nobody needs larger datagrams yet
        size = path.mtu.next_probe(now)
        if not size or path.congestion.available() < size:
            return None
        path.mtu.on_probe_sent(size)
        plain = bytes((frames.PING,)) + bytes(size - path.overhead - 1)
        number = self.next_number
        packet = path.prefix + self.seal(plain, path, now)
        session.sent.records.append(Sent(number, number, size, path, now, None, 0, 0, (), probe=True))
        self._account(path, 1, size, now)
        session.stats.packets_sent -= 1  # seal() counted it
        return Transmit(path, (packet,), size, size)

    def again(self, record: Sent, only_first: bool = False) -> None:
        """Queue what a record carried once more."""
        streams = self._session.streams
        if record.stream is not None:
            count = 1 if only_first else record.count
            record.stream.on_lost(record.offset, count * record.chunk, False)
            streams.enqueue(record.stream)
            return
        for frame in record.frames:
            if isinstance(frame, StreamData):
                frame.stream.on_lost(frame.offset, frame.length, frame.fin)
                streams.enqueue(frame.stream)
            elif isinstance(frame, Window):
                streams.window_dirty.update(s for s in frame.stream_ids if s == SESSION or s in streams.receiving)
            elif isinstance(frame, Reset):
                if not frame.stream.reset_acked:
                    self.controls.appendleft(frame)
            elif isinstance(frame, Stop):
                stream = streams.receiving.get(frame.stream_id)
                if stream is not None and not stream.complete:
                    self.controls.appendleft(frame)
            else:
                self.controls.appendleft(frame)
