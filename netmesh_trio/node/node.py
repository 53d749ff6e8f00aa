"""A node: identity, sockets, sessions, and the tasks that keep them; everything ends with the block."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from ..addresses import Address, HostPort, MeshUri
from ..config import NodeConfig
from ..errors import AddressError, ConfigError
from ..events import Event, PathReport
from ..identity import KEY_SIZE, Identity, PeerId
from ..paths.path import Path
from ..routing.circuits import RelayLimits, RelayTable
from ..routing.store import AnnouncementStore
from ..stats import NodeStats
from ..traversal.classify import NatType
from ..traversal.config import parse_reflex_override
from ..traversal.portmap.mapping import RouterReport
from ..traversal.report import NatReport
from ..traversal.stats import TraversalStatsSnapshot
from .announcing import Announcing
from .classifying import Classifying
from .dialing import Dialer
from .engine import Engine
from .leaving import Leaving
from .live import LiveSession
from .network import Network
from .peer import Peer
from .portmapping import PortMapper
from .reflexes import Reflexes
from .relaying import Relaying
from .rendezvous import Rendezvous
from .services import Datagram, Listener
from .udp import KernelNetwork
from .upgrading import Upgrader

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ["Node", "open_node"]

#: A host and a port to bind, or several.
Bind = tuple[str, int] | Sequence[tuple[str, int]]
_FLUSH_POLL = 0.02


class Node:
    """A running node; made by :func:`open_node`.

    Once its block ends, whoever waits for something of it is told: all calls that wait raise
    :class:`NodeClosedError`, and channels of datagrams and iterators of events end.  The same holds for calls that
    come later.  What only reads goes on answering.
    """

    def __init__(
        self,
        engine: Engine,
        store: AnnouncementStore,
        table: RelayTable,
        dialer: Dialer,
        upgrader: Upgrader,
        reflexes: Reflexes,
        classifying: Classifying,
        mapper: PortMapper,
        leaving: Leaving,
        bootstrap: tuple[MeshUri, ...],
    ) -> None:
        self._engine = engine
        self._store = store
        self._table = table
        self._dialer = dialer
        self._upgrader = upgrader
        self._reflexes = reflexes
        self._classifying = classifying
        self._mapper = mapper
        self._leaving = leaving
        self._bootstrap = bootstrap

    def __repr__(self) -> str:
        where = ", ".join(str(s.address) for s in self._engine.sockets)
        return f"<Node {self.peer_id.short} at {where}, {len(self.peers())} peers>"

    @property
    def peer_id(self) -> PeerId:
        """This node's identity."""
        return self._engine.peer_id

    @property
    def config(self) -> NodeConfig:
        """The settings it was opened with."""
        return self._engine.config

    @property
    def addresses(self) -> list[MeshUri]:
        """Where others can dial this node, best first: ``str()`` gives the ``netmesh://`` URI.

        With connected bootstrap nodes they name these as relays, so they work from anywhere.  What a router forwards
        (a port mapping, an override) comes first.
        """
        via = tuple(
            MeshUri(uri.peer_id, uri.address)
            for uri in self._bootstrap
            if self._engine.direct_session(uri.peer_id) is not None
        )[:8]
        forwarded = self._engine.classifier.forwarded
        found = [MeshUri(self.peer_id, HostPort(*address), via) for address in forwarded]
        interfaces: list[str] | None = None
        for socket in self._engine.sockets:
            address = socket.address
            hosts = [address.host]
            if address.is_unspecified:
                if interfaces is None:
                    interfaces = self._engine.network.interface_addresses()
                hosts = [h for h in interfaces if Address(h, 0).family == address.family]
                hosts = [h for h in hosts if not Address(h, 0).is_loopback] or hosts
            for host in hosts:
                there = Address(host, address.port)
                # a link-local address of IPv6 means nothing elsewhere
                if not (there.family == 6 and there.is_link_local) and there not in forwarded:
                    found.append(MeshUri(self.peer_id, HostPort(host, address.port), via))
        found.sort(key=lambda u: u.address is not None and ipaddress.ip_address(u.address.host).is_private)
        return found or [MeshUri(self.peer_id, None, via)]

    # peers

    def peers(self) -> list[Peer]:
        """The peers with a session."""
        return [peer for peer in list(self._engine.peers.values()) if peer.live is not None]

    async def wait_connected(self) -> None:
        """Wait until a session with at least one bootstrap node is up; at once without bootstrap nodes."""
        with self._leaving.ends_waiting():
            await trio.lowlevel.checkpoint()
            if self._bootstrap:
                await self._dialer.bootstrap_connected.wait()

    async def connect(self, target: PeerId | MeshUri | str) -> Peer:
        """Have a session with a peer, over whatever way answers first: direct, or a node that relays.

        ``target`` is a peer id or a ``netmesh://`` URI, as a value or as text.  Raises PeerUnreachableError when no
        way works within ``connect_timeout``, AddressError when the text does not parse or names this node.
        """
        await trio.lowlevel.checkpoint()
        parsed = _parse_target(target)
        peer_id = parsed if isinstance(parsed, PeerId) else parsed.peer_id
        if peer_id == self.peer_id:
            raise AddressError("that is this node's own peer id; connect to another")
        with self._leaving.ends_waiting():
            await self._dialer.connect(parsed)
        return self._engine.peer(peer_id)

    async def connect_direct(self, target: PeerId | MeshUri | str) -> PathReport:
        """Have a session with a peer, as :meth:`connect`, and look for a direct path once.

        Returns the path that data takes in the end: direct, or over the relay with the reason in ``error``; either
        way the peer is connected.  Raises what :meth:`connect` raises, and PeerNotReachableError if the session ends
        meanwhile.
        """
        started = trio.current_time()
        peer = await self.connect(target)
        with self._leaving.ends_waiting():
            report = await self._upgrader.connect_direct(peer)
        return attrs.evolve(report, elapsed=trio.current_time() - started)

    # the NAT in front of this node: what it is decides between whom direct paths are possible, never who is reached

    @property
    def nat_type(self) -> NatType:
        """The kind of NAT that peers' observations show, as it is announced; ``UNKNOWN`` with fewer than two."""
        return self._engine.nat_state.nat_type

    @property
    def reflex_addr(self) -> Address | None:
        """The address that others see this node at (IPv4 if there is one), as it is announced; None if unknown."""
        state = self._engine.nat_state
        return state.reflex or state.reflex6

    @property
    def nat_report(self) -> NatReport:
        """All that is known about the NAT: mapping, filtering, ports, who sees us where.  None means unknown."""
        return self._classifying.report

    def peer_nat_type(self, peer_id: PeerId | MeshUri | str) -> NatType:
        """The kind of NAT that a peer, named as for :meth:`connect`, announces; ``UNKNOWN`` without an announcement."""
        announcement = self._store.get(_parse_peer_id(peer_id))
        return NatType.UNKNOWN if announcement is None else NatType.of_tags(announcement.tags)

    async def probe_reflex(self, peer_id: PeerId | MeshUri | str) -> Address:
        """Ask a connected peer, named as for :meth:`connect`, under which address it sees this node.

        Raises ReflexTimeoutError after ``reflex_timeout``, PeerNotReachableError without a session, TransportError
        where the session runs over a relay, which hides the address, and UnsupportedError if the peer announces that
        it takes no part in NAT traversal, or this node does not.  None of them changes anything about the session.
        """
        asked = _parse_peer_id(peer_id)
        with self._leaving.ends_waiting():
            observation = await self._reflexes.probe(asked)
        self._classifying.observe(observation)
        return observation.reflex

    async def reclassify_nat(self, *, thorough: bool = False) -> NatType:
        """Ask the connected peers anew where they see this node; returns the kind of NAT that follows.

        It takes a round trip, and at most ``classify_deadline`` if a peer does not answer.  With ``thorough``, also
        waits until it is known what the NAT lets in (a second or two more; see :attr:`nat_report`).  Without traversal
        or peers to ask, returns what is known.
        """
        with self._leaving.ends_waiting():
            return await self._classifying.reclassify(thorough=thorough)

    async def wait_binding_lifetime(self) -> NatReport:
        """Wait until it is known how long the NAT remembers a binding that nobody uses; returns :attr:`nat_report`.

        A node finds that out by itself, once for each network: it lets bindings rest for 7.5 to 300 seconds, which
        takes up to nine minutes in all, and sends keep-alives more often where that turns out to be necessary.
        Returns at once where there is no NAT; waits for ever while no peer can help.
        """
        with self._leaving.ends_waiting():
            await self._classifying.bindings.wait_known()
        return self.nat_report

    def set_reflex_override(self, address: Address | tuple[str, int] | str) -> None:
        """Announce this address in place of what peers observe, and the type ``OPEN``: for a forwarded port.

        Raises ConfigError if it is no address and port that others can send to.
        """
        parsed = parse_reflex_override(address)
        if parsed is None:
            raise ConfigError("reflex override is None; clear_reflex_override() ends it")
        self._classifying.set_override(parsed)

    def clear_reflex_override(self) -> None:
        """End the override; what peers observe is announced again, at once."""
        self._classifying.set_override(None)

    async def check_router(self) -> list[RouterReport]:
        """Ask the default routers which protocols for port mappings they speak, one report for each address family.

        Nothing is changed there.  Takes 3 s at most, and that only while a router does not answer.
        """
        with self._leaving.ends_waiting():
            return await self._mapper.report()

    def traversal_stats(self) -> TraversalStatsSnapshot:
        """A frozen snapshot of the counters of the search for shorter paths."""
        return self._engine.traversal.snapshot()

    # services

    def listen(self, service: str) -> Listener:
        """Accept the streams that peers open for ``service``.  A :class:`trio.abc.Listener`: use it in ``async with``,
        and give it to :func:`trio.serve_listeners`.  Raises ServiceInUseError."""
        return self._engine.services.listen(service)

    def datagrams(self, service: str) -> trio.MemoryReceiveChannel[Datagram]:
        """The unreliable datagrams that peers send to ``service``: a bounded channel of :class:`Datagram`.  Those that
        come while it is full are dropped and counted: if there are very many, empty it with ``receive_nowait`` after
        each ``receive``.  Close it to stop; it ends when the node is closed.  Raises ServiceInUseError."""
        return self._engine.services.datagrams(service)

    # watching

    def events(self) -> AsyncIterator[Event]:
        """What happens from this call on, until the node is closed; of a closed one, nothing.

        A reader that is too slow loses the oldest and gets :class:`EventsLost` in their place.
        """
        return self._engine.events.open()

    def statistics(self) -> NodeStats:
        """A frozen snapshot of the counters."""
        engine = self._engine
        counters = engine.counters
        stats = [live.session.stats for live in list(engine.sessions.values())]
        relay = self._table.stats()
        return NodeStats(
            sessions=len(engine.sessions),
            half_open=len(engine.handshakes.half_open),
            circuits=len(self._table),
            packets_received=counters.packets_received + sum(s.packets_received for s in stats),
            packets_sent=counters.packets_sent + sum(s.packets_sent for s in stats),
            bytes_received=counters.bytes_received + sum(s.bytes_received for s in stats),
            bytes_sent=counters.bytes_sent + sum(s.bytes_sent for s in stats),
            dropped_unknown=counters.dropped_unknown,
            dropped_handshake=counters.dropped_handshake,
            dropped_control=counters.dropped_control,
            unknown_subprotocol=counters.unknown_subprotocol,
            invalid_control=counters.invalid_control,
            internal_errors=counters.internal_errors,
            refused_streams=engine.services.refused_streams,
            dropped_datagrams=engine.services.dropped_datagrams,
            send_errors=sum(s.send_errors for s in engine.sockets),
            path_failovers=engine.traversal.snapshot().path_failovers,
            relayed_packets=relay.forwarded_packets,
            relayed_bytes=relay.forwarded_bytes,
            relay_dropped=relay.dropped_unknown + relay.dropped_over_budget,
            reflex_answered=self._reflexes.counters.answered,
            reflex_refused=self._reflexes.refused,
            reflex_unmatched=self._reflexes.unmatched,
            reflex_declined=self._reflexes.counters.declined,
            canaries_sent=self._reflexes.canaries_sent,
            canaries_received=self._reflexes.counters.canaries_received,
            canaries_invalid=self._reflexes.counters.invalid,
            dropped_forged=counters.dropped_forged + sum(s.dropped_forged for s in stats),
            dropped_replayed=counters.dropped_replayed + sum(s.dropped_replayed for s in stats),
            dropped_invalid=counters.dropped_invalid + sum(s.dropped_invalid for s in stats),
            unsent_control=counters.control_dropped + sum(s.control_dropped for s in stats),
            unsent_datagrams=counters.datagrams_dropped + sum(s.datagrams_dropped for s in stats),
            key_conflicts=counters.key_conflicts,
            displaced_sessions=engine.places.displaced,
        )


