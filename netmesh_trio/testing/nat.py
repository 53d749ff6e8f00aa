"""A NAT, or a firewall, between a realm and its parent."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import attrs

from netmesh_trio.addresses import Address
from netmesh_trio.testing.behavior import Dependence, NatBehavior
from netmesh_trio.testing.fabric import Fabric
from netmesh_trio.testing.link import Link, LinkSettings
from netmesh_trio.testing.packets import Train
from netmesh_trio.testing.realm import Realm, canonical

if TYPE_CHECKING:
    from netmesh_trio.testing.host import Host
    from netmesh_trio.testing.internet import VirtualInternet

__all__ = ["Nat", "NatStats"]

_FIRST_PORT: Final = 1024
_PORTS: Final = 65_536 - _FIRST_PORT
_MAX_REMOTES: Final = 4096

_INDEPENDENT: Final = Dependence.ENDPOINT_INDEPENDENT
_BY_ADDRESS: Final = Dependence.ADDRESS_DEPENDENT


@attrs.frozen
class NatStats:
    """Counters of a NAT; all but ``mappings`` only grow.  Packets are counted, not sends."""

    mappings: int
    """Live now, without forwarded ports."""

    created: int
    expired: int
    filtered: int
    """Packets for a mapping from a remote that may not get in."""

    unmapped: int
    """Packets for an outside port without a mapping."""

    exhausted: int
    """Packets for which no mapping could be made: no port or no room."""

    hairpinned: int


class _Binding:
    """One mapping, and from whom it lets packets in until when."""

    __slots__ = ("expires", "inside", "key", "outside", "permits")

    def __init__(self, inside: Address, outside: Address, key: object) -> None:
        self.inside = inside
        self.outside = outside
        self.key = key
        self.expires = 0.0
        self.permits: OrderedDict[object, float] = OrderedDict()

    def permit(self, remote: object, until: float) -> None:
        self.permits[remote] = until
        self.permits.move_to_end(remote)
        if len(self.permits) > _MAX_REMOTES:
            self.permits.popitem(last=False)


class Nat:
    """A box that shares one outside address among the hosts behind it, made by ``net.nat()``.

    Where its behavior says that it does not translate it is a firewall: hosts behind it have
    addresses of the parent network, and the mappings are the filter's memory of who has sent
    something.
    """

    def __init__(
        self,
        internet: VirtualInternet,
        fabric: Fabric,
        name: str,
        behavior: NatBehavior,
        parent: Realm,
        address: str | None,
        inside: str,
        link: LinkSettings,
    ) -> None:
        self.name = name
        self.parent = parent
        self.link: Link = Link(fabric, name, link, parent.route, self._receive)
        """The line to the parent network."""
        self.realm: Realm = Realm(fabric, f"inside {name}", (inside,), self)
        """What is behind it."""
        self._internet = internet
        self._fabric = fabric
        self._random = fabric.random(name)
        self._behavior = behavior
        self._bindings: OrderedDict[object, _Binding] = OrderedDict()  # soonest to expire first
        self._by_outside: dict[Address, _Binding] = {}
        self._forwards: dict[Address, Address] = {}  # outside to inside
        self._forwarded: OrderedDict[tuple[Address, Address], Address] = OrderedDict()
        self._last_port = self._random.randrange(_PORTS)
        self._created = self._expired = self._filtered = self._unmapped = 0
        self._exhausted = self._hairpinned = 0
        self.address: str = ""
        """The outside address; empty for a firewall, which has none."""
        if behavior.translates:
            self._take_address(address)
        elif address is not None:
            raise ValueError(f"{name} does not translate, so it has no address")

    def __repr__(self) -> str:
        return f"<Nat {self.name} {self.address}>"

    # -- for people ------------------------------------------------------------------------------

    def host(self, name: str, *addresses: str, link: LinkSettings | None = None) -> Host:
        """A host behind it, as :meth:`VirtualInternet.host`; by default with a private address."""
        return self._internet.host(name, *addresses, behind=self, link=link)

    @property
    def behavior(self) -> NatBehavior:
        """What it does.  Setting another behavior forgets all mappings."""
        return self._behavior

    @behavior.setter
    def behavior(self, behavior: NatBehavior) -> None:
        if behavior.translates != self._behavior.translates:
            raise ValueError(f"{self.name} cannot turn from a NAT to a firewall or back")
        self.flush()
        self._behavior = behavior

    def flush(self) -> None:
        """Forget all mappings; forwarded ports stay."""
        self._bindings.clear()
        self._by_outside.clear()
        self._forwarded.clear()

    def reboot(self, address: str | None = None) -> None:
        """Forget all mappings and forwarded ports and come back under another address.

        None takes a free one; ``nat.reboot(nat.address)`` keeps it.  What is under way to the old
        address is lost.
        """
        self.flush()
        self._forwards.clear()
        if self._behavior.translates:
            self.parent.detach(self.address)
            self._take_address(address)

    def forward(self, inside: Address, port: int | None = None) -> Address:
        """Open an outside port to everybody, as UPnP, NAT-PMP and PCP do on request.

        Answers from ``inside`` leave by that port; what it sends unasked gets a mapping as ever.

        :returns: the outside address.
        :raises ValueError: if the port is taken, or this is a firewall.
        """
        if not self._behavior.translates:
            raise ValueError(f"{self.name} does not translate: there is nothing to forward")
        if port is None:
            port = self._choose_port(inside.port)
        outside = Address(self.address, port or 0)
        if not port or outside in self._by_outside or outside in self._forwards:
            raise ValueError(f"port {port} of {self.name} is taken")
        self._forwards[outside] = inside
        return outside

    def unforward(self, outside: Address) -> None:
        """Close what :meth:`forward` opened.  :raises KeyError: if it is not open."""
        del self._forwards[outside]
        for key in [key for key, value in self._forwarded.items() if value == outside]:
            del self._forwarded[key]

    def mappings(self) -> dict[Address, Address]:
        """Live mappings, outside to inside."""
        self._expire(self._fabric.schedule.now())
        return {binding.outside: binding.inside for binding in self._bindings.values()}

    def statistics(self) -> NatStats:
        """The counters now."""
        self._expire(self._fabric.schedule.now())
        return NatStats(
            mappings=len(self._bindings),
            created=self._created,
            expired=self._expired,
            filtered=self._filtered,
            unmapped=self._unmapped,
            exhausted=self._exhausted,
            hairpinned=self._hairpinned,
        )

    # -- packets ---------------------------------------------------------------------------------

    def send_out(self, train: Train) -> None:
        """Translate what comes from behind it and send it on."""
        now = self._fabric.schedule.now()
        hairpin = train.destination.host == self.address
        if hairpin and not self._behavior.hairpin:
            self._fabric.unroutable += train.count
            self._fabric.record("unroutable", self.name, train)
            return
        outside = self._forwarded.get((train.source, train.destination)) if self._forwarded else None
        if outside is None:
            binding = self._bind(train, now)
            if binding is None:
                self._exhausted += train.count
                self._fabric.record("no-mapping", self.name, train)
                return
            outside = binding.outside
        train.source = outside
        if hairpin:
            self._hairpinned += train.count
            self._receive(train)
        else:
            self.link.outbound.send(train)

    def _bind(self, train: Train, now: float) -> _Binding | None:
        """The mapping for what leaves; made if there is none, prolonged if there is."""
        behavior = self._behavior
        self._expire(now)
        mapping = behavior.mapping if behavior.translates else _INDEPENDENT
        key = (train.source, _part(mapping, train.destination))
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._create(train.source, key)
            if binding is None:
                return None
        else:
            self._bindings.move_to_end(key)
        binding.expires = now + behavior.lifetime
        if behavior.filtering is not _INDEPENDENT:
            binding.permit(_part(behavior.filtering, train.destination), binding.expires)
        return binding

    def _create(self, inside: Address, key: object) -> _Binding | None:
        behavior = self._behavior
        if len(self._bindings) >= behavior.mapping_limit:
            return None
        outside = inside
        if behavior.translates:
            port = self._choose_port(inside.port)
            if port is None:
                return None
            outside = Address(self.address, port)
        binding = _Binding(inside, outside, key)
        self._bindings[key] = binding
        self._by_outside[outside] = binding
        self._created += 1
        return binding

    def _choose_port(self, inside_port: int) -> int | None:
        """A free outside port."""
        behavior = self._behavior
        if behavior.port_preservation and self._is_free(inside_port):
            return inside_port
        if behavior.port_step is None:
            for _ in range(32):
                port = _FIRST_PORT + self._random.randrange(_PORTS)
                if self._is_free(port):
                    return port
        step = behavior.port_step or 1
        for _ in range(_PORTS):
            self._last_port = (self._last_port + step) % _PORTS
            if self._is_free(_FIRST_PORT + self._last_port):
                return _FIRST_PORT + self._last_port
        return None

    def _is_free(self, port: int) -> bool:
        outside = Address(self.address, port)
        return outside not in self._by_outside and outside not in self._forwards

    def _receive(self, train: Train) -> None:
        """Let in what comes from the parent, or back by hairpin, if it may."""
        now = self._fabric.schedule.now()
        inside = self._forwards.get(train.destination) if self._forwards else None
        if inside is not None:
            self._remember_forwarded(inside, train)
            train.destination = inside
            self.realm.route_in(train)
            return
        binding = self._by_outside.get(train.destination)
        if binding is None or binding.expires <= now:
            self._unmapped += train.count
            self._fabric.record("no-mapping", self.name, train)
            return
        behavior = self._behavior
        if behavior.filtering is not _INDEPENDENT:
            remote = _part(behavior.filtering, train.source)
            until = binding.permits.get(remote)
            if until is None or until <= now:
                self._filtered += train.count
                self._fabric.record("filtered", self.name, train)
                return
            if behavior.inbound_refresh:
                binding.permit(remote, now + behavior.lifetime)
        if behavior.inbound_refresh:
            binding.expires = now + behavior.lifetime
            self._bindings.move_to_end(binding.key)
        train.destination = binding.inside
        self.realm.route_in(train)

    def _remember_forwarded(self, inside: Address, train: Train) -> None:
        self._forwarded[inside, train.source] = train.destination
        self._forwarded.move_to_end((inside, train.source))
        if len(self._forwarded) > self._behavior.mapping_limit:
            self._forwarded.popitem(last=False)

    def _expire(self, now: float) -> None:
        """Drop mappings that are over: they stand in the order in which they end."""
        bindings = self._bindings
        while bindings:
            binding = next(iter(bindings.values()))
            if binding.expires > now:
                return
            del bindings[binding.key]
            del self._by_outside[binding.outside]
            self._expired += 1

    def _take_address(self, address: str | None) -> None:
        self.address = self.parent.allocate() if address is None else canonical(address)
        self.parent.attach(self.address, self.link.inbound.send)


def _part(dependence: Dependence, remote: Address) -> object:
    """As much of the remote address as matters."""
    if dependence is _INDEPENDENT:
        return None
    return remote.host if dependence is _BY_ADDRESS else remote
