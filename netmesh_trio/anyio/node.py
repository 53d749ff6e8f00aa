"""The node and its peers, for anyio programs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import anyio
import anyio.abc
import trio

from ..addresses import Address, MeshUri
from ..config import NodeConfig
from ..errors import ConfigError, NodeClosedError
from ..events import Event, PathReport
from ..identity import Identity, PeerId
from ..node import node as trio_node
from ..node import peer as trio_peer
from ..node import streams as trio_streams
from ..node.network import Network
from ..node.services import EventReader
from ..session.streams import DEFAULT_PRIORITY
from ..stats import NodeStats, PeerStats
from ..traversal.classify import NatType
from ..traversal.errors import TraversalError
from ..traversal.portmap.mapping import RouterReport
from ..traversal.report import NatReport
from ..traversal.stats import TraversalStatsSnapshot
from .attributes import MeshAttribute
from .native import NativePort
from .ports import Port
from .streams import DatagramReceiveStream, DatagramSendStream, EventStream, Listener, Stream

__all__ = ["Node", "Peer", "open_node"]


class Node:
    """A running node; made by :func:`open_node`.

    It has what :class:`netmesh_trio.Node` has.  What only reads is a plain attribute or method here, too; what acts is
    awaited, or used in ``async with``.
    """

    def __init__(self, node: trio_node.Node, port: Port) -> None:
        self._node = node
        self._port = port

    def __repr__(self) -> str:
        return repr(self._node)

    @property
    def peer_id(self) -> PeerId:
        """This node's identity."""
        return self._node.peer_id

    @property
    def config(self) -> NodeConfig:
        """The settings it was opened with."""
        return self._node.config

    @property
    def addresses(self) -> list[MeshUri]:
        """Where others can dial this node; see :attr:`netmesh_trio.Node.addresses`."""
        return self._node.addresses

    # peers

    def peers(self) -> list[Peer]:
        """The peers with a session."""
        return [Peer(self, peer, self._port) for peer in self._node.peers()]

    async def wait_connected(self) -> None:
        """Wait until a session with at least one bootstrap node is up; at once without bootstrap nodes."""
        await self._port.call(self._node.wait_connected)

    async def connect(self, target: PeerId | MeshUri | str) -> Peer:
        """Have a session with a peer, over whatever way answers first; see :meth:`netmesh_trio.Node.connect`."""
        return Peer(self, await self._port.call(lambda: self._node.connect(target)), self._port)

    async def connect_direct(self, target: PeerId | MeshUri | str) -> PathReport:
        """Connect, and look for a direct path once; see :meth:`netmesh_trio.Node.connect_direct`."""
        return await self._port.call(lambda: self._node.connect_direct(target))

    # the NAT in front of this node

    @property
    def nat_type(self) -> NatType:
        """The kind of NAT that peers' observations show; see :attr:`netmesh_trio.Node.nat_type`."""
        return self._node.nat_type

    @property
    def reflex_addr(self) -> Address | None:
        """The address that others see this node at; None if unknown."""
        return self._node.reflex_addr

    @property
    def nat_report(self) -> NatReport:
        """All that is known about the NAT.  None means unknown."""
        return self._node.nat_report

    def peer_nat_type(self, peer_id: PeerId | MeshUri | str) -> NatType:
        """The kind of NAT that a peer announces; ``UNKNOWN`` without an announcement."""
        return self._node.peer_nat_type(peer_id)

    async def probe_reflex(self, peer_id: PeerId | MeshUri | str) -> Address:
        """Ask a connected peer under which address it sees this node; see :meth:`netmesh_trio.Node.probe_reflex`."""
        return await self._port.call(lambda: self._node.probe_reflex(peer_id))

    async def reclassify_nat(self, *, thorough: bool = False) -> NatType:
        """Ask the connected peers anew where they see this node; see :meth:`netmesh_trio.Node.reclassify_nat`."""
        return await self._port.call(lambda: self._node.reclassify_nat(thorough=thorough))

    async def wait_binding_lifetime(self) -> NatReport:
        """Wait until it is known how long the NAT remembers an idle binding; returns :attr:`nat_report`."""
        return await self._port.call(self._node.wait_binding_lifetime)

    async def set_reflex_override(self, address: Address | tuple[str, int] | str) -> None:
        """Announce this address in place of what peers observe; see :meth:`netmesh_trio.Node.set_reflex_override`."""
        await self._port.do(lambda: self._node.set_reflex_override(address))

    async def clear_reflex_override(self) -> None:
        """End the override."""
        await self._port.do(self._node.clear_reflex_override)

    async def check_router(self) -> list[RouterReport]:
        """Ask the default routers which protocols for port mappings they speak; changes nothing there."""
        return await self._port.call(self._node.check_router)

    def traversal_stats(self) -> TraversalStatsSnapshot:
        """A frozen snapshot of the counters of the search for shorter paths."""
        return self._node.traversal_stats()

    # services

    @asynccontextmanager
    async def listen(self, service: str) -> AsyncGenerator[Listener, None]:
        """Accept the streams that peers open for ``service``, as long as the block runs.  Raises ServiceInUseError."""
        source = await self._port.do(lambda: self._node.listen(service), lambda listener: listener.close())
        accepted = self._port.items(lambda: source.accept, source.close, NodeClosedError, lambda stream: stream.reset())
        async with Listener(self, service, accepted, self._wrap) as listener:
            yield listener

    @asynccontextmanager
    async def datagrams(self, service: str) -> AsyncGenerator[DatagramReceiveStream, None]:
        """The unreliable datagrams that peers send to ``service``, as long as the block runs.

        Raises ServiceInUseError.
        """
        source = await self._port.do(lambda: self._node.datagrams(service), lambda channel: channel.close())
        received = self._port.items(lambda: source.receive, source.close, anyio.EndOfStream)
        async with DatagramReceiveStream(self, service, received) as stream:
            yield stream

    # watching

    def events(self) -> EventStream:
        """What happens from this call on, until the node is closed.  Close it when it is read no more."""
        readers: list[EventReader] = []

        def open_source() -> Callable[[], Awaitable[Event]]:
            reader = cast("EventReader", self._node.events())
            readers.append(reader)

            async def receive() -> Event:
                try:
                    return await reader.__anext__()
                except StopAsyncIteration:
                    raise anyio.EndOfStream from None

            return receive

        def close() -> None:
            for reader in readers:
                reader.end()

        return EventStream(self._port.items(open_source, close, anyio.EndOfStream))

    def statistics(self) -> NodeStats:
        """A frozen snapshot of the counters."""
        return self._node.statistics()

    def _wrap(self, stream: trio_streams.Stream) -> Stream:
        return Stream(Peer(self, stream.peer, self._port), stream.service, self._port.bytes(stream))


