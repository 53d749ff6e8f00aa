"""What travels on the virtual internet, and what a test may see of it and do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from netmesh_trio.addresses import Address

if TYPE_CHECKING:
    from netmesh_trio.testing.host import Host

__all__ = ["DROP", "PASS", "LogEntry", "Packet", "Train", "Verdict", "header_size"]

_IPV4_HEADERS: Final = 20 + 8
_IPV6_HEADERS: Final = 40 + 8


def header_size(address: Address) -> int:
    """Bytes of IP and UDP header in front of a payload: 28 for IPv4, 48 for IPv6."""
    return _IPV6_HEADERS if ":" in address.host else _IPV4_HEADERS


class Train:
    """Datagrams under way together: one source, one destination, all of one size but the last.

    ``data`` is cut every ``segment_size`` bytes, as by ``UDP_SEGMENT``; ``count`` says how often,
    and ``wire_size`` how many bytes that makes with IP and UDP headers.
    """

    __slots__ = (
        "count",
        "data",
        "destination",
        "origin",
        "segment_size",
        "source",
        "wire_size",
    )

    def __init__(
        self,
        origin: Host | None,
        source: Address,
        destination: Address,
        data: bytes,
        segment_size: int,
    ) -> None:
        self.origin: Host | None = origin
        self.source: Address = source
        self.destination: Address = destination
        self.data: bytes = data
        self.segment_size: int = segment_size
        self.count: int = -(-len(data) // segment_size) if data else 1
        self.wire_size: int = len(data) + self.count * header_size(destination)

    def of(self, data: bytes) -> Train:
        """Another train on the same way, with other bytes cut the same."""
        return Train(self.origin, self.source, self.destination, data, self.segment_size)

    def segments(self) -> list[bytes]:
        """The payloads of the datagrams."""
        if self.count == 1:
            return [self.data]
        size = self.segment_size
        return [self.data[at : at + size] for at in range(0, len(self.data), size)]


@attrs.frozen
class Packet:
    """One datagram as it leaves its host, for :attr:`VirtualInternet.on_packet`."""

    time: float
    """Seconds, on trio's clock."""

    origin: str
    """Name of the sending host."""

    source: Address
    """As the sender knows it, before any translation."""

    destination: Address
    data: bytes


@attrs.frozen(kw_only=True)
class Verdict:
    """What shall become of a packet."""

    drop: bool = False
    delay: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    """Seconds to hold it back before its link; others overtake it."""

    copies: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    """How many of it to send."""

    data: bytes | None = None
    """Other bytes to send in its place."""


PASS: Final = Verdict()
"""Let the packet go; the same as None."""

DROP: Final = Verdict(drop=True)
"""Lose the packet."""


@attrs.frozen
class LogEntry:
    """One line of :attr:`VirtualInternet.log`: what happened to datagrams, when and where."""

    time: float
    """Seconds, on trio's clock."""

    what: str
    """``sent``, ``delivered``, or why not: ``blocked``, ``buffer`` (of the socket was full),
    ``down``, ``dropped`` (by a verdict), ``filtered``, ``lost``, ``no-mapping``, ``no-socket``,
    ``queue``, ``too-big``, ``unroutable``."""

    where: str
    """Name of the host, NAT or link."""

    source: Address
    destination: Address
    count: int
    """Datagrams."""

    size: int
    """Bytes of payload, all together."""
