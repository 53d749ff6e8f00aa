"""CUBIC (RFC 9438) with HyStart++ (RFC 9406), in bytes, for one path."""

from __future__ import annotations

__all__ = ["Cubic"]

_C = 0.4  # RFC 9438, section 5, in segments / s^3
_BETA = 0.7
_INITIAL_SEGMENTS = 10
_MINIMUM_SEGMENTS = 2
# RFC 9406, section 4.3
_MIN_RTT_THRESH = 0.004
_MAX_RTT_THRESH = 0.016
_RTT_SAMPLES = 8
_CSS_GROWTH_DIVISOR = 4
_CSS_ROUNDS = 5


class Cubic:
    """Congestion window of one path.  ``window`` and ``in_flight`` are bytes, times are seconds.

    The caller reports what it sends, what is acknowledged and what is lost, a batch at a time.
    """

    __slots__ = (
        "_css_baseline",
        "_css_rounds",
        "_epoch",
        "_in_css",
        "_k",
        "_last_round_min",
        "_prior",
        "_reno_window",
        "_round_end",
        "_round_min",
        "_round_samples",
        "_segment",
        "_touched",
        "_undo",
        "_undo_bytes",
        "_window_max",
        "in_flight",
        "limited",
        "recovery_start",
        "ssthresh",
        "window",
    )

    def __init__(self, segment: int) -> None:
        self._segment = segment
        self.window: float = float(_INITIAL_SEGMENTS * segment)
        self.ssthresh: float = float("inf")
        self.in_flight: int = 0
        #: Set by the sender when the window, not the program, held it back since the last acknowledgement.
        self.limited: bool = False
        self.recovery_start: float = -1.0
        self._window_max = 0.0
        self._prior = 0.0
        self._epoch = -1.0
        self._touched = 0.0
        self._k = 0.0
        self._reno_window = 0.0
        self._round_end = 0
        self._round_min = self._last_round_min = float("inf")
        self._round_samples = 0
        self._in_css = False
        self._css_rounds = 0
        self._css_baseline = float("inf")
        # as it was before the last cut, and how many bytes that are taken for lost speak for the cut
        self._undo: tuple[float, float, float, float, float] | None = None
        self._undo_bytes = 0

    def set_segment(self, segment: int) -> None:
        """The path's datagram size changed."""
        self._segment = segment
        self.window = max(self.window, float(_MINIMUM_SEGMENTS * segment))

    def available(self) -> float:
        """Bytes that may be sent now (negative when over the window)."""
        return self.window - self.in_flight

    def on_sent(self, size: int) -> None:
        """``size`` bytes went into the network."""
        self.in_flight += size

    def on_discarded(self, size: int) -> None:
        """``size`` bytes are no longer in flight and say nothing about congestion."""
        self.in_flight -= size

    def on_acked(self, size: int, sent_at: float, rtt: float, largest: int, next_number: int, now: float) -> None:
        """``size`` bytes are acknowledged, the newest of them sent at ``sent_at`` as packet ``largest``.

        ``rtt`` is the newest sample, ``next_number`` the next packet number to be sent (it bounds a round).
        """
        self.in_flight -= size
        if sent_at <= self.recovery_start:
            return
        if self.window < self.ssthresh:
            self._slow_start(size, rtt, largest, next_number)
        elif self.limited or self.in_flight + size > self.window / 2:
            if sent_at > self._touched:
                self._epoch = self._shifted(sent_at)  # a pause: nothing was under way until then
            self._avoid(size, rtt, now)
        else:
            self._epoch = self._shifted(now)
        self._touched = now
        self.limited = False

    def _shifted(self, now: float) -> float:
        # time in which the program, not the window, was the limit does not count (RFC 9438, section 5.8)
        return self._epoch + now - self._touched if self._epoch >= 0 else self._epoch

    def _slow_start(self, size: int, rtt: float, largest: int, next_number: int) -> None:
        if not self.limited and self.in_flight + size < self.window / 2:
            return  # the program, not the window, is the limit: no evidence for a larger one
        if largest >= self._round_end:
            if self._in_css:
                self._css_rounds += 1
                if self._css_rounds >= _CSS_ROUNDS:
                    self.ssthresh = self.window
            self._last_round_min, self._round_min = self._round_min, float("inf")
            self._round_samples = 0
            self._round_end = next_number
        self._round_min = min(self._round_min, rtt)
        self._round_samples += 1
        if self._round_samples >= _RTT_SAMPLES and self._last_round_min < float("inf"):
            threshold = min(max(self._last_round_min / 8, _MIN_RTT_THRESH), _MAX_RTT_THRESH)
            if self._in_css:
                if self._round_min < self._css_baseline:
                    self._in_css = False  # the delay was a passing one
            elif self._round_min >= self._last_round_min + threshold:
                self._in_css = True
                self._css_rounds = 0
                self._css_baseline = self._round_min
        self.window += size / _CSS_GROWTH_DIVISOR if self._in_css else size

    def _avoid(self, size: int, rtt: float, now: float) -> None:
        segment = self._segment
        if self._epoch < 0:
            self._epoch = now
            self._window_max = max(self._window_max, self.window)
            self._k = ((self._window_max - self.window) / segment / _C) ** (1 / 3)
            self._reno_window = self.window
        t = now - self._epoch
        target = _C * (t + rtt - self._k) ** 3 * segment + self._window_max
        target = min(max(target, self.window), 1.5 * self.window)
        # RFC 9438, section 4.3: never slower than Reno would be
        alpha = 1.0 if self._reno_window >= self._prior else 3 * (1 - _BETA) / (1 + _BETA)
        self._reno_window += alpha * segment * size / self.window
        if self._reno_window > target:
            self.window = max(self.window, self._reno_window)
        else:
            self.window += (target - self.window) * size / self.window

    def on_lost(self, size: int, sent_at: float, now: float) -> bool:
        """``size`` bytes are lost, the newest of them sent at ``sent_at``.  One cut per round trip; True if this is
        one."""
        self.in_flight -= size
        if sent_at <= self.recovery_start:
            self._undo_bytes += size
            return False
        self._undo = (self.window, self.ssthresh, self._window_max, self._prior, self.recovery_start)
        self._undo_bytes = size
        self.recovery_start = now
        self._prior = self.window
        # fast convergence (RFC 9438, section 4.7)
        self._window_max = self.window * (1 + _BETA) / 2 if self.window < self._window_max else self.window
        self.window = max(self.window * _BETA, float(_MINIMUM_SEGMENTS * self._segment))
        self.ssthresh = self.window
        self._epoch = -1.0
        self._in_css = False
        return True

    def on_late(self, size: int, sent_at: float) -> None:
        """``size`` bytes that were taken for lost arrived.  When none is left that was, neither is the reason for the
        last cut: it is undone (RFC 9438, section 4.9.2)."""
        if self._undo is None or not self._undo[-1] < sent_at <= self.recovery_start:
            return
        self._undo_bytes -= size
        if self._undo_bytes <= 0:
            window, self.ssthresh, self._window_max, self._prior, self.recovery_start = self._undo
            self.window = max(self.window, window)
            self._epoch = -1.0
            self._undo = None

    def on_persistent_congestion(self) -> None:
        """Nothing came through for so long that the window says nothing any more (RFC 9002, section 7.6)."""
        self.window = float(_MINIMUM_SEGMENTS * self._segment)
        self.recovery_start = -1.0
        self._epoch = -1.0
        self._undo = None
