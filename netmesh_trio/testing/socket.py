"""UDP sockets of virtual hosts, with the interface that a node expects of a socket."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.testing.packets import Train, header_size

if TYPE_CHECKING:
    from netmesh_trio.testing.host import Host

__all__ = ["SocketStats", "VirtualUdpSocket"]

MAX_SEND: Final = 65_507
"""Bytes of one send, as of one IPv4 datagram."""


@attrs.frozen
class SocketStats:
    """Datagrams of one socket, by what became of them here."""

    sent: int
    sent_bytes: int
    received: int
    """Put into the receive buffer."""

    received_bytes: int
    buffer_drops: int
    """Came when the receive buffer was full."""

    too_big: int
    """Not sent: larger than the MTU of the host's own link, or than UDP allows."""

    unroutable: int
    """Not sent: no local address fits the destination, or the bound one is gone."""

    after_close: int = 0
    """Not sent: the socket was closed."""


class VirtualUdpSocket:
    """A bound UDP socket of a virtual host.

    As on a real one, sending never waits, and what the network does to a datagram is not heard of.
    """

    def __init__(self, host: Host, address: Address, segments: int, receive_buffer: int) -> None:
        self.address: Address = address
        """The local address; its host is ``0.0.0.0`` or ``::`` when bound to all."""
        self.max_segments: int = segments
        """Datagrams that one send or one receipt holds at most."""
        self._host = host
        self._buffer = receive_buffer
        self._queue: deque[Train] = deque()
        self._queued = 0
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self._killed = False
        self._sent = self._sent_bytes = self._received = self._received_bytes = 0
        self._buffer_drops = self._too_big = self._unroutable = self._after_close = 0

    def __repr__(self) -> str:
        return f"<VirtualUdpSocket {self.address} of {self._host.name}>"

    @property
    def stats(self) -> SocketStats:
        """The counters now."""
        return SocketStats(
            sent=self._sent,
            sent_bytes=self._sent_bytes,
            received=self._received,
            received_bytes=self._received_bytes,
            buffer_drops=self._buffer_drops,
            too_big=self._too_big,
            unroutable=self._unroutable,
            after_close=self._after_close,
        )

    def send(self, pieces: Sequence[bytes | memoryview], segment_size: int, destination: Address) -> None:
        """Send the joined pieces as datagrams of ``segment_size`` bytes; the last may be shorter.

        More than ``max_segments`` of them go in several batches.  After :meth:`close` they are lost and counted.

        :raises ValueError: if ``segment_size`` is not positive.
        """
        if segment_size < 1:
            raise ValueError(f"segments of {segment_size} bytes")
        # A lone piece that is no bytes object is copied, too: its owner may write over it.
        data = b"".join(pieces)
        size = min(segment_size, len(data) or 1)
        train = Train(self._host, self.address, destination, data, size)
        if train.count > self.max_segments:
            step = size * self.max_segments
            for at in range(0, len(data), step):
                self.send((data[at : at + step],), size, destination)
            return
        if self._killed:
            return
        if self._closed:
            self._after_close += train.count
            return
        if len(data) > MAX_SEND:
            self._too_big += train.count
            return
        route = self._host.route(self.address.host, destination)
        if route is None:
            self._unroutable += train.count
            return
        source, link = route
        if source is not self.address.host:
            train.source = Address(source, self.address.port)
        if link is not None and size + header_size(destination) > link.outbound.mtu:
            self._too_big += train.count
            return
        self._sent += train.count
        self._sent_bytes += len(data)
        self._host.transmit(train, link)

    def accept(self, train: Train) -> None:
        """Put what has arrived into the buffer; what does not fit is dropped and counted."""
        if train.count > self.max_segments:
            for payload in train.segments():
                self.accept(train.of(payload))
            return
        # As a kernel does, charge small datagrams more than their bytes.
        size = train.wire_size
        if self._queued + size > self._buffer:
            self._buffer_drops += train.count
            self._host.count_buffer_drop(train)
            return
        self._queued += size
        self._queue.append(train)
        self._received += train.count
        self._received_bytes += len(train.data)
        if self._readers:
            self._readers.unpark_all()

    def receive_nowait(self) -> tuple[memoryview, int, Address] | None:
        """Bytes of one or several datagrams, the size of each but the last, and their source.

        None if nothing has arrived.

        :raises trio.ClosedResourceError: after :meth:`close`.
        """
        if not self._queue:
            if self._closed:
                raise trio.ClosedResourceError("this socket was closed")
            return None
        train = self._queue.popleft()
        self._queued -= train.wire_size
        return memoryview(bytearray(train.data)), train.segment_size, train.source

    async def wait_readable(self) -> None:
        """Wait until :meth:`receive_nowait` would give something.

        :raises trio.ClosedResourceError: if the socket is, or gets, closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while not self._queue:
            if self._closed:
                raise trio.ClosedResourceError("this socket was closed")
            waited = True
            await self._readers.park()
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @property
    def send_errors(self) -> int:
        """Datagrams that were not sent."""
        return self._too_big + self._unroutable + self._after_close

    async def run_sender(self) -> None:
        """Nothing to do: a virtual network takes everything at once."""
        await trio.sleep_forever()

    def close(self) -> None:
        """Give the port back and wake who waits.  Closing twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self._queue.clear()
        self._queued = 0
        self._host.forget(self)
        self._readers.unpark_all()

    def kill(self) -> None:
        """As if the process had been killed: the socket is dead, and nobody is told."""
        self._killed = True
        self._queue.clear()
        self._queued = 0
