"""The virtual internet: hosts, NATs and links, made and changed by a test, run by trio's clock."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any

import attrs
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.testing.behavior import Dependence, NatBehavior, as_chain
from netmesh_trio.testing.fabric import Fabric
from netmesh_trio.testing.host import Host
from netmesh_trio.testing.link import LinkSettings
from netmesh_trio.testing.nat import Nat
from netmesh_trio.testing.oracle import direct_path_possible
from netmesh_trio.testing.packets import LogEntry, Packet, Train, Verdict
from netmesh_trio.testing.realm import PUBLIC_IPV4, Realm

__all__ = ["VirtualInternet"]


class VirtualInternet:
    """An internet in memory, for tests of programs that use netmesh_trio.

    ::

        async with VirtualInternet(seed=1) as net:
            relay = net.host("relay")                       # public
            alice = net.host("alice", behind="port-restricted")
            home = net.nat("home", "symmetric", lifetime=30)
            bob, carol = home.host("bob"), home.host("carol")
            alice.link.loss = 0.02
            async with open_node(identity, network=alice, ...) as node:
                ...

    Under trio's :class:`~trio.testing.MockClock` with autojump an hour passes in a moment; with the
    real clock it runs in real time.  Leaving the block drops what is under way.  Hosts and NATs can
    be made before or inside the block; packets move only inside.

    The same seed gives the same losses, delays and ports, as long as each host sends the same
    packets.

    :param seed: what all chance is drawn from.
    :param segments: datagrams that one send and one receipt of a socket hold at most; 44 is what
        Linux does with segmentation offload for full-size packets, 1 is a system without.
    :param delay: seconds, one way, of the link of each public host and each NAT, unless told
        otherwise.
    :param lan_delay: the same for a host behind a NAT, to that NAT.
    :param receive_buffer: bytes (with headers) that each socket holds until they are read.
    :param log_limit: how many lines :attr:`log` keeps; 0 turns it off.
    :param resolution: seconds; what leaves a link with a rate does so at multiples of this, later
        than exact, and datagrams of one send that leave together stay together.  So do network
        cards. 0.001 makes a test of bulk data over such links several times faster; 0 is exact.
    """

    def __init__(
        self,
        *,
        seed: int | str = 0,
        segments: int = 1,
        delay: float = 0.005,
        lan_delay: float = 0.0005,
        receive_buffer: int = 4 * 1024 * 1024,
        log_limit: int = 0,
        resolution: float = 0.0,
    ) -> None:
        if segments < 1:
            raise ValueError(f"segments is {segments}: it must be at least 1")
        if not resolution >= 0:
            raise ValueError(f"resolution is {resolution}: it must not be negative")
        self._fabric = Fabric(seed, segments, receive_buffer, log_limit, resolution)
        self._delay = LinkSettings(delay=delay)
        self._lan_delay = LinkSettings(delay=lan_delay)
        self._running: AbstractAsyncContextManager[None] | None = None
        self.realm: Realm = Realm(self._fabric, "the internet", PUBLIC_IPV4)
        """The public part."""
        self.hosts: dict[str, Host] = {}
        """All hosts by name."""
        self.nats: dict[str, Nat] = {}
        """All NATs and firewalls by name."""
        self.dns: dict[str, Sequence[str]] = {}
        """Host names and their addresses: ``net.dns["relay.example"] = [relay.address]``."""

    def __repr__(self) -> str:
        return f"<VirtualInternet of {len(self.hosts)} hosts and {len(self.nats)} NATs>"

    # -- making it -------------------------------------------------------------------------------

    def host(
        self,
        name: str,
        *addresses: str,
        behind: Nat | str | NatBehavior | Sequence[NatBehavior] | None = None,
        link: LinkSettings | None = None,
    ) -> Host:
        """Make a host.

        :param addresses: IPv4 and IPv6, in any number; none means a free IPv4 address.  Behind a
            NAT the IPv4 ones are private; IPv6 addresses are public wherever the host is.
        :param behind: a NAT made before, or a name in :data:`~netmesh_trio.testing.KINDS` or
            behaviors (from the host outward), for which NATs of its own are made; see
            ``host.nats``.
        :param link: settings of its link, copied.  ``host.link`` changes them later.
        :raises ValueError: for a name or an address that is taken.
        """
        if name in self.hosts:
            raise ValueError(f"there is a host {name!r} already")
        place = behind if isinstance(behind, Nat) else self._make_chain(name, behind)
        made = Host(self, self._fabric, name, link or self.default_link(place))
        made.interfaces[0].attach(place.realm, *addresses)
        self.hosts[name] = made
        return made

    def nat(
        self,
        name: str,
        behavior: str | NatBehavior = "port-preserving",
        *,
        mapping: Dependence | str | None = None,
        filtering: Dependence | str | None = None,
        port_preservation: bool | None = None,
        port_step: int | None = None,
        lifetime: float | None = None,
        hairpin: bool | None = None,
        inbound_refresh: bool | None = None,
        parent: Nat | None = None,
        address: str | None = None,
        inside: str | None = None,
        link: LinkSettings | None = None,
    ) -> Nat:
        """Make a NAT, or a firewall.

        :param behavior: a :class:`~netmesh_trio.testing.NatBehavior` or the name of one.  The
            fields of that class that are given beside it replace its own.
        :param parent: the NAT behind which it is, for a carrier's NAT; None for the internet.
        :param address: its outside address; None takes a free one.
        :param inside: the network behind it, as ``"192.168.1.0/24"``, from which hosts get
            addresses. None gives each NAT one of its own, as long as there are some.
        :param link: settings of the line to its parent.
        :raises ValueError: for a name or an address that is taken, or an unknown kind.
        """
        if name in self.nats:
            raise ValueError(f"there is a NAT {name!r} already")
        boxes = as_chain(behavior)
        if len(boxes) != 1:
            raise ValueError(f"{behavior!r} is not one box: make each, or use host(behind=...)")
        changes = {
            "mapping": mapping,
            "filtering": filtering,
            "port_preservation": port_preservation,
            "port_step": port_step,
            "lifetime": lifetime,
            "hairpin": hairpin,
            "inbound_refresh": inbound_refresh,
        }
        given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
        made = Nat(
            self,
            self._fabric,
            name,
            attrs.evolve(boxes[0], **given),
            self.realm if parent is None else parent.realm,
            address,
            inside or f"192.168.{len(self.nats) % 254 + 1}.0/24",
            link or self._delay,
        )
        self.nats[name] = made
        return made

    def _make_chain(self, name: str, behind: str | NatBehavior | Sequence[NatBehavior] | None) -> VirtualInternet | Nat:
        place: Nat | None = None
        boxes = as_chain(behind)
        for number, behavior in reversed(list(enumerate(boxes, start=1))):
            carrier = f"100.64.{len(self.nats) % 256}.0/24" if number > 1 else None  # RFC 6598
            box = f"{name}.nat" if number == 1 else f"{name}.nat{number}"
            place = self.nat(box, behavior, parent=place, inside=carrier)
        return self if place is None else place

    def default_link(self, place: VirtualInternet | Nat) -> LinkSettings:
        """The settings of a host's link there, if it does not say."""
        return self._delay if place is self else self._lan_delay

    # -- changing it -----------------------------------------------------------------------------

    def kill(self, host: Host) -> None:
        """End all that runs on a host, as ``kill -9`` does: see :meth:`Host.kill`."""
        host.kill()

    def block(self, a: Host, b: Host, *, one_way: bool = False) -> None:
        """Lose every packet from ``a`` to ``b`` and, unless ``one_way``, from ``b`` to ``a``.

        They are lost on arrival, after all NATs.  Both still reach everybody else, a relay for
        example.
        """
        self._fabric.blocked.add((a, b))
        if not one_way:
            self._fabric.blocked.add((b, a))

    def unblock(self, a: Host, b: Host) -> None:
        """Undo :meth:`block`, both ways."""
        self._fabric.blocked -= {(a, b), (b, a)}

    def inject(self, data: bytes, source: Address, destination: Address) -> None:
        """Put a datagram on the public internet that no host has sent: ``source`` may be a lie."""
        self.realm.route(Train(None, source, destination, data, max(1, len(data))))

    @property
    def on_packet(self) -> Callable[[Packet], Verdict | None] | None:
        """Called for each datagram as it leaves its host; says what becomes of it (None: it
        passes).

        It runs inside the sender's ``send``, and what it raises comes out there.
        """
        return self._fabric.on_packet

    @on_packet.setter
    def on_packet(self, hook: Callable[[Packet], Verdict | None] | None) -> None:
        self._fabric.on_packet = hook

    # -- asking it -------------------------------------------------------------------------------

    @property
    def seed(self) -> int | str:
        """What all chance is drawn from."""
        return self._fabric.seed

    @property
    def log(self) -> deque[LogEntry]:
        """What happened to packets, the last ``log_limit`` lines of it."""
        return self._fabric.log

    @property
    def unroutable(self) -> int:
        """Datagrams for addresses that nobody has, or not where the datagram was."""
        return self._fabric.unroutable

    @property
    def under_way(self) -> int:
        """Sends that are on some link now."""
        return self._fabric.schedule.pending

    def direct_path_possible(self, a: Host, b: Host) -> bool:
        """What :func:`netmesh_trio.testing.direct_path_possible` says of two hosts as they are now.

        Any pair of addresses of one family will do.  A blocked pair has no path; forwarded ports,
        links that are down and MTUs are not looked at.
        """
        if {(a, b), (b, a)} & self._fabric.blocked:
            return False
        return any(
            (":" in one) == (":" in other) and _reaches(realm, other_realm)
            for interface in a.interfaces
            for one, realm in interface.addresses.items()
            for other_interface in b.interfaces
            for other, other_realm in other_interface.addresses.items()
        )

    # -- running it ------------------------------------------------------------------------------

    async def __aenter__(self) -> VirtualInternet:
        if self._running is not None:
            raise RuntimeError("a virtual internet runs once: make another one")
        self._running = self._run()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._running is not None
        # What the body raised goes around the nursery, which would wrap it in a group.
        await self._running.__aexit__(None, None, None)

    @asynccontextmanager
    async def _run(self) -> AsyncGenerator[None, None]:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fabric.schedule.run)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._fabric.schedule.close()


def _reaches(a: Realm, b: Realm) -> bool:
    ours, theirs = a.gateways(), b.gateways()
    shared = 0
    for one, other in zip(reversed(ours), reversed(theirs), strict=False):
        if one is not other:
            break
        shared += 1
    return direct_path_possible([nat.behavior for nat in ours], [nat.behavior for nat in theirs], shared=shared)