def _parse_target(target: PeerId | MeshUri | str) -> PeerId | MeshUri:
    if isinstance(target, str):
        return MeshUri.parse(target) if "://" in target else PeerId.parse(target)
    if isinstance(target, (PeerId, MeshUri)):
        return target
    given = type(target).__name__
    if isinstance(getattr(target, "peer_id", None), PeerId):
        hint = f"; give the peer_id of the {given}"
    elif isinstance(target, bytes) and len(target) == KEY_SIZE:
        hint = "; PeerId(...) makes one of its 32 bytes"
    else:
        hint = ""
    raise TypeError(f"a peer is named by a PeerId, a MeshUri or a string, not {given}{hint}")


def _parse_peer_id(target: PeerId | MeshUri | str) -> PeerId:
    parsed = _parse_target(target)
    return parsed if isinstance(parsed, PeerId) else parsed.peer_id


def _parse_bootstrap(bootstrap: Iterable[MeshUri | str]) -> tuple[MeshUri, ...]:
    if isinstance(bootstrap, str) or not isinstance(bootstrap, Iterable):
        raise ConfigError(f"bootstrap is of type {type(bootstrap).__name__}; give a list of netmesh:// URIs")
    uris: tuple[Any, ...] = tuple(MeshUri.parse(uri) if isinstance(uri, str) else uri for uri in bootstrap)
    for uri in uris:
        if not isinstance(uri, MeshUri):
            raise ConfigError(f"bootstrap node {uri!r} is no URI; give netmesh://<peer-id>@host:port")
        if uri.address is None and not uri.via:
            raise ConfigError(f"bootstrap node {uri.peer_id.short} has no address; give netmesh://<peer-id>@host:port")
    return uris


