"""Round-trip time of one path (RFC 9002, section 5)."""

from __future__ import annotations

__all__ = ["GRANULARITY", "INITIAL_RTT", "MAX_ACK_DELAY", "RttEstimator"]

#: Seconds assumed before the first sample; lower than RFC 9002's 333 ms because the handshake usually gives one.
INITIAL_RTT = 0.2
#: The timer granularity of RFC 9002, seconds: an event loop wakes to the millisecond.
GRANULARITY = 0.001
#: How long a receiver may hold back an acknowledgement, seconds.
MAX_ACK_DELAY = 0.025
_LEAST_EXPECTED = 0.05


class RttEstimator:
    """Smoothed round-trip time and its variation, in seconds."""

    __slots__ = ("latest", "minimum", "samples", "smoothed", "variation")

    def __init__(self) -> None:
        self.latest: float = INITIAL_RTT
        self.smoothed: float = INITIAL_RTT
        self.variation: float = INITIAL_RTT / 2
        self.minimum: float = float("inf")
        self.samples: int = 0

    def sample(self, rtt: float, ack_delay: float) -> None:
        """Take in one measurement; ``ack_delay`` is what the other side says it held the answer back."""
        if rtt < 1e-6:
            rtt = 1e-6
        self.latest = rtt
        if rtt < self.minimum:
            self.minimum = rtt
        if self.samples == 0:
            self.smoothed = rtt
            self.variation = rtt / 2
        else:
            if ack_delay > MAX_ACK_DELAY:
                ack_delay = MAX_ACK_DELAY
            adjusted = rtt - ack_delay if rtt >= self.minimum + ack_delay else rtt
            self.variation = 0.75 * self.variation + 0.25 * abs(self.smoothed - adjusted)
            self.smoothed = 0.875 * self.smoothed + 0.125 * adjusted
        self.samples += 1

    def expect(self, rtt: float) -> None:
        """Before the first sample: it will be about so much, as on another path to the same peer.  Never more than is
        assumed anyway, and not so little that a path over a relay had no chance."""
        if not self.samples:
            self.smoothed = min(INITIAL_RTT, max(rtt, _LEAST_EXPECTED))
            self.variation = self.smoothed / 2

    def pto(self) -> float:
        """The probe timeout before backoff (RFC 9002, section 6.2.1), seconds."""
        spread = 4 * self.variation
        return self.smoothed + (spread if spread > GRANULARITY else GRANULARITY) + MAX_ACK_DELAY

    def loss_delay(self, patience: float = 0.125) -> float:
        """How long after it was sent a packet counts as lost if a later one was acknowledged, seconds.  ``patience``
        is the part of a round trip that the network may hold it back (RFC 9002, section 6.1.2)."""
        return max((1.0 + patience) * max(self.smoothed, self.latest), GRANULARITY)
