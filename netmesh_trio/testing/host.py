"""Virtual hosts: what a node runs on in place of the machine's own network."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.errors import AddressError, BindError
from netmesh_trio.testing.fabric import Fabric
from netmesh_trio.testing.link import Link, LinkSettings
from netmesh_trio.testing.packets import PASS, Packet, Train
from netmesh_trio.testing.realm import Realm, canonical
from netmesh_trio.testing.socket import VirtualUdpSocket
from netmesh_trio.traversal.portmap import Gateway

if TYPE_CHECKING:
    from netmesh_trio.testing.internet import VirtualInternet
    from netmesh_trio.testing.nat import Nat

__all__ = ["Host", "HostStats", "Interface"]

_WILDCARD: Final = {4: "0.0.0.0", 6: "::"}
_EPHEMERAL: Final = range(32_768, 61_000)


@attrs.frozen
class HostStats:
    """Datagrams of one host, by what became of them."""

    sent: int
    delivered: int
    """Given to a socket, which may still have dropped them."""

    no_socket: int
    """For a port that nobody has bound, or an address that is not ours any more."""

    buffer_drops: int
    """Came when the receive buffer of their socket was full."""

    blocked: int
    """Stopped by :meth:`VirtualInternet.block` on arrival here."""


class Interface:
    """One link of a host and the addresses that it has there."""

    def __init__(self, host: Host, fabric: Fabric, name: str, settings: LinkSettings) -> None:
        self.name = name
        self.link: Link = Link(fabric, name, settings, self._leave, host.deliver)
        self._fabric = fabric
        self._realms: dict[str, Realm] = {}

    def __repr__(self) -> str:
        return f"<Interface {self.name} {' '.join(self._realms)}>"

    @property
    def addresses(self) -> Mapping[str, Realm]:
        """Each address, and where it is attached."""
        return self._realms

    def attach(self, realm: Realm, *addresses: str) -> None:
        """Take addresses in a realm; without any, a free IPv4 one.

        :raises ValueError: if an address is not numeric, or taken.
        """
        for address in [canonical(a) for a in addresses] or [realm.allocate()]:
            home = realm.home_of(address)
            home.attach(address, self.link.inbound.send)
            self._realms[address] = home

    def detach(self, *addresses: str) -> None:
        """Give up these addresses, or all."""
        for address in addresses or tuple(self._realms):
            self._realms.pop(canonical(address)).detach(canonical(address))

    def _leave(self, train: Train) -> None:
        realm = self._realms.get(train.source.host)
        if realm is None:  # moved away while it was under way
            self._fabric.unroutable += train.count
            self._fabric.record("unroutable", self.name, train)
        else:
            realm.route(train)


class Host:
    """A machine on the virtual internet, made by ``net.host()`` or ``nat.host()``.

    It is a network for a node: ``open_node(identity, network=host)``.  ``host.bind()`` gives raw
    sockets.
    """

    def __init__(self, internet: VirtualInternet, fabric: Fabric, name: str, link: LinkSettings) -> None:
        self.name = name
        self.interfaces: list[Interface] = [Interface(self, fabric, name, link)]
        """The first is there from the start; see :meth:`add_interface`."""
        self.routers: list[Gateway] = []
        """What the host takes for its default routers, to be set by a test of port mappings."""
        self._internet = internet
        self._fabric = fabric
        self._random = fabric.random(f"{name} ports")
        self._order = fabric.schedule.new_order()
        self._sockets: dict[tuple[str, int], VirtualUdpSocket] = {}
        self._sent = self._delivered = self._no_socket = self._buffer_drops = self._blocked = 0

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(self.interface_addresses())}>"

    # -- for people ------------------------------------------------------------------------------

    @property
    def link(self) -> Link:
        """The link of the first interface."""
        return self.interfaces[0].link

    @property
    def address(self) -> str:
        """The first address.  :raises LookupError: if the host has none now."""
        for interface in self.interfaces:
            for address in interface.addresses:
                return address
        raise LookupError(f"host {self.name} has no address")

    @property
    def nats(self) -> list[Nat]:
        """The NATs and firewalls between the first address and the internet, from here outward."""
        for interface in self.interfaces:
            for realm in interface.addresses.values():
                return realm.gateways()
        return []

    def add_interface(
        self, place: VirtualInternet | Nat, *addresses: str, link: LinkSettings | None = None
    ) -> Interface:
        """Another way out, as Ethernet beside Wi-Fi.

        Packets leave by the interface whose network has the destination, else by the first one with
        an address of the right family.
        """
        settings = link or self._internet.default_link(place)
        name = f"{self.name}.{len(self.interfaces) + 1}"
        interface = Interface(self, self._fabric, name, settings)
        interface.attach(place.realm, *addresses)
        self.interfaces.append(interface)
        return interface

    def roam(self, place: VirtualInternet | Nat, *addresses: str) -> None:
        """Leave the first interface's network for another, or for another address in the same one.

        Sockets stay open: those bound to all addresses go on with the new one, those bound to an
        old address are cut off.  What is under way to an old address is lost.
        """
        self.interfaces[0].detach()
        self.interfaces[0].attach(place.realm, *addresses)

    def kill(self) -> None:
        """End all that runs here, as ``kill -9`` does: no socket sends or receives again, nobody is
        told.

        The ports are free at once, so that a successor can be started.
        """
        for socket in self._sockets.values():
            socket.kill()
        self._sockets.clear()

    def statistics(self) -> HostStats:
        """The counters now."""
        return HostStats(
            sent=self._sent,
            delivered=self._delivered,
            no_socket=self._no_socket,
            buffer_drops=self._buffer_drops,
            blocked=self._blocked,
        )

    # -- what a node needs of a network ----------------------------------------------------------

    async def bind(self, host: str, port: int) -> VirtualUdpSocket:
        """Bind a UDP socket to an own address, a loopback one, or all (``0.0.0.0``, ``::``).

        ``::`` takes IPv6 only.  Port 0 is for any free one.

        :raises BindError: if the address is not ours or the port is in use.
        """
        await trio.lowlevel.checkpoint()
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            raise BindError(f"{host!r} is not a numeric address: {self.name} binds to numbers only") from None
        name = str(ip)
        if not (ip.is_unspecified or ip.is_loopback or self._owns(name)):
            raise BindError(f"{name} is not an address of {self.name}")
        if not 0 <= port <= 65_535:
            raise BindError(f"{port} is not a port: use 0 to 65535")
        if port == 0:
            port = self._free_port(name)
        elif not self._is_free(name, port):
            raise BindError(f"UDP port {port} of {self.name} is in use")
        socket = VirtualUdpSocket(self, Address(name, port), self._fabric.segments, self._fabric.receive_buffer)
        self._sockets[name, port] = socket
        return socket

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of a name in :attr:`VirtualInternet.dns`, or of a number, itself.

        :raises AddressError: if nobody has that name.
        """
        await trio.lowlevel.checkpoint()
        try:
            return [Address(canonical(host), port)]
        except ValueError:
            pass
        found = self._internet.dns.get(host)
        if not found:
            raise AddressError(f"host name {host!r} does not resolve")
        return [Address(canonical(address), port) for address in found]

    def interface_addresses(self) -> list[str]:
        """The addresses of all interfaces, without loopback."""
        return [address for interface in self.interfaces for address in interface.addresses]

    def gateways(self) -> list[Gateway]:
        """See :attr:`routers`."""
        return list(self.routers)

    async def join(self, group: str, port: int, gateway: Gateway) -> VirtualUdpSocket:
        """:raises BindError: the virtual internet has no multicast."""
        await trio.lowlevel.checkpoint()
        raise BindError(f"cannot join {group}: the virtual internet has no multicast")

    def upnp(self, gateway: Gateway) -> None:
        """None: the virtual internet has no TCP."""

    # -- packets ---------------------------------------------------------------------------------

    def route(self, bound: str, destination: Address) -> tuple[str, Link | None] | None:
        """Source address and link for a destination; None if there is no way to it.

        The link is None if the destination is this host.
        """
        target = destination.host
        family = destination.family
        wildcard = bound == _WILDCARD[family]
        if target.startswith("127.") or target == "::1" or self._owns(target):
            return (target if wildcard else bound), None
        best: tuple[str, Link] | None = None
        for interface in self.interfaces:
            for address, realm in interface.addresses.items():
                if (":" in address) != (family == 6) or not (wildcard or address == bound):
                    continue
                if best is None or (realm.gateway is not None and target in realm):
                    best = address, interface.link
        return best

    def transmit(self, train: Train, link: Link | None) -> None:
        """Send what a socket gives, past the test's hook if there is one."""
        self._sent += train.count
        self._fabric.record("sent", self.name, train)
        send = self.deliver if link is None else link.outbound.send
        if self._fabric.on_packet is None:
            send(train)
            return
        schedule = self._fabric.schedule
        for payload in train.segments():
            packet = Packet(schedule.now(), self.name, train.source, train.destination, payload)
            verdict = self._fabric.on_packet(packet) or PASS
            if verdict.drop:
                self._fabric.record("dropped", self.name, train.of(payload))
                continue
            data = payload if verdict.data is None else verdict.data
            for _ in range(verdict.copies):
                # Own size: a changed payload may be longer than the train's.
                single = Train(self, train.source, train.destination, data, max(1, len(data)))
                if verdict.delay:
                    schedule.push(schedule.now() + verdict.delay, self._order, send, single)
                else:
                    send(single)

    def deliver(self, train: Train) -> None:
        """Give what has arrived to its socket."""
        destination = train.destination
        if self._fabric.blocked and (train.origin, self) in self._fabric.blocked:
            self._blocked += train.count
            self._fabric.record("blocked", self.name, train)
            return
        socket = self._sockets.get(destination)
        if socket is None:
            socket = self._sockets.get((_WILDCARD[destination.family], destination.port))
        loopback = train.origin is self
        if socket is None or not (loopback or self._owns(destination.host)):
            self._no_socket += train.count
            self._fabric.record("no-socket", self.name, train)
            return
        self._delivered += train.count
        self._fabric.record("delivered", self.name, train)
        socket.accept(train)

    def count_buffer_drop(self, train: Train) -> None:
        """A socket of ours had no room."""
        self._buffer_drops += train.count
        self._fabric.record("buffer", self.name, train)

    def forget(self, socket: VirtualUdpSocket) -> None:
        """A socket of ours was closed."""
        if self._sockets.get(socket.address) is socket:
            del self._sockets[socket.address]

    def _owns(self, address: str) -> bool:
        return any(address in interface.addresses for interface in self.interfaces)

    def _is_free(self, host: str, port: int) -> bool:
        family = Address(host, port).family
        if host == _WILDCARD[family]:
            return not any(
                socket.address.port == port and socket.address.family == family for socket in self._sockets.values()
            )
        return (host, port) not in self._sockets and (_WILDCARD[family], port) not in self._sockets

    def _free_port(self, host: str) -> int:
        for _ in range(64):
            port = self._random.choice(_EPHEMERAL)
            if self._is_free(host, port):
                return port
        for port in _EPHEMERAL:
            if self._is_free(host, port):
                return port
        raise BindError(f"all ephemeral ports of {self.name} are in use")
