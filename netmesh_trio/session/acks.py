"""Which packets came in: the replay window, and what to acknowledge when."""

from __future__ import annotations

from ..paths.rtt import MAX_ACK_DELAY
from ..wire import frames
from .ranges import RangeSet

__all__ = ["AckTracker"]

# Runs kept apart.  With more holes than this the oldest are given up: packets in them count as replays.
_MAX_RUNS = 256
# Acknowledge at once from this many packets on (RFC 9000, section 13.2.2).
_EVERY = 2
# An acknowledgement repeats what is this old at least, seconds, and at most twice this old: it may have been lost.
# Without a limit every packet ever lost would lengthen all acknowledgements to come (RFC 9000, section 13.2.3).
_REPEATED_FOR = 3.0
_INFINITY = float("inf")


class AckTracker:
    """Received packet numbers of a session, across all its paths and keys."""

    __slots__ = (
        "_mark",
        "_marked_at",
        "_oldest",
        "_received",
        "deadline",
        "eliciting",
        "expected",
        "floor",
        "immediate",
        "largest_at",
    )

    def __init__(self) -> None:
        self._received = RangeSet()
        #: Everything below counts as seen.
        self.floor: int = 0
        #: One more than the largest received.
        self.expected: int = 0
        self.largest_at: float = 0.0
        #: Packets received since the last acknowledgement that ask for one.
        self.eliciting: int = 0
        self.immediate: bool = False
        self.deadline: float = _INFINITY
        # no run that ends before is told any more; what takes its place when the time comes
        self._oldest = self._mark = 0
        self._marked_at = 0.0

    def is_new(self, number: int) -> bool:
        """Whether a packet of this number may still be taken in (it has to pass the AEAD too)."""
        return number >= self.expected or (number >= self.floor and number not in self._received)

    def add(self, first: int, stop: int, eliciting: int, now: float) -> None:
        """Packets ``[first, stop)``, all new, came in; ``eliciting`` of them ask for an acknowledgement."""
        if first != self.expected and eliciting:
            self.immediate = True
        self._received.add(first, stop)
        runs = len(self._received.starts)
        if runs > _MAX_RUNS:
            self.floor = self._received.forget_lowest(runs - _MAX_RUNS)
        if stop > self.expected:
            self.expected = stop
            self.largest_at = now
        if eliciting:
            if not self.eliciting:
                self.deadline = now + MAX_ACK_DELAY
            self.eliciting += eliciting

    def due(self, now: float) -> bool:
        """An acknowledgement should go out even if nothing else does."""
        return self.eliciting > 0 and (self.immediate or self.eliciting >= _EVERY or now >= self.deadline)

    def encode(self, now: float) -> bytes:
        """The ACK frame, and note that it goes out."""
        starts, stops = self._received.starts, self._received.stops
        runs = [(starts[-1], stops[-1] - 1)]
        if len(starts) > 1:
            if now - self._marked_at > _REPEATED_FOR:
                self._oldest, self._mark, self._marked_at = self._mark, self.expected, now
            count = min(len(starts), frames.ACK_MAX_RANGES)
            for i in range(2, count + 1):
                if stops[-i] <= self._oldest:
                    break
                runs.append((starts[-i], stops[-i] - 1))
        self.eliciting = 0
        self.immediate = False
        self.deadline = _INFINITY
        return frames.encode_ack(runs, now - self.largest_at)

    @property
    def any(self) -> bool:
        """Whether there is anything to acknowledge at all."""
        return self.expected > 0