def _parse_bind(bind: Any) -> list[tuple[str, int]]:
    several = isinstance(bind, Sequence) and not isinstance(bind, str)
    if not several or (len(bind) == 2 and isinstance(bind[0], str)):
        bind = [bind]
    parsed: list[tuple[str, int]] = []
    for entry in bind:
        wrong = ConfigError(f'cannot bind {entry!r}; give (host, port), such as ("0.0.0.0", 4650)')
        try:
            host, port = entry
            if not (isinstance(host, str) and isinstance(port, int) and 0 <= port <= 65535):
                raise wrong
        except (TypeError, ValueError):
            raise wrong from None
        parsed.append((host, port))
    if not parsed:
        raise ConfigError('bind is empty; give at least one (host, port), such as ("0.0.0.0", 0)')
    return parsed


@asynccontextmanager
async def open_node(
    identity: Identity,
    bind: Bind = ("0.0.0.0", 0),
    bootstrap: Iterable[MeshUri | str] = (),
    config: NodeConfig | None = None,
    *,
    network: Network | None = None,
) -> AsyncGenerator[Node, None]:
    """Open a node; leaving the block closes it and leaves no task, socket or session behind.

    ``bind`` is where its UDP socket listens, or a list for several; port 0 is any.  ``bootstrap`` are the nodes that
    it keeps sessions with, as ``netmesh://`` URIs with an address: they relay to everybody else.  The node itself may
    be among them, and is passed over.  ``network`` is what it runs on: the operating system, unless a test gives a
    host of :mod:`netmesh_trio.testing`.

    What was written to streams when the block ends normally is still delivered, for up to ``close_timeout`` seconds.
    An exception of the block comes out as it is, not in a group.  Raises BindError, AddressError, ConfigError.
    """
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(
            "netmesh_trio.open_node() runs under trio.run(); for asyncio and anyio, netmesh_trio.anyio has another"
        ) from None
    if not isinstance(identity, Identity):
        raise ConfigError(f"identity is of type {type(identity).__name__}; give Identity.load_or_create(path)")
    if not isinstance(config, NodeConfig | None):
        raise ConfigError(f"config is of type {type(config).__name__}; give NodeConfig(...)")
    # one list for a whole fleet of relays names this node, too
    uris = tuple(uri for uri in _parse_bootstrap(bootstrap) if uri.peer_id != identity.peer_id)
    binds = _parse_bind(bind)
    config = NodeConfig() if config is None else config
    engine = Engine(identity, config, KernelNetwork() if network is None else network)
    try:
        for host, port in binds:
            engine.sockets.append(await engine.network.bind(host, port))
        of_block: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                node = _start(engine, uris, nursery)
                engine.log.info("open at %s", ", ".join(str(socket.address) for socket in engine.sockets))
                try:
                    yield node
                    with trio.move_on_after(config.close_timeout):
                        await _flush(engine)
                except BaseException as error:
                    # past the nursery, which would wrap it in a group; what it cancelled is its own
                    if _has_cancelled(error):
                        raise
                    of_block = error
                finally:
                    _leave(engine)
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if of_block is not None:
                raise of_block  # noqa: B904 - the group is its context
            # a Ctrl-C, too, which may come in a task of the node that has a nursery of its own
            lone: BaseException = group
            while isinstance(lone, BaseExceptionGroup) and len(lone.exceptions) == 1:
                lone = lone.exceptions[0]
            if lone is not group:
                raise lone from lone.__cause__
            raise
        if of_block is not None:
            try:
                raise of_block
            finally:
                del of_block
    finally:
        engine.closing = True
        if engine.sockets:
            engine.log.info("closed")
        for socket in engine.sockets:
            socket.close()


