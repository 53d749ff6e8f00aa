"""A small mesh to test a program on: two nodes behind NATs of choice, and the relays that they know."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs

from netmesh_trio import Identity, Node, NodeConfig, Peer, open_node
from netmesh_trio.testing.behavior import NatBehavior
from netmesh_trio.testing.host import Host
from netmesh_trio.testing.internet import VirtualInternet
from netmesh_trio.testing.link import LinkSettings
from netmesh_trio.testing.nat import Nat

__all__ = ["Mesh", "Place", "open_mesh"]

#: Where a host stands: behind a NAT made before, behind new ones (a name in :data:`KINDS`, or behaviors from the host
#: outward), or with None on the public internet.
Place = Nat | str | NatBehavior | Sequence[NatBehavior] | None

_RELAY_PORT = 4650


@attrs.frozen(eq=False)
class Mesh:
    """Nodes on a virtual internet; made by :func:`open_mesh`."""

    net: VirtualInternet
    """The internet, to lose packets, block hosts, make further ones."""

    relays: tuple[Node, ...]
    """Public nodes that everybody here is connected to; they relay, and introduce nodes to each other."""

    bootstrap: tuple[str, ...]
    """Their URIs, for ``open_node(bootstrap=...)``."""

    alice: Node
    bob: Node

    _link: LinkSettings = attrs.field(alias="link", repr=False)
    _config: NodeConfig | None = attrs.field(alias="config", repr=False)
    _hosts: dict[Node, Host] = attrs.field(alias="hosts", repr=False)

    def host(self, node: Node) -> Host:
        """Where a node runs: ``mesh.host(mesh.alice).link.loss = 0.1``.

        :raises LookupError: if it is not of this mesh.
        """
        return self._hosts[node]

    def identity(self, name: str) -> Identity:
        """The key of that name, ``"alice"`` for one; it depends on the seed of the internet only, so each run has the
        same peer ids."""
        return _identity(self.net, name)

    async def connect(self) -> Peer:
        """``alice`` connects to ``bob`` by his peer id alone: over a relay at once, and it moves to a direct path by
        itself where the NATs allow one."""
        return await self.alice.connect(self.bob.peer_id)

    @asynccontextmanager
    async def node(
        self, name: str, behind: Place = "port-restricted", *, config: NodeConfig | None = None
    ) -> AsyncGenerator[Node, None]:
        """Another node, connected to the relays, on a host of that name.

        If the host is there already, it runs on that: this is how a node is started again after
        ``mesh.net.kill(host)``.  It has the same identity then.
        """
        host = self.net.hosts.get(name) or self.net.host(name, behind=behind, link=self._link)
        config = config or self._config
        async with open_node(self.identity(name), bootstrap=self.bootstrap, config=config, network=host) as node:
            await node.wait_connected()
            self._hosts[node] = host
            try:
                yield node
            finally:
                del self._hosts[node]


@asynccontextmanager
async def open_mesh(
    alice: Place = "port-restricted",
    bob: Place = "port-restricted",
    *,
    net: VirtualInternet | None = None,
    seed: int | str | None = None,
    relays: int = 2,
    delay: float = 0.02,
    loss: float = 0.0,
    config: NodeConfig | None = None,
    relay_config: NodeConfig | None = None,
) -> AsyncGenerator[Mesh, None]:
    """Open two nodes, ``alice`` and ``bob``, each behind a NAT of its own, and the relays that they are connected to.

    The pytest fixture ``mesh`` is this, with the arguments of the marker ``mesh``.  Neither knows the other's
    address; they reach each other by peer id.

    :param alice: what stands between that node and the internet; see :data:`~netmesh_trio.testing.KINDS`.
    :param bob: the same.
    :param net: where to make them; None makes an internet for them.
    :param seed: of that one, 0 if not given: what losses, ports and keys are drawn from.
    :param relays: how many; with two, nodes find out what NATs they are behind.
    :param delay: seconds, one way, from ``alice`` and ``bob`` each to the NAT.
    :param loss: probability, 0 to 1, that a datagram is lost there.
    :param config: settings of ``alice`` and ``bob``, the network key of a private mesh for one.
    :param relay_config: settings of the relays, which must have the same network key; None: as ``config``.
    """
    if relays < 1:
        raise ValueError(f"relays is {relays}: without one, nodes behind NATs do not find each other")
    link = LinkSettings(delay=delay, loss=loss)
    relay_config = config if relay_config is None else relay_config
    hosts: dict[Node, Host] = {}
    async with AsyncExitStack() as stack:
        if net is None:
            net = await stack.enter_async_context(VirtualInternet(seed=0 if seed is None else seed))
        elif seed is not None:
            raise ValueError("net has a seed of its own: give one or the other")
        bootstrap: tuple[str, ...] = ()
        for number in range(1, relays + 1):
            name = f"relay{number}"
            host = net.host(name)
            identity = _identity(net, name)
            bind = ("0.0.0.0", _RELAY_PORT)
            node = await stack.enter_async_context(open_node(identity, bind, bootstrap, relay_config, network=host))
            hosts[node] = host
            bootstrap += (f"netmesh://{identity.peer_id}@{host.address}:{_RELAY_PORT}",)
        made = []
        for name, place in ("alice", alice), ("bob", bob):
            host = net.host(name, behind=place, link=link)
            opening = open_node(_identity(net, name), bootstrap=bootstrap, config=config, network=host)
            node = await stack.enter_async_context(opening)
            hosts[node] = host
            made.append(node)
        for node in made:
            await node.wait_connected()
        yield Mesh(
            net=net,
            relays=tuple(hosts)[:relays],
            bootstrap=bootstrap,
            alice=made[0],
            bob=made[1],
            link=link,
            config=config,
            hosts=hosts,
        )


def _identity(net: VirtualInternet, name: str) -> Identity:
    return Identity(hashlib.sha256(f"{net.seed}/{name}".encode()).digest())
