"""The kernel's UDP sockets, in batches where the kernel can (``UDP_SEGMENT`` and ``UDP_GRO`` of Linux)."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence

import trio

from ..addresses import Address
from ..errors import AddressError, BindError
from ..traversal.portmap.mapping import Gateway, PortMapClient
from ..traversal.source import ANYWHERE, source_towards
from .network import Piece, Received

__all__ = ["KernelNetwork", "KernelUdpSocket"]

_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3  # set DF, and leave finding the path's MTU to us (RFC 8899)
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20
_MAX_QUEUE = 256
_MAX_KNOWN = 4096
# Errors and empty datagrams in a row that are read over.  Reading clears an error that an earlier send left behind,
# unless the socket is broken.
_MAX_ERRORS = 64
# What no reading clears: the descriptor is not that of our socket any more.
_NO_SOCKET = frozenset({errno.EBADF, errno.ENOTSOCK})

_segment_size = struct.Struct("=H").pack
_gro_size = struct.Struct("=i").unpack_from
_ANCILLARY = socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 0


class KernelUdpSocket:
    """A UDP socket of the operating system.  Batches are probed for at the start, with a quiet fallback."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._v6 = sock.family == socket.AF_INET6
        self.address: Address = Address.from_sockaddr(sock.getsockname())
        self._buffer = bytearray(65536)
        self._view = memoryview(self._buffer)
        self._known: dict[object, Address] = {}
        self._queue: deque[tuple[bytes, int, Address]] = deque()
        self._wake = trio.Event()
        # destinations that refused a batch (EIO: the device cannot checksum it)
        self._single: set[Address] = set()
        self.send_errors: int = 0
        self._gro = self._set(_SOL_UDP, _UDP_GRO, 1) if sys.platform == "linux" else False
        self.max_segments = 64 if sys.platform == "linux" and self._set(_SOL_UDP, _UDP_SEGMENT, 0) else 1
        if sys.platform == "linux":
            if self._v6:
                self._set(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            else:
                self._set(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        for force, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            if sys.platform != "linux" or not self._set(socket.SOL_SOCKET, force, _BUFFER):
                self._set(socket.SOL_SOCKET, plain, _BUFFER)

    def _set(self, level: int, option: int, value: int) -> bool:
        try:
            self._sock.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def send(self, pieces: Sequence[Piece], segment_size: int, destination: Address) -> None:
        """See :class:`~netmesh_trio.node.network.UdpSocket`."""
        if self._queue:
            self._enqueue(b"".join(pieces), segment_size, destination)
            return
        try:
            if len(pieces) == 1 and len(pieces[0]) <= segment_size:
                self._sock.sendto(pieces[0], destination)
            elif self.max_segments > 1 and destination not in self._single:
                control = [(_SOL_UDP, _UDP_SEGMENT, _segment_size(segment_size))]
                self._sock.sendmsg(pieces, control, 0, destination)
            else:
                self._one_by_one(b"".join(pieces), segment_size, destination)
        except BlockingIOError:
            self._enqueue(b"".join(pieces), segment_size, destination)
        except OSError as error:
            self._on_error(error, b"".join(pieces), segment_size, destination)

    def _one_by_one(self, data: bytes, size: int, destination: Address) -> bool:
        """Send datagrams singly; False if the system refused one: it and the rest are lost, and counted."""
        view = memoryview(data)
        for at in range(0, len(data), size):
            try:
                self._sock.sendto(view[at : at + size], destination)
            except BlockingIOError:
                self._enqueue(data[at:], size, destination)
                return True
            except OSError:
                self._lost(len(data) - at, size)
                return False
        return True

    def _lost(self, length: int, size: int) -> None:
        self.send_errors += max(1, -(-length // size))

    def _on_error(self, error: OSError, data: bytes, size: int, destination: Address) -> None:
        if error.errno in (errno.EIO, errno.EINVAL) and len(data) > size and destination not in self._single:
            # this device, or this size, does not go in batches: the same datagrams one by one
            if not self._one_by_one(data, size, destination):
                return  # it was not the batch
            if len(self._single) >= _MAX_KNOWN:
                self._single.clear()
            self._single.add(destination)
            return
        if "%" in destination.host and len(data) <= size and not destination[2:]:
            # the pair lacks the number of the link
            try:
                self._sock.sendto(data, _with_scope(destination))
            except OSError:
                self._lost(len(data), size)
            return
        # EMSGSIZE: larger than the link; path MTU discovery sees the loss.  ENETUNREACH, EHOSTUNREACH, EPERM,
        # ECONNREFUSED (somebody's earlier ICMP): lost like on any network, and other paths may work
        self._lost(len(data), size)

    def _enqueue(self, data: bytes, size: int, destination: Address) -> None:
        if len(self._queue) >= _MAX_QUEUE:
            self._lost(len(data), size)
            return
        self._queue.append((data, size, destination))
        self._wake.set()

    async def run_sender(self) -> None:
        """See :class:`~netmesh_trio.node.network.UdpSocket`."""
        while True:
            await self._wake.wait()
            await trio.lowlevel.wait_writable(self._sock.fileno())
            waiting = self._queue
            self._queue = deque()
            self._wake = trio.Event()
            while waiting:
                self.send((waiting[0][0],), *waiting.popleft()[1:])

    def receive_nowait(self) -> Received | None:
        """See :class:`~netmesh_trio.node.network.UdpSocket`."""
        errors = 0
        while errors < _MAX_ERRORS:
            try:
                if self._gro:
                    size, control, _, raw = self._sock.recvmsg_into([self._view], _ANCILLARY)
                else:
                    size, raw = self._sock.recvfrom_into(self._view)
                    control = []
            except BlockingIOError:
                return None
            except OSError as error:
                if self._sock.fileno() < 0:
                    raise trio.ClosedResourceError("this socket was closed") from None
                if error.errno in _NO_SOCKET:
                    raise
                errors += 1  # a pending ICMP error of an earlier send; reading it clears it
                continue
            if not size:
                errors += 1
                continue
            source = self._known.get(raw)
            if source is None:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                source = self._known[raw] = Address.from_sockaddr(raw)
            stride = size
            for level, kind, value in control:
                if level == _SOL_UDP and kind == _UDP_GRO:
                    stride = _gro_size(value)[0]
            return self._view[:size], stride, source
        return None

    async def wait_readable(self) -> None:
        """See :class:`~netmesh_trio.node.network.UdpSocket`."""
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed")
        await trio.lowlevel.wait_readable(self._sock.fileno())

    def close(self) -> None:
        """See :class:`~netmesh_trio.node.network.UdpSocket`."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock.fileno())
            self._sock.close()


def _with_scope(address: Address) -> tuple[str, int, int, int]:
    """What the kernel wants of a link-local address."""
    host, _, scope = address.host.partition("%")
    return host, address.port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope)


class KernelNetwork:
    """The operating system's network."""

    # as they were last
    _interface_addresses: Sequence[str] = ()

    def open_socket(self, family: int, kind: int) -> socket.socket:
        """A socket, which child processes do not inherit; all that a node uses come from here.  Raises BindError."""
        try:
            return socket.socket(family, kind)
        except OSError as error:
            hint = "; raise the limit of open files (ulimit -n)" if error.errno == errno.EMFILE else ""
            raise BindError(error.errno, f"cannot open a socket: {error.strerror}{hint}") from None

    async def bind(self, host: str, port: int) -> KernelUdpSocket:
        """Bind a UDP socket, to the first address of the name that this host has.  Raises BindError with what to do."""
        missing: BindError | None = None
        for address in await self.resolve(host, port):
            try:
                return await self._bind(address)
            except BindError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = missing or error
        raise missing or BindError(errno.EADDRNOTAVAIL, f"cannot bind {host}: it has no address")

    async def _bind(self, address: Address) -> KernelUdpSocket:
        family = socket.AF_INET6 if address.family == 6 else socket.AF_INET
        sock = self.open_socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((await trio.socket.getaddrinfo(*address, family, socket.SOCK_DGRAM))[0][4])
            return KernelUdpSocket(sock)
        except OSError as error:
            sock.close()
            hint = {
                errno.EADDRINUSE: "another program has it; choose another port, or 0 for any",
                errno.EADDRNOTAVAIL: "it is not an address of this host; 0.0.0.0 takes all of them",
                errno.EACCES: "ports below 1024 need privileges; choose a higher one",
            }.get(error.errno or 0, error.strerror)
            raise BindError(error.errno, f"cannot bind {address}: {hint}") from None
        except BaseException:  # also when cancelled: nobody else will close it
            sock.close()
            raise

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of a host name, in the system's order.  Raises AddressError."""
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise AddressError(f"cannot resolve {host!r}: {detail}; check the name or give an address") from None
        return [Address.from_sockaddr(entry[4]) for entry in found]

    def interface_addresses(self) -> list[str]:
        """The numeric addresses of all interfaces, loopback last; of IPv6 that one first which packets leave from.

        A host has several of IPv6, most of them for privacy (RFC 8981).  A firewall that lets in replies lets them in
        to the one that was sent from.
        """
        import ifaddr  # here, because importing it starts a process on some systems

        try:
            adapters = list(ifaddr.get_adapters())
        except OSError:
            return list(self._interface_addresses)  # no file descriptor is left: most likely they are as before
        found: list[str] = []
        for adapter in adapters:
            for ip in adapter.ips:
                found.append(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        source = source_towards(ANYWHERE[6])
        found.sort(key=lambda host: (Address(host, 0).is_loopback, ":" in host, host != source))
        self._interface_addresses = found
        return found

    def gateways(self) -> list[Gateway]:
        """The default routers, for each address family the preferred one first."""
        from ..traversal.portmap.routes import default_gateways  # here, because few nodes want it

        return default_gateways()

    async def join(self, group: str, port: int, gateway: Gateway) -> KernelUdpSocket:
        """A socket that gets what is sent to a multicast group on the link to a router.  Raises BindError."""
        await trio.lowlevel.checkpoint()
        family = socket.AF_INET6 if gateway.family == 6 else socket.AF_INET
        sock = self.open_socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            # other programs on this host listen there, too
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT") and sys.platform != "linux":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("::", port))
                member = socket.inet_pton(family, group) + struct.pack("@I", gateway.interface)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            else:
                # Windows binds to no group; elsewhere that leaves out what was sent to other addresses
                sock.bind(("" if sys.platform == "win32" else group, port))
                member = socket.inet_aton(group) + socket.inet_aton(gateway.local)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            return KernelUdpSocket(sock)
        except OSError as error:
            sock.close()
            raise BindError(error.errno, f"cannot join {group}, port {port}: {error.strerror}") from None

    def upnp(self, gateway: Gateway) -> PortMapClient | None:
        """A client for port mappings by UPnP."""
        from ..traversal.portmap.upnp.client import UpnpClient  # here, because few nodes want it

        return UpnpClient(gateway, open_socket=self.open_socket)
