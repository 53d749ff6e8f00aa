"""A realm: the addresses that reach each other without crossing a gateway."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from netmesh_trio.testing.fabric import Fabric
from netmesh_trio.testing.packets import Train

if TYPE_CHECKING:
    from netmesh_trio.testing.nat import Nat

__all__ = ["PUBLIC_IPV4", "PUBLIC_IPV6", "Realm", "canonical"]

PUBLIC_IPV4: Final = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "198.18.0.0/15")
"""RFC 5737 and RFC 2544: addresses that no real network uses."""

PUBLIC_IPV6: Final = "2001:db8::/64"
"""RFC 3849."""


def canonical(host: str) -> str:
    """The one spelling of a numeric address.  :raises ValueError: if it is none."""
    return str(ipaddress.ip_address(host))


class Realm:
    """Who can be reached here, and the gateway to the rest; the internet itself has none."""

    def __init__(self, fabric: Fabric, name: str, pools: Sequence[str] = (), gateway: Nat | None = None) -> None:
        self.name = name
        self.gateway = gateway
        self._fabric = fabric
        self._attached: dict[str, Callable[[Train], None]] = {}
        self._pool = self._free_addresses(pools)

    def __repr__(self) -> str:
        return f"<Realm {self.name}, {len(self._attached)} addresses>"

    def _free_addresses(self, pools: Sequence[str]) -> Iterator[str]:
        for pool in pools:
            hosts = ipaddress.ip_network(pool).hosts()
            next(hosts)  # the gateway's, where there is one
            for host in hosts:
                if str(host) not in self._attached:
                    yield str(host)

    @property
    def passes_addresses_on(self) -> bool:
        """Whether addresses mean here what they mean on the other side of the gateway."""
        return self.gateway is not None and not self.gateway.behavior.translates

    def allocate(self) -> str:
        """An IPv4 address that nobody here has had.  :raises ValueError: if there is none left."""
        if self.gateway is not None and self.passes_addresses_on:
            return self.gateway.parent.allocate()
        try:
            return next(self._pool)
        except StopIteration:
            raise ValueError(f"{self.name} has no free address left: name one yourself") from None

    def home_of(self, address: str) -> Realm:
        """Where a host here attaches an address: IPv6 is not translated, so beyond any NAT."""
        realm: Realm = self
        while ":" in address and realm.gateway is not None and not realm.passes_addresses_on:
            realm = realm.gateway.parent
        return realm

    def attach(self, address: str, accept: Callable[[Train], None]) -> None:
        """Give packets to ``address`` to ``accept``.  :raises ValueError: if somebody has it."""
        if address in self._attached:
            raise ValueError(f"{address} is in use in {self.name}")
        if self.gateway is not None and self.passes_addresses_on:
            self.gateway.parent.attach(address, self.gateway.link.inbound.send)
        self._attached[address] = accept

    def detach(self, address: str) -> None:
        """Give up an address."""
        del self._attached[address]
        if self.gateway is not None and self.passes_addresses_on:
            self.gateway.parent.detach(address)

    def __contains__(self, address: str) -> bool:
        return address in self._attached

    def gateways(self) -> list[Nat]:
        """The boxes between here and the internet, from here outward."""
        found: list[Nat] = []
        realm: Realm = self
        while realm.gateway is not None:
            found.append(realm.gateway)
            realm = realm.gateway.parent
        return found

    def route(self, train: Train) -> None:
        """Take on what somebody here has sent."""
        accept = self._attached.get(train.destination.host)
        if accept is not None:
            accept(train)
        elif self.gateway is not None:
            self.gateway.send_out(train)
        else:
            self._lose(train)

    def route_in(self, train: Train) -> None:
        """Take on what the gateway has let in: it does not go out again."""
        accept = self._attached.get(train.destination.host)
        if accept is not None:
            accept(train)
        else:
            self._lose(train)

    def _lose(self, train: Train) -> None:
        self._fabric.unroutable += train.count
        self._fabric.record("unroutable", self.name, train)
