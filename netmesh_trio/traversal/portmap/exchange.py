"""One request to a router and the wait for its answer: as a machine without I/O, and the task that drives it."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import trio

from ...addresses import Address
from ...errors import BindError
from ...wire.errors import DecodeError
from .mapping import Gateway, PortMapCause, PortMapError, PortMapProtocol

__all__ = ["Bind", "DatagramSocket", "Exchange", "ask"]

T = TypeVar("T")

FIRST_WAIT: Final = 0.25
"""Seconds until the second packet; doubled each time (RFC 6886, 3.1).

RFC 6887, 8.1.1, has PCP wait for 3 s at first, and go on for ever.  A lost packet would then take all the time that
there is.  We send a few and stop, which is less in all.
"""
PACKETS: Final = 4
"""Packets in all; 3.75 s."""
_MAX_NOISE = 64
_READS = 16


class DatagramSocket(Protocol):
    """What is needed of a UDP socket; those of :mod:`netmesh_trio.node` and of the virtual internet have it."""

    def send(self, pieces: Sequence[bytes], segment_size: int, destination: Address) -> None:
        """Send a datagram; like the network, it may lose it."""
        ...

    def receive_nowait(self) -> tuple[memoryview, int, Address] | None:
        """The next datagrams, or None: bytes, the size of each but the last, the source."""
        ...

    async def wait_readable(self) -> None:
        """Wait until there may be something."""
        ...

    def close(self) -> None:
        """Close."""
        ...


#: Binds a UDP socket to a host and a port.  Raises BindError.
Bind = Callable[[str, int], Awaitable[DatagramSocket]]


class Exchange(Generic[T]):
    """What to send when, and which datagram is the answer.

    Drive it so: :meth:`next_packet` and send what it gives; give it what comes in until :meth:`on_datagram_untrusted`
    returns something; wait no longer than until :attr:`deadline`; and again.

    ``read`` makes the answer of a datagram; what it raises DecodeError for is dropped and counted, a PortMapError is
    the end.  ``chance`` spreads the waits by a tenth.
    """

    __slots__ = ("_deadline", "_protocol", "_read", "_request", "_router", "_sent", "_wait", "noise")

    def __init__(
        self,
        request: bytes,
        read: Callable[[bytes], T],
        router: Address,
        protocol: PortMapProtocol,
        chance: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self._request = request
        self._read = read
        self._router = router
        self._protocol: PortMapProtocol = protocol
        self._wait = FIRST_WAIT * (0.9 + 0.2 * chance())
        self._sent = 0
        self._deadline = -math.inf
        #: Datagrams of the router that were no answer.
        self.noise: int = 0

    @property
    def deadline(self) -> float:
        """When to look again, if nothing comes in."""
        return self._deadline

    def next_packet(self, now: float) -> bytes | None:
        """The packet that is due, or None.  Raises PortMapError when nothing has come of the last one."""
        if now < self._deadline:
            return None
        if self._sent == PACKETS:
            if self.noise:
                raise PortMapError(PortMapCause.MALFORMED, self._protocol, "what the router sends is no answer")
            raise PortMapError(PortMapCause.TIMEOUT, self._protocol, "the router does not answer")
        self._deadline = now + self._wait * 2**self._sent
        self._sent += 1
        return self._request

    def on_datagram_untrusted(self, data: bytes, source: Address) -> T | None:
        """The answer, if this is it.  Only the router's own address and port can send one (RFC 6886, 3.1)."""
        if source != self._router:
            return None
        try:
            return self._read(data)
        except DecodeError as error:
            self.noise += 1
            if self.noise > _MAX_NOISE:
                raise PortMapError(
                    PortMapCause.MALFORMED, self._protocol, "the router sends too much that is no answer"
                ) from error
            return None


async def ask(
    bind: Bind,
    gateway: Gateway,
    port: int,
    protocol: PortMapProtocol,
    request: bytes,
    read: Callable[[bytes], T],
) -> T:
    """Send a request to a router from this host's address there, and wait for the answer.

    Takes at most 4 s.  Raises PortMapError.
    """
    router = Address(gateway.host, port)
    exchange = Exchange(request, read, router, protocol, random.random)
    try:
        socket = await bind(gateway.local, 0)
    except BindError as error:
        raise PortMapError(PortMapCause.NETWORK_FAILURE, protocol, str(error)) from error
    try:
        while True:
            packet = exchange.next_packet(trio.current_time())
            if packet is not None:
                socket.send((packet,), len(packet), router)
            with trio.move_on_at(exchange.deadline):
                await socket.wait_readable()
            for _ in range(_READS):
                received = socket.receive_nowait()
                if received is None:
                    break
                data, size, source = received
                for at in range(0, len(data), size):
                    answer = exchange.on_datagram_untrusted(bytes(data[at : at + size]), source)
                    if answer is not None:
                        return answer
    finally:
        socket.close()
