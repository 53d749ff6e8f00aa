"""What a node reports: paths, and events as they happen.  All values are frozen."""

from __future__ import annotations

import enum

import attrs

from .addresses import Address
from .identity import PeerId
from .traversal.classify import NatType
from .traversal.errors import TraversalError

__all__ = [
    "Event",
    "EventsLost",
    "KeyInUse",
    "NatChanged",
    "PathChanged",
    "PathKind",
    "PathReport",
    "PeerConnected",
    "PeerDisconnected",
    "PortMapChanged",
]


class PathKind(str, enum.Enum):
    """Whether a path goes straight to the peer or over a node that relays."""

    DIRECT = "direct"
    RELAYED = "relayed"


@attrs.frozen(kw_only=True, repr=False)
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
    #: Why the present path to a peer is not direct, as far as that is known; never that there is no connection.
    error: Exception | None = None

    @property
    def route(self) -> str:
        """The way in words: ``direct at 203.0.113.7:4650`` or ``relayed by k5qge5rb``."""
        return f"relayed by {self.via.short}" if self.via is not None else f"{self.kind.value} at {self.addr}"

    def __str__(self) -> str:
        return self.route if self.rtt is None else f"{self.route}, {self.rtt * 1e3:.1f} ms"

    def __repr__(self) -> str:
        elapsed = "" if self.elapsed is None else f", after {self.elapsed:.3g} s"
        kind = getattr(self.error, "kind", None) or self.error
        return f"<PathReport {self}{elapsed}{'' if kind is None else f', {kind}'}>"


@attrs.frozen(kw_only=True, repr=False)
class PeerConnected:
    """A session with the peer is up."""

    peer_id: PeerId
    path: PathReport

    def __repr__(self) -> str:
        return f"<PeerConnected {self.peer_id.short}, {self.path}>"


@attrs.frozen(kw_only=True, repr=False)
class PeerDisconnected:
    """The last session with the peer is over; ``reason`` as in :class:`~netmesh_trio.SessionClosedError`."""

    peer_id: PeerId
    reason: str

    def __repr__(self) -> str:
        return f"<PeerDisconnected {self.peer_id.short} ({self.reason})>"


@attrs.frozen(kw_only=True, repr=False)
class PathChanged:
    """Data to and from the peer travels on another path than before; the session and its streams go on."""

    peer_id: PeerId
    path: PathReport
    #: Why it changed: ``"better"``, ``"followed"`` (the peer, which opened the session, found it better), ``"silent"``
    #: (the old one did not answer), ``"gone"`` (the old one is no more), ``"session"`` (another session with the peer
    #: took over for new streams, as when both dialed at once).
    reason: str

    def __repr__(self) -> str:
        return f"<PathChanged {self.peer_id.short}, {self.path} ({self.reason})>"


@attrs.frozen(kw_only=True, repr=False)
class NatChanged:
    """What is known about the NAT in front of this node has changed.

    Whatever it is, all peers are reached as before; it only says between whom direct paths are possible, too.
    """

    nat_type: NatType
    #: The address that others see this node at (IPv4, if there is one); None if unknown.
    reflex_addr: Address | None = None

    def __str__(self) -> str:
        return f"{self.nat_type.value}, seen from outside as {self.reflex_addr or '?'}"

    def __repr__(self) -> str:
        return f"<NatChanged {self}>"


@attrs.frozen(kw_only=True, repr=False)
class PortMapChanged:
    """The router granted a port mapping, another one, or does so no longer; with ``try_port_mapping`` only.

    All peers are reached with and without it; with it, those that never heard of this node can dial it directly.
    """

    #: ``"pcp"``, ``"nat-pmp"`` or ``"upnp"``; None while there is no mapping.
    protocol: str | None = None
    #: The address that the router passes on to this node; None while there is no mapping.
    external: Address | None = None
    #: Whether it is of use to others.  Not so if it is private: yet another NAT stands in front of the router, and
    #: what peers observe is announced as without a mapping.
    public: bool = False
    #: 4 or 6.  With IPv6 it is a pinhole in the router's firewall.
    family: int = 4
    #: Why there is none; of kind ``port-map-unavailable``.
    error: TraversalError | None = None

    def __str__(self) -> str:
        if self.external is None:
            return "none" if self.error is None else f"none: {self.error}"
        return f"{self.external} by {self.protocol}" + ("" if self.public else ", behind another NAT")

    def __repr__(self) -> str:
        return f"<PortMapChanged {self}>"


@attrs.frozen(kw_only=True, repr=False)
class KeyInUse:
    """Another program runs with the key of this node, on whatever host; told at most once in an hour.

    A key is for one program at a time: others reach now the one and now the other, and sessions break.  Who copied the
    key to a second host should give that one a key of its own.  If nobody did, the key is stolen.
    """

    #: The address that others see the other program at; None if it announced none.
    addr: Address | None = None
    #: The nodes that it has direct sessions with, as it announced them.
    relays: tuple[PeerId, ...] = ()

    def __str__(self) -> str:
        if self.addr is not None:
            where = f" at {self.addr}"
        else:
            where = f" behind {self.relays[0].short}" if self.relays else ""
        return (
            f"another program{where} runs with the key of this node: others reach now the one and now the other; "
            "give each a key of its own"
        )

    def __repr__(self) -> str:
        return f"<KeyInUse at {self.addr or '?'}>"


@attrs.frozen(kw_only=True, repr=False)
class EventsLost:
    """The reader was too slow: ``count`` events before the next one are lost."""

    count: int

    def __repr__(self) -> str:
        return f"<EventsLost {self.count}>"


Event = PeerConnected | PeerDisconnected | PathChanged | NatChanged | PortMapChanged | KeyInUse | EventsLost
