"""A session: everything that two nodes share once they know each other's keys.  No I/O, no clock, no chance.

How to drive one, in this order and without a checkpoint in between:

1. feed it: a batch of datagrams (:meth:`Session.receive`), a timeout (:meth:`Session.on_timeout`), or a command;
2. send what :meth:`Session.transmit` returns, until it returns None;
3. take the events: :attr:`Session.events`, :attr:`Session.readable`, :attr:`Session.drained`;
4. read :meth:`Session.next_deadline`.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable

from ..identity import PeerId
from ..paths.choice import choose_path
from ..paths.path import Path, PathKey, PathKind
from ..wire import frames
from ..wire.errors import DecodeError
from ..wire.hello import Hello
from ..wire.packets import BASE_DATAGRAM_SIZE, DATA_OVERHEAD
from .acks import AckTracker
from .delivery import Delivery
from .events import (
    Closed,
    Event,
    PathActive,
    PathQuiet,
    PathSuspect,
    PathValidated,
    StreamArrived,
)
from .keys import KeyRing
from .outgoing import Outgoing, Transmit
from .parameters import (
    BUSY_QUIET,
    CLOSE_NORMAL,
    CLOSE_PROTOCOL,
    FLOW,
    FLOW_GAP,
    QUIET,
    SessionStats,
    SessionTimes,
)
from .receive_stream import ReceiveStream
from .receiving import Receiving
from .recovery import Control, Reset, SentPackets, Stop
from .streams import StreamTable
from .workspace import Workspace

__all__ = ["CLOSE_NORMAL", "CLOSE_PROTOCOL", "Session", "SessionStats", "SessionTimes"]

_MAX_PATHS = 16
# Challenges that the session sends by itself on a new path, and those under way that it remembers.
_CHALLENGE_TRIES = 4
_MAX_TOKENS = 10
# Seconds without a packet after which an idle direct path is asked for a sign of life, if there is a relay beside it.
_CHECK = 6.0
_INFINITY = float("inf")


class Session:
    """One session with ``peer_id``.  See the module for how to drive it."""

    def __init__(
        self,
        *,
        peer_id: PeerId,
        initiator: bool,
        local_index: int,
        remote_index: int,
        keys: KeyRing,
        local: Hello,
        remote: Hello,
        times: SessionTimes,
        random_bytes: Callable[[int], bytes],
        now: float,
        workspace: Workspace | None = None,
    ) -> None:
        self.peer_id = peer_id
        self.initiator = initiator
        self.local_index = local_index
        self.remote_index = remote_index
        self.keys = keys
        self.local = local
        self.remote = remote
        self.times = times
        #: Seconds without a packet of ours after which one is sent; may be set at any time.
        self.keep_alive: float = times.keep_alive
        self.stats: SessionStats = SessionStats()
        self.acks: AckTracker = AckTracker()
        self.sent: SentPackets = SentPackets()
        self.streams: StreamTable = StreamTable(
            initiator=initiator,
            session_window=local.session_window,
            stream_window=local.stream_window,
            max_streams=local.max_streams,
            peer_session_limit=remote.session_window,
            peer_stream_limit=remote.stream_window,
            peer_max_streams=remote.max_streams,
        )
        self.paths: dict[PathKey, Path] = {}
        #: The path that data travels on, once there is one.
        self.path: Path | None = None
        workspace = workspace or Workspace()
        self.out: Outgoing = Outgoing(self, workspace)
        #: What becomes of what was sent.
        self.delivery: Delivery = Delivery(self)
        self._receiving = Receiving(self, workspace)
        self.events: list[Event] = []
        #: Ids of streams on which a read would now return something, or whose state changed.
        self.readable: set[int] = set()
        #: Ids of streams whose unsent data fell below the low-water mark.
        self.drained: set[int] = set()
        self.closed: Closed | None = None
        self.created = now
        self.last_received: float = now
        self.last_sent: float = now
        self._random_bytes = random_bytes
        self._rekeyed_at = now
        # the packet number from which on the keys are to be renewed
        self._rekey_number = min(times.rekey_packets, keys.max_packets)
        self._waiting_since = _INFINITY
        #: Since when nothing of ours was acknowledged, though probes went out.
        self.unacknowledged_since: float = _INFINITY
        self._quiet = self._busy_quiet = QUIET
        self._flow = 0
        self._flowed_at = now
        self._asked_at = now
        # only with another way to fall back on is it worth while to watch an idle direct path
        self._had_relay = False
        self._moved_to: Path | None = None
        # the last one that data travelled on, while there is none
        self._left: Path | None = None

    def __repr__(self) -> str:
        return f"<Session with {self.peer_id.short} {'closed' if self.closed else self.path}>"

    # paths

    def add_path(self, key: PathKey, via: PeerId | None, now: float, *, unasked: bool = False) -> Path:
        """The path of that key, made if need be.  A full table gives up its least recently heard unused one.

        ``unasked``: a packet came from there, and nothing else speaks for it.  Until an answer shows that the peer
        receives there, it gets at most three times the bytes that came (RFC 9000, section 8.1).
        """
        path = self.paths.get(key)
        if path is None:
            if len(self.paths) >= _MAX_PATHS:
                spare = min(
                    (p for p in self.paths.values() if p is not self.path),
                    key=lambda p: (p.usable, p.last_received),
                )
                self.remove_path(spare, now)
            limit = min(self.local.max_datagram_size, self.remote.max_datagram_size)
            self._had_relay = self._had_relay or via is not None
            path = self.paths[key] = Path(key, via=via, mtu_limit=limit, now=now)
            if unasked:
                path.credit = 0.0
        return path

    def remove_path(self, path: Path, now: float) -> None:
        """The path is gone; what was under way on it is sent again on another."""
        path.failed = True
        self.paths.pop(path.key, None)
        self.delivery.give_up(path, now)
        if path is self.path:
            self.choose(now)
            if self.path is path:
                self.path = None
                self._left = path
                # without a way to the peer it is as good as silent
                self._waiting_since = min(self._waiting_since, now)
                self.events.append(PathSuspect(path))

    def validate(self, path: Path, now: float) -> None:
        """The peer has been heard on this path in answer to us: data may travel on it."""
        path.tokens.clear()
        path.suspect = False
        path.pto_count = 0
        if not path.validated:
            path.validated = True
            self.events.append(PathValidated(path))
        self.choose(now)

    def choose(self, now: float) -> None:
        """Take the best path.  The side that opened the session chooses, the other follows (as in ICE); a path
        that does not work any more is left by either."""
        best = choose_path(self.path, self.paths.values(), controlling=self.initiator)
        if best is not None and best is not self.path:
            self._switch(best, now)

    def _switch(self, path: Path, now: float) -> None:
        old = self.path or self._left
        self._left = None
        self.path = path
        if old is not None:
            self.stats.path_switches += 1
            if old.rtt.samples:
                path.rtt.expect(2 * old.rtt.smoothed)
            if old.suspect or old.failed:
                self.delivery.give_up(old, now)
        path.suspect = False
        path.pto_count = 0
        path.last_received = now
        self.out.ping = True
        self.events.append(PathActive(path, old))

    def challenge(self, path: Path, now: float) -> bytes:
        """A packet that, answered, validates the path; without the path's own prefix."""
        return self.out.seal(bytes((frames.PATH_CHALLENGE,)) + self._token(path, now), path, now)

    def queue_challenge(self, path: Path, now: float) -> None:
        """Send a challenge on the path, with the next transmission."""
        self.out.queue_probe(path, bytes((frames.PATH_CHALLENGE,)) + self._token(path, now))

    def _token(self, path: Path, now: float) -> bytes:
        token = self._random_bytes(8)
        while len(path.tokens) >= _MAX_TOKENS:
            del path.tokens[next(iter(path.tokens))]
        path.tokens[token] = now
        return token

    # receiving

    def receive(self, data: memoryview, skip: int, stride: int, path: Path, now: float) -> int:
        """Take in a batch of DATA packets from one path; return how many bytes of it were.

        ``data`` holds datagrams of ``stride`` bytes each (the last may be shorter); ``skip`` bytes in front of
        every one are the circuit header.  The first is for this session; reading stops at one that is not.
        """
        return self._receiving.receive(data, skip, stride, path, now)

    def authentic(self, packet: memoryview) -> bool:
        """Whether one DATA packet, without a circuit header, was made by the peer and is not a replay."""
        return self._receiving.authentic(packet)

    def heard(self, path: Path, newer: bool, now: float) -> None:
        """Packets came in on ``path``; ``newer``: among them the newest so far, and more than a probe."""
        self.last_received = now
        self._waiting_since = _INFINITY
        path.last_received = now
        if not path.validated:
            self._heard_on_new_path(path, now)
        if newer and path is not self.path:
            self._peer_moved(path, now)

    def on_stream_data(self, now: float) -> None:
        """Stream data came in: how soon will silence be worth a question?"""
        flow = self._flow = self._flow + 1 if now < self._flowed_at + FLOW_GAP else 0
        self._flowed_at = now
        if flow < FLOW or self.path is None:
            self._quiet = QUIET
            return
        if not flow % FLOW:
            self._busy_quiet = min(max(BUSY_QUIET, 2 * self.path.rtt.pto()), QUIET)
        self._quiet = self._busy_quiet

    def _heard_on_new_path(self, path: Path, now: float) -> None:
        if path.kind is PathKind.RELAYED:
            # a circuit leads to a node we have a session with: it cannot be somebody else's address
            self.validate(path, now)
        elif not path.tokens:
            self.queue_challenge(path, now)

    def _peer_moved(self, path: Path, now: float) -> None:
        """The peer's newest data came on another path than ours: follow it once it is validated."""
        if not path.validated:
            self._moved_to = path
        elif (
            self.path is None
            or not self.initiator
            or self.path.suspect
            # whoever only receives has no timeout of its own that shows a path to be dead
            # nothing more comes from where it was: the peer's address changed
            or (path.kind is PathKind.DIRECT and self.path.last_received < path.created)
            or now - self.path.last_received > self.path.rtt.pto() * (3 if self.path.kind is PathKind.DIRECT else 1)
        ):
            if path.suspect and self.path is not None:
                # it carries the peer's packets to us, but not ours to the peer, as far as we know: ask first
                self._moved_to = path
                if not path.tokens or now >= self._challenge_time(path):
                    self.queue_challenge(path, now)
                return
            if self.initiator and self.path is not None:
                # it is silent: not to be chosen again before it answers
                self._suspect(self.path, now - self.path.rtt.pto())
                best = choose_path(self.path, self.paths.values(), controlling=True)
                if best is not None and best.kind is PathKind.DIRECT is not path.kind:
                    path = best  # the peer did not know of that, or gave it up early
            self._switch(path, now)
        elif path.kind is PathKind.RELAYED and not self.path.eliciting_in_flight:
            self.out.ping = True  # does ours still reach the peer, or has it left it for cause?

    def arrived(self, stream_id: int) -> bool:
        """The peer mentions a stream that is not open: True if it thereby opens it."""
        if self.streams.arrived(stream_id):
            self.events.append(StreamArrived(stream_id))
            return True
        return False

    def forget_if_done(self, stream_id: int) -> None:
        """Drop a stream of which nothing is left to do."""
        if self.streams.forget_if_done(stream_id):
            self.readable.add(stream_id)

    def on_path_response(self, token: bytes, path: Path, now: float) -> None:
        """An answer counts for the path that it came on, and only if the question went there: an answer that comes
        from elsewhere shows a new address, which is asked by itself."""
        sent_at = path.tokens.get(token)
        if sent_at is None:
            return
        # always: what was under way on a path that was left in haste is never acknowledged as having travelled there,
        # and a path that became slow would seem silent for ever
        path.rtt.sample(now - sent_at, 0.0)
        path.last_received = now
        present = self.path
        if (
            present is not None
            and present is not path
            and present.kind is PathKind.RELAYED
            and present.pto_count
            and present.last_received < sent_at
        ):
            self._suspect(present, sent_at)  # asked at the same time, only the other answered
        self.validate(path, now)
        if self._moved_to is path:
            self._moved_to = None
            self._peer_moved(path, now)

    # commands

    def open_stream(self, priority: int) -> int | None:
        """Open a stream and return its id; None when the peer's limit is reached (StreamsAllowed will tell)."""
        if not self.streams.can_open():
            return None
        return self.streams.open(priority)

    def write(self, stream_id: int, data: bytes | bytearray | memoryview) -> None:
        """Append to the stream."""
        stream = self.streams.sending[stream_id]
        stream.write(data)
        self.streams.enqueue(stream)

    def finish(self, stream_id: int) -> None:
        """End our half of the stream after what was written."""
        stream = self.streams.sending.get(stream_id)
        if stream is not None and stream.reset_code is None:
            stream.finish()
            self.streams.enqueue(stream)

    def read(self, stream_id: int, max_bytes: int) -> bytes:
        """Read from the stream; ``b""`` when there is nothing now, or no such stream any more."""
        stream = self.streams.receiving.get(stream_id)
        if stream is None:
            return b""
        data = stream.read(max_bytes)
        if data:
            self.streams.on_consumed(len(data), stream)
        if stream.at_end:
            self.forget_if_done(stream_id)
        return data

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Give up our half of the stream; the peer sees ``code``."""
        stream = self.streams.sending.get(stream_id)
        if stream is not None and stream.reset_code is None and not stream.done:
            stream.reset(code)
            frame = frames.encode_reset_stream(stream_id, code, stream.next)
            self.out.controls.append(Reset(stream, frame))

    def stop_stream(self, stream_id: int, code: int) -> None:
        """Read no more of the stream; the peer is asked to reset it with ``code``."""
        stream = self.streams.receiving.get(stream_id)
        if stream is None or stream.stop_code is not None:
            return
        stream.stop_code = code
        if not stream.complete:
            self.out.controls.append(Stop(stream_id, frames.encode_stop_sending(stream_id, code)))
        self.on_stopped(stream)

    def on_stopped(self, stream: ReceiveStream) -> None:
        """Throw away what came in for a stream that the program reads no more."""
        self.streams.on_consumed(stream.discard(), stream)
        self.forget_if_done(stream.id)

    def accept_stream(self, stream_id: int) -> None:
        """Tell the peer that a stream of its found a taker (its window is announced)."""
        self.streams.window_dirty.add(stream_id)

    def send_control(self, subprotocol: int, payload: bytes) -> bool:
        """Queue a message of a subprotocol; it is repeated until it arrives.  False when the queue is full."""
        if len(self.out.controls) >= self.out.max_controls:
            self.stats.control_dropped += 1
            return False
        self.out.controls.append(Control(frames.encode_control(subprotocol, payload)))
        return True

    def queue_rekey(self, message: bytes) -> None:
        """Send a REKEY, however long the queue: without it the keys would never be renewed again.  There is one at a
        time."""
        self.out.controls.append(Control(frames.encode_control(frames.SUBPROTOCOL_REKEY, message)))

    def send_datagram(self, service: bytes, payload: bytes) -> None:
        """Queue an unreliable datagram.  A full queue loses its oldest."""
        queue: deque[bytes] = self.out.datagrams
        if len(queue) >= self.out.max_datagrams:
            queue.popleft()
            self.stats.datagrams_dropped += 1
        queue.append(frames.encode_datagram(service, payload))

    @property
    def unfinished(self) -> bool:
        """Whether the peer lacks something that was written to a stream."""
        return self.closed is None and any(
            s.reset_code is None and (s.base < s.end or s.fin_pending or (s.fin and not s.fin_acked))
            for s in self.streams.sending.values()
        )

    @property
    def max_datagram_payload(self) -> int:
        """Bytes of service name and datagram that fit into one packet of the present path."""
        path = self.path
        return (path.chunk if path else BASE_DATAGRAM_SIZE - DATA_OVERHEAD - 12) - 4 - 30

    def ping(self) -> None:
        """Have the peer answer something soon."""
        self.out.ping = True

    def close(self, code: int, reason: str, now: float) -> None:
        """End the session: a CLOSE goes out on every path that works."""
        if self.closed is None:
            self.out.queue_close(frames.encode_close(code, reason))
            self.end("closed" if code == CLOSE_NORMAL else "protocol", reason)

    def fail(self, reason: str, now: float) -> None:
        """The peer broke the protocol."""
        self.close(CLOSE_PROTOCOL, reason, now)

    def end(self, why: str, detail: str) -> None:
        """The session is over; nothing is said to the peer."""
        if self.closed is None:
            self.closed = Closed(why, detail)
            self.events.append(self.closed)
            # so that memory does not wait for the garbage collector; whoever gets to them comes through this object
            weak: Session = weakref.proxy(self)
            self.out.refer_to(weak)
            self.delivery.refer_to(weak)
            self._receiving.refer_to(weak)

    # time

    def transmit(self, now: float) -> Transmit | None:
        """The next datagrams to send, or None."""
        return self.out.transmit(now)

    def is_idle(self, now: float) -> bool:
        """Whether there is nothing to send and nothing to tell now, but that streams can be read."""
        return not (self.events or self.drained or self.closed) and self.out.is_idle(now)

    @property
    def hurries(self) -> bool:
        """Whether a deadline may come sooner than that of an acknowledgement that is held back: of pacing or a loss."""
        if self.out.pacing_until < _INFINITY:
            return True
        for path in self.paths.values():  # noqa: SIM110 - asked for after every packet
            if path.loss_time < _INFINITY:
                return True
        return False

    def next_deadline(self) -> float:
        """When :meth:`on_timeout` wants to be called; infinity for never."""
        if self.closed is not None:
            return _INFINITY
        times = self.times
        # nothing heard for two and a half keep-alives though the peer sends them too
        deadline = self.last_received + 2.5 * times.keep_alive
        if self._waiting_since + times.dead_peer < deadline:
            deadline = self._waiting_since + times.dead_peer
        if self.unacknowledged_since + 2.5 * times.keep_alive < deadline:
            deadline = self.unacknowledged_since + 2.5 * times.keep_alive
        # asked for after every packet: comparisons take a third of what min() does
        present = self.path
        if present is not None:
            if self.last_sent + self.keep_alive < deadline:
                deadline = self.last_sent + self.keep_alive
            if self.acks.deadline < deadline:
                deadline = self.acks.deadline
            if self.out.pacing_until < deadline:
                deadline = self.out.pacing_until
            if self.streams.receiving and (due := self._ask_time()) < deadline:
                deadline = due
            if self._had_relay and present.kind is PathKind.DIRECT and (due := self._check_time(present)) < deadline:
                deadline = due
        for path in self.paths.values():
            if path.eliciting_in_flight:
                if path.loss_time < deadline:
                    deadline = path.loss_time
                if (due := self._pto_time(path)) < deadline:
                    deadline = due
            if path.tokens and not path.validated and not path.trains:
                deadline = min(deadline, self._challenge_time(path))
        if self.initiator:
            due = self.last_received if self._many_packets() else self._rekeyed_at + times.rekey
            if due < deadline:
                return due
        return deadline

    def _many_packets(self) -> bool:
        return self.out.next_number >= self._rekey_number or self.acks.expected >= self._rekey_number

    def _ask_time(self) -> float:
        since = self.last_received if self.last_received > self._asked_at else self._asked_at
        return since + self._quiet

    def _check_time(self, path: Path) -> float:
        return max(path.last_received, self._asked_at) + _CHECK

    def _pto_time(self, path: Path) -> float:
        if not path.pto_count:
            return path.waiting_since + path.rtt.pto()
        doublings = min(path.pto_count, 6)
        if self._had_relay and path.kind is PathKind.DIRECT and doublings:
            doublings -= 1  # with another way at hand, the second silence decides soon
        # not from the last packet, as RFC 9002 has it: who sends now and then would not notice for long
        return path.waiting_since + path.rtt.pto() * (1 << doublings)

    @staticmethod
    def _challenge_time(path: Path) -> float:
        newest = next(reversed(path.tokens.values()))
        return newest + path.rtt.pto() * (1 << min(len(path.tokens) - 1, 4))

    def on_timeout(self, now: float) -> None:
        """Some deadline may have passed."""
        if self.closed is not None:
            return
        if now >= self._waiting_since + self.times.dead_peer:
            self.end("timeout", f"no answer for {self.times.dead_peer:g} s")
            return
        if now >= self.last_received + 2.5 * self.times.keep_alive:
            self.end("timeout", "silent for more than two keep-alives")
            return
        if now >= self.unacknowledged_since + 2.5 * self.times.keep_alive:
            # if it is honest it has not heard us for as long, and ends this for the same reason
            self.end("timeout", "nothing was acknowledged for more than two keep-alives")
            return
        self.delivery.detect_lost(now)
        for path in list(self.paths.values()):
            if path.eliciting_in_flight and now >= self._pto_time(path):
                self._on_pto(path, now)
            if path.tokens and not path.validated and not path.trains and now >= self._challenge_time(path):
                if len(path.tokens) < _CHALLENGE_TRIES:
                    self.queue_challenge(path, now)
                else:
                    path.tokens.clear()
                    if path is not self.path and path.kind is PathKind.DIRECT:
                        self.remove_path(path, now)
        if now >= self.last_sent + self.keep_alive:
            self.out.ping = True
            self.last_sent = now  # a full window may hold the ping back: do not ask again at once
        if self.streams.receiving and now >= self._ask_time():
            self.out.ping = True
            # an earlier question after this flow that was answered has shown that the path works
            unanswered = self.last_received < self._asked_at
            if self._flow >= FLOW and self.path is not None and (unanswered or self._asked_at < self._flowed_at):
                self.events.append(PathQuiet(self.path))
            self._asked_at = now
            self._quiet = min(2 * self._quiet, self.times.keep_alive)
        present = self.path
        if (
            self._had_relay
            and present is not None
            and present.kind is PathKind.DIRECT
            and now >= self._check_time(present)
        ):
            self.out.ping = True
            self._asked_at = now
        self._rekey_if_due(now)

    def _on_pto(self, path: Path, now: float) -> None:
        if path is not self.path:
            # an old path: whatever it still owed us goes out again on the present one
            self.delivery.give_up(path, now)
            return
        path.waiting_since = now
        if self.delivery.probe_unanswered(path, now):
            return
        path.pto_count += 1
        self._waiting_since = min(self._waiting_since, now)
        self.unacknowledged_since = min(self.unacknowledged_since, now)
        self._ask_again(path)
        if path.pto_count == 1:
            path.doubted_at = now
            self.events.append(PathSuspect(path))  # early: asking the other ways takes a round trip, too
        elif path.pto_count == 2:
            self._suspect(path, path.doubted_at)
            self.events.append(PathSuspect(path))
            self.choose(now)
        elif path.pto_count == 3 and path.mtu.on_black_hole(now):
            path.size_changed()

    def encourage(self, now: float) -> None:
        """The peer is there, another session shows: what is unanswered is asked again now, not when patience ends."""
        path = self.path
        if path is not None and path.eliciting_in_flight and now > path.waiting_since + path.rtt.smoothed:
            path.pto_count = min(path.pto_count, 1)
            path.waiting_since = now
            self._ask_again(path)

    def _ask_again(self, path: Path) -> None:
        oldest = self.sent.oldest(path)
        if oldest is not None:
            self.out.again(oldest, only_first=True)
        self.out.probes = 2

    def _suspect(self, path: Path, since: float) -> None:
        """The path does not answer.  Others over the same relay that were silent, too, are no way out."""
        path.suspect = True
        for other in self.paths.values():
            if other.via == path.via is not None and other.last_received < since:
                other.suspect = True

    def _rekey_if_due(self, now: float) -> None:
        if self.initiator and (now >= self._rekeyed_at + self.times.rekey or self._many_packets()):
            self._rekeyed_at = now
            self._rekey_number = max(self.out.next_number, self.acks.expected) + min(
                self.times.rekey_packets, self.keys.max_packets
            )
            message = self.keys.start_renewal()
            if message is not None:
                try:
                    # a peer that jumps ahead with its packet numbers makes a renewal due with every packet
                    self.keys.check_rate(now, self.stats.packets_received)
                except DecodeError as error:
                    self.fail(str(error), now)
                    return
                self.queue_rekey(message)
