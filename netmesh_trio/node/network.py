"""What a node runs on: a network that binds UDP sockets.  The kernel's is the default, the virtual one is for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..addresses import Address
from ..traversal.portmap.mapping import Gateway, PortMapClient

__all__ = ["Network", "Received", "UdpSocket"]

#: One or several datagrams of one source: bytes, the size of each but the last, the source.
Received = tuple[memoryview, int, Address]
Piece = bytes | memoryview


class UdpSocket(Protocol):
    """A bound UDP socket.

    Sending never waits and never fails: as on any network, datagrams may get lost.  After :meth:`close` all that is
    sent is lost and counted, and to receive or wait raises :class:`trio.ClosedResourceError`.
    """

    @property
    def address(self) -> Address:
        """Where it is bound."""
        ...

    @property
    def max_segments(self) -> int:
        """Datagrams that one send takes to the network at once; 1 without segmentation offload."""
        ...

    @property
    def send_errors(self) -> int:
        """Datagrams that were not sent."""
        ...

    def send(self, pieces: Sequence[Piece], segment_size: int, destination: Address) -> None:
        """Send the joined ``pieces``, cut every ``segment_size`` bytes, to one destination."""
        ...

    def receive_nowait(self) -> Received | None:
        """The next datagrams, or None.  The view is the caller's, to write into too, until the next call.

        An error of the system that no later call would overcome comes out as it is.
        """
        ...

    async def wait_readable(self) -> None:
        """Wait until there may be something to receive."""
        ...

    async def run_sender(self) -> None:
        """Send what the network did not take at once; runs as long as the socket."""
        ...

    def close(self) -> None:
        """Close; harmless to repeat."""
        ...


class Network(Protocol):
    """Somewhere to bind sockets."""

    async def bind(self, host: str, port: int) -> UdpSocket:
        """Bind a UDP socket; port 0 is any.  Raises BindError."""
        ...

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The numeric addresses of a host name.  Raises AddressError."""
        ...

    def interface_addresses(self) -> list[str]:
        """The numeric addresses of this host's interfaces."""
        ...

    def gateways(self) -> list[Gateway]:
        """The default routers, for each address family the preferred one first."""
        ...

    async def join(self, group: str, port: int, gateway: Gateway) -> UdpSocket:
        """A socket that gets what is sent to a multicast group on the link to a router.

        Raises BindError, also where there is no multicast.
        """
        ...

    def upnp(self, gateway: Gateway) -> PortMapClient | None:
        """A client for port mappings by UPnP, which takes more than UDP sockets; None where there is none."""
        ...
