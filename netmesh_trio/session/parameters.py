"""Durations, counters and codes of a session."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BUSY_QUIET", "CLOSE_NORMAL", "CLOSE_PROTOCOL", "FLOW", "FLOW_GAP", "QUIET", "SessionStats", "SessionTimes"]

#: Codes of CLOSE: the program is done with the peer; the peer broke the protocol.
CLOSE_NORMAL = 0
CLOSE_PROTOCOL = 1
#: Seconds without a packet, while a stream may still bring something, after which the peer is asked for a sign of
#: life; doubled with every question until stream data comes.  Only who sends would notice a dead peer otherwise.
QUIET = 3.0
#: The same after a flow, which is so many arrivals of stream data, none of them :data:`FLOW_GAP` seconds after the one
#: before.  Who only receives, and got another address, is not heard of before it speaks.
BUSY_QUIET = 0.3
FLOW = 8
FLOW_GAP = 0.25


class SessionTimes(NamedTuple):
    """Durations that govern a session, seconds."""

    keep_alive: float = 25.0
    dead_peer: float = 8.0
    rekey: float = 600.0
    #: Packets after which the keys are renewed, whatever the time.
    rekey_packets: int = 1 << 28


class SessionStats:
    """Counters of one session; all only grow."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "control_dropped",
        "datagrams_dropped",
        "dropped_forged",
        "dropped_invalid",
        "dropped_replayed",
        "packets_lost",
        "packets_received",
        "packets_sent",
        "path_switches",
        "unknown_controls",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes_received: int
    bytes_sent: int
    control_dropped: int
    datagrams_dropped: int
    dropped_forged: int
    dropped_invalid: int
    dropped_replayed: int
    packets_lost: int
    packets_received: int
    packets_sent: int
    path_switches: int
    unknown_controls: int
