"""Candidates: the addresses that two ends tell each other inside their session, and which of them to try.

Both directions are careful.  What we tell leaves out what no other host could reach (loopback, link-local, the bridges
of containers) and puts last what seldom helps (VPNs).  What we are told is only tried if it cannot turn us against
somebody: a private address means a host of *our* network to us, whoever names it.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Collection, Iterable, Sequence

import attrs

from ..addresses import Address
from .rendezvous import MAX_CANDIDATES, Candidate, CandidateKind

__all__ = [
    "MAX_UNVOUCHED",
    "Interface",
    "InterfaceClass",
    "Surroundings",
    "acceptable",
    "classify_interface",
    "gather",
    "select",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_UNVOUCHED = 2
"""Public addresses that a peer may name although nobody but itself says that it is there."""

_MAX_GLOBAL6 = MAX_UNVOUCHED + 1  # of our addresses: the other end may know one of them from others
_MAX_PER_HOST = 3  # ports of one public host: what peers observe, a mapped port, and one more

# Bridges and virtual machines' networks: no other host is behind them.
_INNER_NAMES = ("docker", "br-", "veth", "virbr", "cni", "podman", "lxc", "lxd", "vmnet", "vboxnet", "flannel", "cali")
_TUNNEL_NAMES = ("tun", "tap", "wg", "utun", "tailscale", "zt", "ppp", "ipsec", "nordlynx", "gre", "sit")
# The host's own end of what Docker, libvirt and Podman set up unless told otherwise, where no name is known.
_INNER_HOSTS = (
    *(ipaddress.IPv4Network(f"172.{second}.0.1/32") for second in range(17, 32)),
    ipaddress.IPv4Network("192.168.122.1/32"),
    ipaddress.IPv4Network("10.88.0.1/32"),
)
_SHARED = ipaddress.IPv4Network("100.64.0.0/10")  # RFC 6598; also the addresses of Tailscale
# An IPv4 address in IPv6's clothes: compatible, NAT64 (RFC 6052, RFC 8215), 6to4, Teredo.
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
_GLOBAL6 = ipaddress.IPv6Network("2000::/3")


class InterfaceClass(enum.IntEnum):
    """What an address of an interface is worth as a candidate; the lower, the better."""

    LAN = 1
    """A private address of a real network."""
    PUBLIC = 2
    """A public IPv4 or a global IPv6 address."""
    TUNNEL = 3
    """Of a VPN."""
    USELESS = 4
    """Nobody else reaches it."""


@attrs.frozen
class Interface:
    """An address of this host."""

    host: str
    """Numeric."""
    prefix: int | None = None
    """Bits of its network; None assumes 24 for IPv4 and 64 for IPv6."""
    name: str = ""
    """Of the interface, such as ``eth0``; empty if unknown."""

    @property
    def network(self) -> Network:
        """The network that it is in."""
        host = self.host.partition("%")[0]
        prefix = self.prefix if self.prefix is not None else (64 if ":" in host else 24)
        return ipaddress.ip_network(f"{host}/{prefix}", strict=False)


def classify_interface(interface: Interface) -> InterfaceClass:
    """What the address is worth as a candidate."""
    address = Address(interface.host, 1)
    ip = address.ip
    if not address.is_unicast or address.is_loopback or address.is_link_local:
        return InterfaceClass.USELESS
    if interface.name.startswith(_INNER_NAMES):
        return InterfaceClass.USELESS
    if not interface.name and any(ip in network for network in _INNER_HOSTS):
        return InterfaceClass.USELESS
    if isinstance(ip, ipaddress.IPv6Address) and not (address.is_private or ip in _GLOBAL6):
        return InterfaceClass.USELESS
    if interface.name.startswith(_TUNNEL_NAMES) or (not interface.name and ip in _SHARED):
        return InterfaceClass.TUNNEL
    return InterfaceClass.LAN if address.is_private else InterfaceClass.PUBLIC


def gather(
    interfaces: Iterable[Interface],
    bound: Sequence[Address],
    *,
    mapped: Address | None = None,
    reflexes: Iterable[Address] = (),
) -> tuple[Candidate, ...]:
    """What to tell the other end: best first, at most :data:`MAX_CANDIDATES`.

    ``bound`` is what each socket is bound to.  A wildcard stands for the interfaces of its family; a socket bound to
    one address is reached there only, be it a loopback address.  Of a host's global IPv6 addresses the first few: the
    interfaces name that one first which packets leave from, and the other end tries no more.
    """
    ranked: list[tuple[InterfaceClass, Candidate]] = []
    known = {interface.host.partition("%")[0]: interface for interface in interfaces}
    for socket in bound:
        if socket.is_unspecified:
            hosts = [i for i in known.values() if Address(i.host, 0).family == socket.family]
            for interface in hosts:
                worth = classify_interface(interface)
                if worth is not InterfaceClass.USELESS:
                    ranked.append((worth, _host_candidate(Address(interface.host, socket.port))))
        elif not socket.is_link_local:
            worth = classify_interface(known.get(socket.host, Interface(socket.host, name="bound")))
            ranked.append((worth, _host_candidate(socket)))
    if mapped is not None:
        ranked.append((InterfaceClass.PUBLIC, Candidate(CandidateKind.MAPPED, mapped)))
    ranked += [(InterfaceClass.PUBLIC, Candidate(CandidateKind.REFLEXIVE, reflex)) for reflex in reflexes]
    ranked.sort(key=lambda item: item[0])
    chosen: dict[Address, Candidate] = {}
    global6 = 0
    for worth, candidate in ranked:
        address = candidate.address
        if not (address.is_unicast and address.port) or address in chosen:
            continue
        if candidate.kind is CandidateKind.IPV6 and worth is InterfaceClass.PUBLIC:
            global6 += 1
            if global6 > _MAX_GLOBAL6:
                continue
        chosen[address] = candidate
    return tuple(chosen.values())[:MAX_CANDIDATES]


def _host_candidate(address: Address) -> Candidate:
    return Candidate(CandidateKind.IPV6 if address.family == 6 else CandidateKind.HOST, address)


@attrs.frozen(kw_only=True)
class Surroundings:
    """Where we are."""

    networks: tuple[Network, ...] = ()
    """Of our interfaces."""
    public_hosts: frozenset[str] = frozenset()
    """At which others see us."""
    families: frozenset[int] = frozenset((4, 6))
    """Of our sockets."""
    loopback: bool = False
    """Whether this node itself is bound to a loopback address, so that it reaches nothing else anyway."""

    @classmethod
    def of(
        cls, interfaces: Iterable[Interface], bound: Sequence[Address], reflexes: Iterable[Address] = ()
    ) -> Surroundings:
        """What follows from the interfaces, the sockets and the reflex addresses.

        Networks of containers and virtual machines are not counted: nobody else is in them.
        """
        useful = [i for i in interfaces if classify_interface(i) is not InterfaceClass.USELESS]
        return cls(
            networks=tuple(dict.fromkeys(i.network for i in useful)),
            public_hosts=frozenset(reflex.host for reflex in reflexes),
            families=frozenset(socket.family for socket in bound),
            loopback=any(socket.is_loopback for socket in bound),
        )

    def on_link(self, address: Address) -> bool:
        """Whether the address lies on a network of ours and is a host there."""
        ip = address.ip
        for network in self.networks:
            if ip.version == network.version and ip in network:
                # RFC 3021: a network of two addresses, or of one, has no broadcast address
                edges = (network.network_address, network.broadcast_address)
                return ip.version == 6 or network.prefixlen >= 31 or ip not in edges
        return False

    def is_broadcast(self, address: Address) -> bool:
        """Whether a packet to it would go to all hosts of a network of ours."""
        ip = address.ip
        return ip.version == 4 and any(
            ip in (network.network_address, network.broadcast_address)
            for network in self.networks
            if network.version == 4 and network.prefixlen < 31
        )


def acceptable(address: Address, mine: Surroundings, peer_public: Collection[str]) -> bool:
    """Whether a probe may go to an address that the peer itself named; ``peer_public`` is where others see the peer.

    Never to a wildcard, multicast, broadcast, reserved or link-local address, nor to one that embeds an IPv4 address.
    To a private one only if it lies on a network of ours or others see both ends at one host.  To a loopback one only
    if we are bound to such an address ourselves.
    """
    ip = address.ip
    if not address.port or not address.is_unicast or address.family not in mine.families:
        return False
    if address.is_link_local or "%" in address.host or mine.is_broadcast(address):
        return False
    if address.is_loopback:
        return mine.loopback
    if address.is_private:
        return mine.on_link(address) or not mine.public_hosts.isdisjoint(peer_public)
    if isinstance(ip, ipaddress.IPv6Address):
        return ip in _GLOBAL6 and not any(ip in network for network in _EMBEDDING)
    return True


def _rank(candidate: Candidate, mine: Surroundings) -> int:
    address = candidate.address
    if mine.on_link(address) or address.is_loopback:
        return 0
    if address.is_private:
        return 4
    if candidate.kind in (CandidateKind.HOST, CandidateKind.IPV6):
        return 1
    return 2 if candidate.kind is CandidateKind.MAPPED else 3


def select(candidates: Iterable[Candidate], mine: Surroundings, peer_public: Collection[str]) -> tuple[Candidate, ...]:
    """Which of a peer's candidates to try: the acceptable ones, LAN before WAN, each address once, at most 8.

    Of public addresses at which only the peer itself says to be, at most :data:`MAX_UNVOUCHED`, and of one public host
    few ports; so a peer gets few probes out of us towards others.
    """
    chosen: dict[Address, Candidate] = {}
    unvouched = 0
    ports: dict[str, int] = {}
    ranked = sorted((c for c in candidates if acceptable(c.address, mine, peer_public)), key=lambda c: _rank(c, mine))
    for candidate in ranked:
        address = candidate.address
        if address in chosen:
            continue
        if not address.is_private and not address.is_loopback:
            known = address.host in peer_public
            if ports.get(address.host, 0) >= _MAX_PER_HOST or (not known and unvouched >= MAX_UNVOUCHED):
                continue
            ports[address.host] = ports.get(address.host, 0) + 1
            unvouched += not known
        chosen[address] = candidate
    return tuple(chosen.values())[:MAX_CANDIDATES]
