"""What a session reports to whoever drives it."""

from __future__ import annotations

from typing import NamedTuple

from ..paths.path import Path

__all__ = [
    "Closed",
    "ControlReceived",
    "DatagramReceived",
    "Event",
    "PathActive",
    "PathQuiet",
    "PathSuspect",
    "PathValidated",
    "StreamArrived",
    "StreamStopped",
    "StreamsAllowed",
]


class StreamArrived(NamedTuple):
    """The peer opened a stream."""

    stream_id: int


class StreamStopped(NamedTuple):
    """The peer reads no more of a stream; our half was reset."""

    stream_id: int
    code: int


class StreamsAllowed(NamedTuple):
    """More streams may be opened than before."""


class ControlReceived(NamedTuple):
    """A message of a subprotocol that the session itself does not handle."""

    subprotocol: int
    payload: bytes
    path: Path


class DatagramReceived(NamedTuple):
    """An unreliable datagram for a service."""

    service: bytes
    payload: bytes


class PathActive(NamedTuple):
    """Data now travels on ``path``; ``old`` is the one before, if any."""

    path: Path
    old: Path | None


class PathValidated(NamedTuple):
    """The peer answered on this path."""

    path: Path


class PathQuiet(NamedTuple):
    """A flow of stream data on the present path stopped for no known reason: the peer is asked, others may be, too."""

    path: Path


class PathSuspect(NamedTuple):
    """The present path does not answer, or is gone: another is needed."""

    path: Path


class Closed(NamedTuple):
    """The session is over: ``why`` is ``"closed"``, ``"timeout"`` or ``"protocol"``."""

    why: str
    detail: str


Event = (
    StreamArrived
    | StreamStopped
    | StreamsAllowed
    | ControlReceived
    | DatagramReceived
    | PathActive
    | PathQuiet
    | PathValidated
    | PathSuspect
    | Closed
)
