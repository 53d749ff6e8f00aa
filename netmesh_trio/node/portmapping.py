"""The port mapping of a node: asked of the router, renewed, given back.  Only with ``try_port_mapping``.

One task per node, one branch per address family.  Each looks for the router, probes all protocols side by side, maps
with the best, renews, and gives the mapping back when the node leaves or its network changes.  Nothing waits for it:
a node without a mapping works as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import attrs
import trio

from ..addresses import Address
from ..errors import BindError
from ..events import PortMapChanged
from ..traversal.portmap.clients import NatPmpClient, PcpClient
from ..traversal.portmap.decisions import FAILURES, PREFERENCE, choose_protocol, renew_after, retry_after
from ..traversal.portmap.epoch import EpochClock
from ..traversal.portmap.mapping import (
    Gateway,
    PortMapCause,
    PortMapClient,
    PortMapError,
    PortMapping,
    PortMapProtocol,
    RouterReport,
    RouterStatus,
    is_public,
)
from ..traversal.portmap.routes import choose_gateway
from .engine import Engine

__all__ = ["NOTICES", "PortMapper"]

# Seconds between two looks at the routes.
_POLL = 3.0
# Seconds between two questions whether the router still is what it was, for when its own notices get lost.
_CHECK = {"pcp": 20.0, "nat-pmp": 20.0, "upnp": 60.0}
# At most one reaction to notices in so many seconds: anybody on the link can send them.
_CALM = 2.0
#: Seconds that giving a mapping back may take.
LEAVE_TIME = 1.0
# Seconds that a report on the router waits for its answers.
_REPORT_TIME = 3.0
_READS = 16

#: Where routers say that they have restarted or have another address: RFC 6886, 3.2.1, and RFC 6887, 14.1; SSDP.
NOTICES: dict[int, tuple[tuple[str, int], ...]] = {
    4: (("224.0.0.1", 5350), ("239.255.255.250", 1900)),
    6: (("ff02::1", 5350),),
}


@attrs.define(eq=False)
class _Lease:
    """The mapping of one family, and what stands behind it."""

    family: int
    #: What the socket is bound to.
    bound: Address
    mapping: PortMapping | None = None
    error: PortMapError | None = None
    notice: trio.Event = attrs.field(factory=trio.Event)

    @property
    def announced(self) -> Address | None:
        """The outside address, if it is of use to others."""
        mapping = self.mapping
        return mapping.external if mapping is not None and is_public(mapping.external.host) else None


class PortMapper:
    """The port mappings of a node."""

    def __init__(self, engine: Engine, set_mapped: Callable[[int, Address | None], None]) -> None:
        self._engine = engine
        self._config = engine.config.traversal
        self._set_mapped = set_mapped
        self._leases: dict[int, _Lease] = {}
        self._external: Address | None = None
        for socket in engine.sockets:
            bound = socket.address
            self._leases.setdefault(bound.family, _Lease(bound.family, bound))

    async def run(self) -> None:
        """Keep a mapping for each family, for ever; cancelled, gives them back within a second."""
        async with trio.open_nursery() as nursery:
            for lease in self._leases.values():
                nursery.start_soon(self._supervise, lease)

    async def report(self) -> list[RouterReport]:
        """Ask the routers of all families what they speak; changes nothing there.  Takes at most 3 s."""
        found: list[RouterReport] = []
        async with trio.open_nursery() as nursery:
            for lease in self._leases.values():
                nursery.start_soon(self._report, lease, found)
        return sorted(found, key=lambda report: report.family)

    async def _report(self, lease: _Lease, found: list[RouterReport]) -> None:
        gateway = choose_gateway(self._gateways(), lease.bound)
        answers: dict[PortMapProtocol, RouterStatus | PortMapError] = {}

        async def ask(client: PortMapClient) -> None:
            answers[client.protocol] = PortMapError(PortMapCause.TIMEOUT, client.protocol, "the router does not answer")
            try:
                answers[client.protocol] = await client.status()
            except PortMapError as error:
                answers[client.protocol] = error

        if gateway is not None:
            with trio.move_on_after(_REPORT_TIME):
                async with trio.open_nursery() as nursery:
                    for client in self._clients(gateway):
                        nursery.start_soon(ask, client)
        ordered = tuple(answers[protocol] for protocol in PREFERENCE if protocol in answers)
        found.append(RouterReport(family=lease.family, gateway=gateway, answers=ordered, mapping=lease.mapping))

    # the router

    def _gateways(self) -> Sequence[Gateway]:
        try:
            return self._engine.network.gateways()
        except OSError:
            return ()  # the system could not say; it will

    def _clients(self, gateway: Gateway) -> list[PortMapClient]:
        network = self._engine.network
        clients: list[PortMapClient] = [PcpClient(network.bind, gateway, self._nonce)]
        if gateway.family == 4:
            clients.append(NatPmpClient(network.bind, gateway))
        upnp = network.upnp(gateway)
        return clients if upnp is None else [*clients, upnp]

    def _nonce(self, internal: Address) -> bytes:
        """Of this identity and address: a node that was killed takes up its mapping when it is back."""
        proof = self._engine.identity.sign(b"netmesh-trio PCP nonce" + internal.pack())
        return hashlib.blake2s(proof, digest_size=12).digest()

    async def _supervise(self, lease: _Lease) -> None:
        while True:
            gateway = choose_gateway(self._gateways(), lease.bound)
            if gateway is None:
                what = f"no default router sees this node's IPv{lease.family} address"
                self._set(lease, None, PortMapError(PortMapCause.NO_GATEWAY, None, what))
                await trio.sleep(_POLL)
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_gateway, lease, gateway, nursery.cancel_scope)
                for group, port in NOTICES[lease.family]:
                    nursery.start_soon(self._listen, lease, gateway, group, port)
                await self._hold(lease, gateway)

    async def _watch_gateway(self, lease: _Lease, gateway: Gateway, scope: trio.CancelScope) -> None:
        """End what is done with a router once it is not ours any more."""
        while choose_gateway(self._gateways(), lease.bound) == gateway:  # noqa: ASYNC110 - nothing tells
            await trio.sleep(_POLL)
        self._engine.log.info("the router is another: %s no longer", gateway.host)
        scope.cancel()

    async def _listen(self, lease: _Lease, gateway: Gateway, group: str, port: int) -> None:
        """Take everything that the router sends to a group for a hint that it may have changed.

        What it says is not believed: it may be forged.  It is asked.
        """
        try:
            socket = await self._engine.network.join(group, port, gateway)
        except BindError:
            return
        try:
            while True:
                await socket.wait_readable()
                for _ in range(_READS):
                    received = socket.receive_nowait()
                    if received is None:
                        break
                    if received[2].host == gateway.host:
                        lease.notice.set()
                await trio.lowlevel.checkpoint()
        finally:
            socket.close()

    # the mapping

    async def _hold(self, lease: _Lease, gateway: Gateway) -> None:
        """Get a mapping, keep it, and begin again when it is lost; for ever."""
        fruitless: list[float | None] = []
        while True:
            lease.notice = trio.Event()
            began = self._engine.now()
            used: list[PortMapClient] = []
            failure: PortMapError | None = None
            try:
                client, mapping = await self._obtain(lease, self._clients(gateway), used)
                fruitless.clear()
                await self._keep(lease, client, mapping)
            except PortMapError as error:
                failure = error
                fruitless = [*fruitless[-8:], error.retry_after]
            finally:
                await self._give_back(lease, used, failure)
            with trio.move_on_after(retry_after(fruitless)):
                await lease.notice.wait()
                await trio.sleep(0.1)  # a router that starts sends several
                await trio.sleep_until(began + _CALM)

    async def _obtain(
        self, lease: _Lease, clients: Sequence[PortMapClient], used: list[PortMapClient]
    ) -> tuple[PortMapClient, PortMapping]:
        """Probe with all at once, map with the best; if that fails, with the next.  Raises the best one's error."""
        by_protocol: dict[PortMapProtocol, PortMapClient] = {client.protocol: client for client in clients}
        answered: set[PortMapProtocol] = set()
        errors: dict[PortMapProtocol, PortMapError] = {}
        changed = trio.Event()
        first = float("inf")

        async def probe(client: PortMapClient) -> None:
            nonlocal first
            try:
                await client.status()
            except PortMapError as error:
                errors[client.protocol] = error
            else:
                answered.add(client.protocol)
                first = min(first, trio.current_time())
            changed.set()

        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(probe, client)
            while True:
                pending = by_protocol.keys() - answered - errors.keys()
                protocol, wait = choose_protocol(answered, pending, max(0.0, trio.current_time() - first))
                if protocol is not None:
                    client = by_protocol[protocol]
                    used.append(client)
                    port = lease.bound.port
                    try:
                        mapping = await client.map(
                            internal_port=port, external_port=port, lifetime=self._config.port_mapping_lease
                        )
                    except PortMapError as error:
                        answered.discard(protocol)
                        errors[protocol] = error
                        continue
                    nursery.cancel_scope.cancel()
                    return client, mapping
                if not pending:
                    break
                with trio.move_on_after(wait):
                    await changed.wait()
                    changed = trio.Event()
        raise errors[_most_telling(errors)]

    async def _keep(self, lease: _Lease, client: PortMapClient, mapping: PortMapping) -> None:
        """Renew a mapping until it is lost.  Raises PortMapError."""
        engine = self._engine
        clock = EpochClock(strict=client.protocol == "pcp")
        renewed = engine.now()
        clock.observe(mapping.epoch, renewed)
        self._set(lease, mapping, None)
        failures = 0
        doubtful = False
        earliest = checked = renewed
        while True:
            due = max(earliest, renewed + renew_after(mapping, self._config.port_mapping_renewal, failures))
            with trio.move_on_at(min(due, checked + _CHECK[client.protocol])):
                await lease.notice.wait()
                await trio.sleep_until(checked + _CALM)
            # after a notice the mapping is asked for again: a router that was up for a moment only, or speaks UPnP,
            # does not tell whether it has forgotten it
            doubtful = doubtful or lease.notice.is_set()
            lease.notice = trio.Event()
            checked = engine.now()
            is_due = checked >= due
            if not is_due and not doubtful and not await self._has_changed(client, mapping, clock):
                continue
            doubtful = True
            previous = mapping
            try:
                mapping = await client.map(
                    internal_port=lease.bound.port,
                    external_port=previous.external.port,
                    lifetime=self._config.port_mapping_lease,
                    previous=previous,
                )
            except PortMapError as error:
                if not is_due:
                    continue  # it may be restarting just now; the next check asks for the mapping, too
                failures += 1
                self._engine.log.info(
                    "renewing the port mapping failed (%d of %d): %s", failures, FAILURES, error.detail
                )
                if failures == FAILURES:
                    raise
                earliest = engine.now() + 1.0
                continue
            failures = 0
            doubtful = False
            clock.observe(mapping.epoch, engine.now())
            if is_due or mapping.external != previous.external:  # else notices without end would put it off
                renewed = engine.now()
            self._set(lease, mapping, None, renewal=is_due)

    async def _has_changed(self, client: PortMapClient, mapping: PortMapping, clock: EpochClock) -> bool:
        """Whether the router has forgotten the mapping or has another address; one that does not answer has not."""
        try:
            status = await client.status()
        except PortMapError:
            return False
        forgotten = clock.observe(status.epoch, self._engine.now())
        return forgotten or status.external not in (None, mapping.external.host)

    async def _give_back(self, lease: _Lease, used: Sequence[PortMapClient], failure: PortMapError | None) -> None:
        """Remove from the router what there may be of ours, within a second, also when cancelled."""
        mapping = lease.mapping
        self._set(lease, None, failure)
        with trio.CancelScope(deadline=trio.current_time() + LEAVE_TIME, shield=True):
            for client in reversed(used):
                try:
                    if mapping is not None and mapping.protocol == client.protocol:
                        await client.unmap(mapping)
                    await client.unmap(None)
                except PortMapError as error:
                    self._engine.log.info(
                        "the port mapping could not be given back, it ends by itself: %s", error.detail
                    )

    # telling

    def _set(
        self, lease: _Lease, mapping: PortMapping | None, error: PortMapError | None, *, renewal: bool = False
    ) -> None:
        """This is the mapping now, or why there is none: announce, count and tell what changed."""
        engine = self._engine
        before = _event(lease)
        lease.mapping, lease.error = mapping, error
        after = _event(lease)
        self._count(renewal=renewal)
        if engine.closing:
            return
        self._set_mapped(lease.family, lease.announced)
        # one failure after another is no news
        if after == before or (before.error is not None and after == attrs.evolve(before, error=after.error)):
            return
        if mapping is not None:
            self._engine.log.info("port mapping by %s: %s for %s", mapping.protocol, mapping.external, mapping.internal)
        elif error is not None:
            self._engine.log.info("no port mapping: %s", error.detail)
        engine.events.emit(after)

    def _count(self, *, renewal: bool) -> None:
        """The counters know one mapping: that for IPv4, or where there is none, for IPv6."""
        stats = self._engine.traversal
        external = next((lease.announced for _, lease in sorted(self._leases.items()) if lease.announced), None)
        before, self._external = self._external, external
        if external is None:
            if before is not None:
                stats.record_port_mapping_revoke()
        elif before is None or before.family != external.family:
            stats.record_port_mapping_install(external)
        else:
            if external != before:
                stats.replace_port_mapping_external(external)
            if renewal:
                stats.record_port_mapping_renewal()


def _event(lease: _Lease) -> PortMapChanged:
    mapping = lease.mapping
    if mapping is None:
        return PortMapChanged(family=lease.family, error=lease.error)
    return PortMapChanged(
        family=lease.family,
        protocol=mapping.protocol,
        external=mapping.external,
        public=lease.announced is not None,
    )


def _most_telling(errors: dict[PortMapProtocol, PortMapError]) -> PortMapProtocol:
    """The preferred one of those whose error says more than that the router does not speak it."""
    silent = (PortMapCause.TIMEOUT, PortMapCause.UNSUPPORTED)
    return min(errors, key=lambda p: (errors[p].cause in silent, PREFERENCE.index(p)))