class Peer(anyio.TypedAttributeProvider):
    """Another node, known by its key; see :class:`netmesh_trio.Peer`.  Two objects for the same peer are equal."""

    def __init__(self, node: Node, peer: trio_peer.Peer, port: Port) -> None:
        self._node = node
        self._peer = peer
        self._port = port
        #: Its identity.
        self.peer_id: PeerId = peer.peer_id

    def __repr__(self) -> str:
        return repr(self._peer)

    def __eq__(self, other: object) -> bool:
        return self._peer is other._peer if isinstance(other, Peer) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._peer)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """:class:`MeshAttribute`, and on a direct path anyio's ``SocketAttribute.remote_address``."""
        attributes: dict[Any, Callable[[], Any]] = {
            MeshAttribute.peer_id: lambda: self.peer_id,
            MeshAttribute.path: lambda: self.path,
            MeshAttribute.local_peer_id: lambda: self._node.peer_id,
        }
        path = self.path
        if path is not None and path.addr is not None:
            where = (path.addr.host, path.addr.port)
            attributes[anyio.abc.SocketAttribute.remote_address] = lambda: where
        return attributes

    @property
    def connected(self) -> bool:
        """Whether there is a session now."""
        return self._peer.connected

    @property
    def path(self) -> PathReport | None:
        """The path that data takes now; None without a session."""
        return self._peer.path

    @property
    def why_not_direct(self) -> TraversalError | None:
        """Why data takes a relay; see :attr:`netmesh_trio.Peer.why_not_direct`."""
        return self._peer.why_not_direct

    @property
    def max_datagram_size(self) -> int:
        """Bytes that a datagram to a service with a short name may have on the present path; 0 without a session."""
        return self._peer.max_datagram_size

    def paths(self) -> list[PathReport]:
        """All paths that are known to work, the present one first."""
        return self._peer.paths()

    def statistics(self) -> PeerStats:
        """A frozen snapshot of the counters of the present sessions."""
        return self._peer.statistics()

    async def wait_direct(self) -> PathReport:
        """Wait until data takes a direct path; it may take for ever, and data flows over the relay meanwhile."""
        return await self._port.call(self._peer.wait_direct)

    async def open_stream(self, service: str, *, priority: int = DEFAULT_PRIORITY) -> Stream:
        """Open a stream to a service of the peer; see :meth:`netmesh_trio.Peer.open_stream`.

        Raises ServiceNotFoundError, PeerUnreachableError, SessionClosedError, NodeClosedError.
        """
        stream = await self._port.call(
            lambda: self._peer.open_stream(service, priority=priority), lambda stream: stream.reset()
        )
        return Stream(self, service, self._port.bytes(stream))

    async def send_datagram(self, service: str, data: bytes | bytearray | memoryview) -> None:
        """Send an unreliable datagram to a service of the peer: at most once, in any order.

        Raises DatagramTooLargeError if it does not fit into one packet, PeerUnreachableError without a session.
        """
        await self._port.do(lambda: self._peer.send_datagram(service, data))

    def datagrams(self, service: str) -> DatagramSendStream:
        """The same as an object to send to, for code that takes one."""
        return DatagramSendStream(self, service)

    async def aclose(self) -> None:
        """End the sessions with the peer; its streams break on both sides."""
        await self._port.call(self._peer.aclose)


@asynccontextmanager
async def open_node(
    identity: Identity,
    bind: trio_node.Bind = ("0.0.0.0", 0),
    bootstrap: Iterable[MeshUri | str] = (),
    config: NodeConfig | None = None,
    *,
    network: Network | None = None,
) -> AsyncGenerator[Node, None]:
    """Open a node; leaving the block closes it and leaves no task, thread, socket or session behind.

    The arguments are those of :func:`netmesh_trio.open_node`.  On the trio backend the node runs on the program's loop,
    on asyncio in a thread of its own, where a ``network`` of :mod:`netmesh_trio.testing` cannot follow: ConfigError.
    An exception of the block comes out as it is, not in a group.
    """

    def opener() -> AbstractAsyncContextManager[trio_node.Node]:
        return trio_node.open_node(identity, bind, bootstrap, config, network=network)

    if _is_in_trio():
        async with opener() as node:
            yield Node(node, NativePort())
        return
    if network is not None:
        raise ConfigError("a network given to open_node needs anyio's trio backend")
    from .bridge import open_bridge  # which imports asyncio

    async with open_bridge(opener) as (bridge, node):
        yield Node(node, bridge)


def _is_in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
