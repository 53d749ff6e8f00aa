"""What the three protocols for port mappings have in common: the values, the error, and what a client does.

A mapping makes a node easier to reach directly.  Without one everything works as well, over the relay where need be.
"""

from __future__ import annotations

import enum
import ipaddress
import math
from typing import Final, Literal, Protocol

import attrs

from ...addresses import Address
from ..errors import PortMapUnavailableError

__all__ = [
    "MAX_LIFETIME",
    "Gateway",
    "PortMapCause",
    "PortMapClient",
    "PortMapError",
    "PortMapProtocol",
    "PortMapping",
    "RouterReport",
    "RouterStatus",
    "is_public",
]

#: The protocols, the preferred one first.
PortMapProtocol = Literal["pcp", "nat-pmp", "upnp"]

MAX_LIFETIME: Final = 7 * 86400.0
"""Seconds.  What a router grants beyond is taken for this: renewing that rarely is as good as never."""

_SHARED: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6333 (DS-Lite), RFC 7335: the customer's end of a carrier's NAT
    ipaddress.IPv4Network("198.18.0.0/15"),  # RFC 2544: benchmarks
)


def is_public(host: str) -> bool:
    """Whether the outside of a mapping is of use to others: one host of the Internet, not of a network behind yet
    another NAT."""
    address = Address(host, 0)
    return (
        address.is_unicast
        and not (address.is_private or address.is_loopback or address.is_link_local)
        and not any(address.ip in network for network in _SHARED)
    )


class PortMapCause(str, enum.Enum):
    """Why there is no mapping; the value is stable and machine-readable."""

    NO_GATEWAY = "no-gateway"
    """This host has no default router, or none that the node's socket sends by."""
    UNSUPPORTED = "unsupported"
    """The router does not speak the protocol, or not its version, or not what was asked of it."""
    REFUSED = "refused"
    """The router does not allow this host a mapping."""
    CONFLICT = "conflict"
    """The outside port belongs to somebody else, and the router offers no other."""
    OUT_OF_RESOURCES = "out-of-resources"
    """The router, or this host's share of it, is full."""
    NETWORK_FAILURE = "network-failure"
    """The router has no connection or no outside address now, or nothing can be sent to it."""
    TIMEOUT = "timeout"
    """The router did not answer in time."""
    MALFORMED = "malformed"
    """What the router answered makes no sense, or is too large."""


class PortMapError(PortMapUnavailableError):
    """One router did not do by one protocol what was asked.

    Peers reach this node as before, over the relay where need be.  ``cause`` says why, ``protocol`` how it was asked
    (None if it was not), ``retry_after`` is the time in seconds during which the router would say the same, if it told.
    """

    def __init__(
        self,
        cause: PortMapCause,
        protocol: PortMapProtocol | None,
        detail: str = "",
        retry_after: float | None = None,
    ) -> None:
        named = cause.value if protocol is None else f"{protocol}: {cause.value}"
        super().__init__(named + (f", {detail}" if detail else ""))
        self.args: tuple[object, ...] = (cause, protocol, detail, retry_after)  # from which it is pickled
        self.cause = cause
        self.protocol = protocol
        self.retry_after = retry_after


@attrs.frozen
class Gateway:
    """A default router, and this host as it sees it."""

    host: str
    """Numeric address of the router; a link-local IPv6 one with its ``%scope``."""
    local: str
    """Numeric address of this host on the interface that leads there, of the same family; for IPv6 a global one."""
    interface: int = 0
    """Index of that interface; 0 if unknown."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host else 4


def _check_lifetime(_instance: object, _attribute: object, value: float) -> None:
    if not value > 0:
        raise ValueError("a mapping has a lifetime above zero")


@attrs.frozen(kw_only=True)
class PortMapping:
    """What a router granted.  For IPv6 it is a pinhole in its firewall: ``external`` equals ``internal`` then, unless
    the router translates prefixes."""

    protocol: PortMapProtocol
    gateway: Gateway
    internal: Address
    """The address and port of this host."""
    external: Address
    """The address and port that others send to.  It need not be a public one: see :func:`is_public`."""
    lifetime: float = attrs.field(validator=_check_lifetime)
    """Seconds granted, from the answer on; ``math.inf`` for what stays until it is removed."""
    epoch: float | None = None
    """The router's own clock, seconds since it lost its mappings last, if it told."""
    handle: object = attrs.field(default=None, eq=False, repr=False)
    """What the client needs to renew or remove it; opaque to all others."""

    @property
    def is_permanent(self) -> bool:
        """Whether it stays until it is removed."""
        return math.isinf(self.lifetime)


@attrs.frozen(kw_only=True)
class RouterStatus:
    """What a router says of itself by one protocol."""

    protocol: PortMapProtocol
    external: str | None = None
    """Its outside address, if it tells without a mapping being asked for (PCP does not)."""
    epoch: float | None = None
    """The router's own clock, seconds since it lost its mappings last, if it told."""
    description: str = ""
    """Name and model for people, if it told; at most 100 printable characters."""


@attrs.frozen(kw_only=True)
class RouterReport:
    """What the default router of one address family says, and what it has granted."""

    family: int
    """4 or 6."""
    gateway: Gateway | None = None
    """The router; None if this host has none."""
    answers: tuple[RouterStatus | PortMapError, ...] = ()
    """What each protocol came to, the preferred one first."""
    mapping: PortMapping | None = None
    """The mapping that this node has there."""


class PortMapClient(Protocol):
    """One protocol, towards one router, for one UDP port at a time.

    Each call may be cancelled at any time and leaves the client usable; each ends by itself within a few seconds,
    takes a bounded amount of memory whatever the router sends, and raises nothing but :class:`PortMapError`.
    No two calls run at once.
    """

    @property
    def protocol(self) -> PortMapProtocol:
        """The protocol it speaks."""
        ...

    @property
    def gateway(self) -> Gateway:
        """The router it speaks to."""
        ...

    async def status(self) -> RouterStatus:
        """Ask whether the router speaks the protocol, and what it says of itself.  Changes nothing there."""
        ...

    async def map(
        self, *, internal_port: int, external_port: int, lifetime: float, previous: PortMapping | None = None
    ) -> PortMapping:
        """Ask for a mapping of this host's UDP port ``internal_port``, or renew ``previous``.

        ``external_port`` is what is wanted outside; where it is taken, the next that is free, or what the router
        offers.  When renewing, ``previous`` is what is wanted again, also after the router forgot it.  ``lifetime``
        (seconds) is a wish as well.
        """
        ...

    async def unmap(self, mapping: PortMapping | None = None) -> None:
        """Remove a mapping that this client made; one that is gone already is removed, too.

        None stands for what the last call of :meth:`map` may have left behind at the router although it was cancelled
        or failed, as the client itself remembers it; nothing is done if it cannot have left anything.
        """
        ...
