"""Default routers of this host: where a packet to the internet goes first.

Linux tells in ``/proc``; elsewhere ``netifaces`` asks the system (``sysctl`` on macOS, ``GetIpForwardTable2`` on
Windows).  Which address of ours a router sees, the system tells for a socket that is connected and sends nothing.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from ...addresses import Address
from ..source import ANYWHERE, source_towards
from .mapping import Gateway

__all__ = ["Route", "choose_gateway", "default_gateways", "parse_linux_routes4", "parse_linux_routes6"]

_UP, _GATEWAY = 0x1, 0x2  # linux/route.h
_MAX_ROUTES: Final = 64
# Of the calling thread, which may live in another network namespace than the rest of the program.
_ROUTES4: Final = Path("/proc/thread-self/net/route")
_ROUTES6: Final = Path("/proc/thread-self/net/ipv6_route")


@attrs.frozen
class Route:
    """A default route over a router."""

    router: str
    """Numeric, without scope."""
    interface: str
    metric: int = 0


def parse_linux_routes4(text: str) -> list[Route]:
    """The default routes in ``/proc/net/route``, the preferred one first.  What does not parse is left out."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        try:
            interface, destination, router, flags, _, _, metric, mask = fields[:8]
            number = int(router, 16)
            if int(destination, 16) == 0 == int(mask, 16) and int(flags, 16) & (_UP | _GATEWAY) == _UP | _GATEWAY:
                host = str(ipaddress.IPv4Address(number.to_bytes(4, sys.byteorder)))
                found.append(Route(host, interface, int(metric)))
        except (ValueError, OverflowError):
            continue
    return sorted(found, key=lambda route: route.metric)[:_MAX_ROUTES]


def parse_linux_routes6(text: str) -> list[Route]:
    """The default routes in ``/proc/net/ipv6_route``, the preferred one first.  What does not parse is left out."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        try:
            destination, length, _, _, router, metric, _, _, flags, interface = fields
            if int(destination, 16) == 0 == int(length, 16) and int(flags, 16) & (_UP | _GATEWAY) == _UP | _GATEWAY:
                found.append(Route(str(ipaddress.IPv6Address(bytes.fromhex(router))), interface, int(metric, 16)))
        except ValueError:
            continue
    return sorted(found, key=lambda route: route.metric)[:_MAX_ROUTES]


def _linux_routes() -> list[Route]:
    found: list[Route] = []
    for path, parse in ((_ROUTES4, parse_linux_routes4), (_ROUTES6, parse_linux_routes6)):
        try:
            found += parse(path.read_text(encoding="ascii", errors="replace"))
        except OSError:  # a kernel without that family
            continue
    return found


def _other_routes() -> list[Route]:
    import netifaces  # here, because Linux does without

    found = []
    known: Any = netifaces.gateways()
    for family, routes in known.items():
        if family in (netifaces.AF_INET, netifaces.AF_INET6):
            # (router, interface, whether it is the default of its family)
            for rank, (router, interface, *preferred) in enumerate(routes[:_MAX_ROUTES]):
                first = not (preferred and preferred[0])
                found.append(Route(router.partition("%")[0], interface, first * _MAX_ROUTES + rank))
    return sorted(found, key=lambda route: route.metric)


def default_gateways() -> list[Gateway]:
    """The default routers of this host, for each family the preferred one first; a few system calls.

    One is left out if this host has no address of use there.
    """
    found: list[Gateway] = []
    routes = _linux_routes() if sys.platform == "linux" else _other_routes()
    known: dict[str, _Interface] | None = None
    for route in routes:
        address = Address(route.router, 0)
        if not address.is_unicast:
            continue
        if known is None:
            known = _interfaces()
        interface = known.get(route.interface)
        local = None if interface is None else _local_address(address, interface.hosts)
        if interface is None or local is None:
            continue
        # as a datagram from there names it
        host = Address.from_sockaddr((route.router, 0, 0, interface.index if address.is_link_local else 0)).host
        found.append(Gateway(host, local, interface.index))
    return found


@attrs.frozen
class _Interface:
    index: int
    #: Its addresses; link-local ones of IPv6 are left out.
    hosts: list[str] = attrs.field(factory=list)


def _interfaces() -> dict[str, _Interface]:
    """The interfaces by each of their names; that in a route is a GUID on Windows."""
    import ifaddr  # here, because importing it starts a process on some systems

    found: dict[str, _Interface] = {}
    for adapter in ifaddr.get_adapters():
        interface = _Interface(adapter.index or 0)
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if not (":" in host and Address(host, 0).is_link_local):
                interface.hosts.append(host)
        for name in (str(adapter.name), adapter.nice_name):
            found.setdefault(name, interface)
    return found


def _local_address(router: Address, own: Iterable[str]) -> str | None:
    """Our address on an interface as the router there sees it."""
    own = [host for host in own if Address(host, 0).family == router.family]
    towards = ANYWHERE[6] if router.family == 6 and router.is_link_local else router.host
    chosen = source_towards(towards)
    # the system's choice is right unless another interface is preferred for that destination
    return chosen if chosen in own else next(iter(own), None)


def choose_gateway(gateways: Sequence[Gateway], bound: Address) -> Gateway | None:
    """The router that a socket's packets go through: for one bound to a wildcard the preferred one, for one bound to an
    address the one that sees that address.

    A router that is not on that way is no help: the answers to what it lets in would leave by another.
    """
    for gateway in gateways:
        if gateway.family == bound.family and (bound.is_unspecified or gateway.local == bound.host):
            return gateway
    return None