def _has_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)


def _start(engine: Engine, bootstrap: tuple[MeshUri, ...], nursery: trio.Nursery) -> Node:
    config = engine.config
    store = AnnouncementStore(engine.peer_id)
    members = config.relay_members
    private = config.network_key is not None
    table = RelayTable(
        policy=config.relay,
        is_member=lambda peer_id: private or peer_id in members,
        limits=RelayLimits(bytes_per_second=2.0**30, burst_bytes=2.0**26, packets_per_second=1e6, burst_packets=1e5),
    )
    dialer = Dialer(engine, store, nursery)
    announcing = Announcing(engine, store, nursery)
    relaying = Relaying(engine, table, store, dialer, lambda: announcing.is_hub)
    reflexes = Reflexes(engine, store)
    classifying = Classifying(engine, reflexes, announcing.changed)
    rendezvous = Rendezvous(engine, store, engine.traversal, nursery, lambda: classifying.filtering)
    upgrader = Upgrader(engine, rendezvous, engine.traversal, nursery)
    engine.on_new_neighbor = announcing.new_neighbor

    def neighbors_changed() -> None:
        announcing.changed()
        classifying.changed()

    engine.on_neighbors_changed = neighbors_changed

    def neighbor_gone(peer_id: PeerId) -> None:
        store.forget_neighbor(peer_id)
        relaying.neighbor_gone(peer_id)
        classifying.neighbor_gone(peer_id)

    engine.on_neighbor_gone = neighbor_gone

    find_again = engine.on_lost_direct

    def lost_direct(live: LiveSession, path: Path) -> None:
        find_again(live, path)
        classifying.doubt(live.peer.peer_id)

    engine.on_lost_direct = lost_direct

    leaving = Leaving()

    def leave() -> None:
        announcing.withdraw()
        leaving.leave()

    engine.on_leave = leave
    mapper = PortMapper(engine, classifying.set_mapped)
    for number, socket in enumerate(engine.sockets):
        nursery.start_soon(engine.receive_loop, number)
        nursery.start_soon(socket.run_sender)
    nursery.start_soon(engine.timers.run)
    nursery.start_soon(engine.bursts.run)
    nursery.start_soon(rendezvous.run)
    nursery.start_soon(upgrader.run)
    if config.traversal.enabled:
        for task in (reflexes.handle, classifying.run, classifying.run_examinations, classifying.bindings.run):
            nursery.start_soon(task)
    for task in (relaying.run, relaying.run_expiry, announcing.run, announcing.handle, announcing.run_expiry):
        nursery.start_soon(task)
    if config.try_port_mapping:
        nursery.start_soon(mapper.run)
    for uri in bootstrap:
        nursery.start_soon(dialer.keep_bootstrap, uri)
    return Node(engine, store, table, dialer, upgrader, reflexes, classifying, mapper, leaving, bootstrap)


async def _flush(engine: Engine) -> None:
    """Wait until the peers have everything that was written."""
    engine.services.close()
    while any(live.session.unfinished for live in engine.all_live()):  # noqa: ASYNC110 - rare, and bounded by the caller
        await trio.sleep(_FLUSH_POLL)


def _leave(engine: Engine) -> None:
    """Say goodbye: never waits."""
    engine.closing = True
    engine.services.close()
    engine.on_leave()
    # those that carry circuits last: the others' goodbyes travel over them
    for live in sorted(engine.all_live(), key=lambda s: engine.direct_session(s.peer.peer_id) is not None):
        live.why_closed = "left"
        live.session.close(0, "", engine.now())
        live.drive()
    engine.handshakes.end_dials()
    engine.wake_peers()
    engine.events.close()
