"""What a node reports: paths, and events as they happen.  All values are frozen."""

from __future__ import annotations

import enum

import attrs

from .addresses import Address
from .identity import PeerId
from .traversal.classify import NatType

__all__ = [
    "Event",
    "EventsLost",
    "NatChanged",
    "PathChanged",
    "PathKind",
    "PathReport",
    "PeerConnected",
    "PeerDisconnected",
]


class PathKind(enum.Enum):
    """Whether a path goes straight to the peer or over a node that relays."""

    DIRECT = "direct"
    RELAYED = "relayed"


@attrs.frozen(kw_only=True)
class PathReport:
    """One path to a peer."""

    kind: PathKind
    #: The peer's address on a direct path, else None.
    addr: Address | None = None
    #: The node that relays on a relayed path, else None.
    via: PeerId | None = None
    #: Smoothed round-trip time in seconds; None before the first measurement.
    rtt: float | None = None
    #: Seconds from the start of the call that asked for the path, where one did.
    elapsed: float | None = None
    #: Why the path is not direct, where something tried; never that there is no connection.
    error: Exception | None = None


@attrs.frozen(kw_only=True)
class PeerConnected:
    """A session with the peer is up."""

    peer_id: PeerId
    path: PathReport


@attrs.frozen(kw_only=True)
class PeerDisconnected:
    """The last session with the peer is over; ``reason`` as in :class:`~netmesh_trio.SessionClosedError`."""

    peer_id: PeerId
    reason: str


@attrs.frozen(kw_only=True)
class PathChanged:
    """Data to and from the peer travels on another path than before; the session and its streams go on."""

    peer_id: PeerId
    path: PathReport
    #: Why it changed: ``"better"``, ``"silent"`` (the old one did not answer), ``"gone"``, ``"followed"``.
    reason: str


@attrs.frozen(kw_only=True)
class NatChanged:
    """What is known about the NAT in front of this node has changed.

    Whatever it is, all peers are reached as before; it only says between whom direct paths are possible, too.
    """

    nat_type: NatType
    #: The address that others see this node at (IPv4, if there is one); None if unknown.
    reflex_addr: Address | None = None


@attrs.frozen(kw_only=True)
class EventsLost:
    """The reader was too slow: ``count`` events before the next one are lost."""

    count: int


Event = PeerConnected | PeerDisconnected | PathChanged | NatChanged | EventsLost
