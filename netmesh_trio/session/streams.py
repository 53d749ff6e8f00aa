"""The streams of a session: their ids and limits, flow control, and whose turn it is to send.

Stream ids: the side that opened the session uses even ones, the other odd ones, each counting up by two; all streams
go both ways.  Stream 0xFFFFFFFF is never used.

STREAM WINDOW messages (subprotocol 0x0B00) are CBOR: ``[session limit, streams limit, [[stream id, limit], ...]]``,
all of them total counts since the start, so that a late one does no harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..wire.control import decode_cbor_untrusted, encode_cbor, expect_int, expect_list
from ..wire.errors import DecodeError
from .ranges import RangeSet
from .receive_stream import PieceBudget, ReceiveStream
from .send_stream import SendStream

__all__ = ["StreamTable"]

_MAX_ID = 0xFFFF_FFFD
_MAX_LIMIT = 1 << 62
# Stream limits in one message.
_MAX_TOLD = 64
# Packets that a stream may send in a row while others wait, by priority 0 to 7.
_QUOTA = (2, 4, 8, 16, 32, 64, 128, 256)
DEFAULT_PRIORITY = 3
# Bytes of one stream that may be under way however small our own windows are, which else say it: four of them.
_MOST_SENT = 4 << 20
#: In a list of streams whose limit is to be told: the session itself.
SESSION = -1


class StreamTable:
    """All open streams of one session."""

    def __init__(
        self,
        *,
        initiator: bool,
        session_window: int,
        stream_window: int,
        max_streams: int,
        peer_session_limit: int,
        peer_stream_limit: int,
        peer_max_streams: int,
    ) -> None:
        self.sending: dict[int, SendStream] = {}
        self.receiving: dict[int, ReceiveStream] = {}
        self._parity = 0 if initiator else 1
        self._next_id = self._parity
        # what we may open, and the peer
        self.open_limit: int = peer_max_streams
        self.opened: int = 0
        self._max_streams = max_streams
        self._accept_limit = self._told_limit = max_streams
        self._accepted = RangeSet()  # by number, not id; closed ones stay in it
        self.peer_open: int = 0
        # flow control of the session: total bytes of new stream data
        self.sent = 0
        self.send_limit: int = peer_session_limit
        self._peer_stream_limit = peer_stream_limit
        self.received: int = 0
        self.consumed: int = 0
        self._session_window = session_window
        self.receive_limit: int = session_window
        self._stream_window = stream_window
        self._most_sent = max(4 * stream_window, _MOST_SENT)
        #: Streams (or :data:`SESSION`) whose limits are to be told to the peer.
        self.window_dirty: set[int] = set()
        #: Streams of ours whose window the peer told: they found a taker.
        self.accepted: set[int] = set()
        self._line: deque[SendStream] = deque()
        self._budget = PieceBudget()

    # opening

    def can_open(self) -> bool:
        """Whether the peer's limit on streams leaves room."""
        return self.opened < self.open_limit and self._next_id <= _MAX_ID

    def open(self, priority: int) -> int:
        """Open a stream; return its id."""
        stream_id = self._next_id
        self._next_id += 2
        self.opened += 1
        self._add(stream_id, priority)
        return stream_id

    def _add(self, stream_id: int, priority: int = DEFAULT_PRIORITY) -> None:
        self.sending[stream_id] = SendStream(stream_id, self._peer_stream_limit, priority, self._most_sent)
        self.receiving[stream_id] = ReceiveStream(stream_id, self._stream_window, self._budget)

    def arrived(self, stream_id: int) -> bool:
        """The peer mentions a stream that we do not have: True when it is a new one of the peer's."""
        if stream_id & 1 == self._parity:
            if stream_id >= self._next_id:
                raise DecodeError("frame for a stream that we did not open")
            return False
        number = stream_id >> 1
        if number >= self._accept_limit or stream_id > _MAX_ID + 1:
            raise DecodeError("peer opens too many streams")
        if number in self._accepted:
            return False
        self._accepted.add(number, number + 1)
        self.peer_open += 1
        self._add(stream_id)
        return True

    def forget_if_done(self, stream_id: int) -> bool:
        """Drop a stream of which both halves are over; True when it is gone."""
        send = self.sending.get(stream_id)
        receive = self.receiving.get(stream_id)
        if send is None or receive is None:
            return send is None and receive is None
        if not (send.done and (receive.reset_code is not None or receive.at_end)):
            return False
        del self.sending[stream_id], self.receiving[stream_id]
        self.window_dirty.discard(stream_id)
        self.accepted.discard(stream_id)
        if stream_id & 1 != self._parity:
            self.peer_open -= 1
            self._accept_limit += 1
            # in quarters; one by one when the peer is about to run out
            left = self._told_limit - self._accepted.stops[-1]
            if min(self._told_limit + self._max_streams // 4 - self._accept_limit, left - self._max_streams // 4) <= 0:
                self.window_dirty.add(SESSION)
        return True

    # flow control

    def on_grown(self, grown: int) -> None:
        """New stream data of ``grown`` bytes came in."""
        self.received += grown
        if self.received > self.receive_limit:
            raise DecodeError("more stream data than the session allows")

    def on_consumed(self, size: int, stream: ReceiveStream) -> None:
        """The program read ``size`` bytes of ``stream`` (or they were thrown away)."""
        self.consumed += size
        if self.receive_limit - self.consumed <= self._session_window // 2:
            self.window_dirty.add(SESSION)
        if stream.wants_credit and stream.stop_code is None:
            self.window_dirty.add(stream.id)

    def encode_windows(self, stream_ids: Iterable[int]) -> bytes:
        """The newest limits, as a STREAM WINDOW message."""
        self.receive_limit = max(self.receive_limit, self.consumed + self._session_window)
        limits = []
        for stream_id in stream_ids:
            stream = self.receiving.get(stream_id)
            if stream is not None:
                stream.limit = max(stream.limit, stream.consumed + stream.window)
                limits.append([stream_id, stream.limit])
        self._told_limit = self._accept_limit
        return encode_cbor([self.receive_limit, self._accept_limit, limits])

    def receive_windows(self, payload: bytes) -> tuple[list[int], bool]:
        """Take in a STREAM WINDOW message: streams whose limit was told, and whether more may be opened."""
        fields = expect_list(decode_cbor_untrusted(payload), 3)
        session = expect_int(fields[0], 0, _MAX_LIMIT)
        streams = expect_int(fields[1], 0, _MAX_ID)
        told = []
        for entry in expect_list(fields[2], 0, _MAX_TOLD):
            pair = expect_list(entry, 2)
            stream = self.sending.get(expect_int(pair[0], 0, _MAX_ID + 1))
            limit = expect_int(pair[1], 0, _MAX_LIMIT)
            if stream is not None:
                stream.limit = max(stream.limit, limit)
                told.append(stream.id)
                self.accepted.add(stream.id)
                self.enqueue(stream)
        if session > self.send_limit:
            held = self.send_limit <= self.sent  # only then has any left the line for it
            self.send_limit = session
            for stream in self.sending.values() if held else ():
                if stream.next < stream.end:
                    self.enqueue(stream)
        more = streams > self.open_limit
        self.open_limit = max(self.open_limit, streams)
        return told, more

    # whose turn it is

    @property
    def credit(self) -> int:
        """Bytes of new stream data that the session's flow control allows."""
        return self.send_limit - self.sent

    def enqueue(self, stream: SendStream) -> None:
        """``stream`` may have something to send: let it stand in line."""
        if not stream.queued and stream.reset_code is None:
            stream.queued = True
            stream.quota = _QUOTA[stream.priority]
            self._line.append(stream)

    def head(self) -> SendStream | None:
        """The stream whose turn it is; those with nothing to send leave the line."""
        line = self._line
        while line:
            stream = line[0]
            if stream.reset_code is None and stream.sendable(self.send_limit - self.sent):
                if stream.quota > 0 or len(line) == 1:
                    return stream
                stream.quota = _QUOTA[stream.priority]
                line.rotate(-1)
            else:
                stream.queued = False
                line.popleft()
        return None

    @property
    def alone(self) -> bool:
        """Nobody else stands in line."""
        return len(self._line) <= 1
