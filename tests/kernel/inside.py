"""Nodes of this process on hosts of the laboratory, and what pairs of them achieve."""

from __future__ import annotations

import itertools
import socket
import statistics
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from netmesh_trio import Identity, MeshUri, Node, NodeConfig, open_node
from netmesh_trio.events import PathKind
from netmesh_trio.node.udp import KernelNetwork
from netmesh_trio.testing import direct_path_possible
from netmesh_trio.testing.namespaces import Gateway, Host, KernelInternet, NatKind
from netmesh_trio.traversal import Gateway as RouterAddress
from netmesh_trio.traversal.classify import NatType

SERVICE = "test.echo"
PORT = 4650

KINDS: tuple[NatKind, ...] = (
    "none",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-preserving",
    "symmetric",
    "double",
    "firewall",
)
CONES: tuple[NatKind, ...] = ("full-cone", "address-restricted", "port-restricted", "port-preserving", "double")


Pair = tuple[NatKind, NatKind]


def nat_type(kind: str) -> NatType:
    """What a kind of the laboratory is to be taken for."""
    if kind in ("none", "firewall"):
        return NatType.OPEN
    return NatType.SYMMETRIC if kind.startswith("symmetric") else NatType.CONE


class HostNetwork(KernelNetwork):
    """The network of a host of the laboratory, for a node that runs in this process."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def open_socket(self, family: int, kind: int) -> socket.socket:
        return self._host.socket(family, kind)

    def gateways(self) -> list[RouterAddress]:
        return self._host.call(super().gateways)

    def interface_addresses(self) -> list[str]:
        return self._host.call(super().interface_addresses)


class World:
    """Nodes that echo, open as long as the block."""

    def __init__(self, nursery: trio.Nursery, stack: AsyncExitStack) -> None:
        self._nursery = nursery
        self._stack = stack
        self.relays: list[str] = []
        self.nodes: list[Node] = []

    async def node(self, host: Host, config: NodeConfig | None = None) -> Node:
        """A node with sessions to all relays."""
        opening = open_node(Identity.generate(), ("0.0.0.0", 0), self.relays, config, network=HostNetwork(host))
        return await self._serve(await self._stack.enter_async_context(opening))

    async def relay(self, host: Host) -> Node:
        """A node that relays, observes and introduces."""
        opening = open_node(Identity.generate(), ("0.0.0.0", PORT), self.relays, network=HostNetwork(host))
        node = await self._serve(await self._stack.enter_async_context(opening))
        self.relays.append(str(MeshUri(node.peer_id, node.addresses[0].address)))
        return node

    async def _serve(self, node: Node) -> Node:
        with trio.fail_after(10):
            await node.wait_connected()
        listener = node.listen(SERVICE)
        self._nursery.start_soon(trio.serve_listeners, _echo, [listener])
        self.nodes.append(node)
        return node


@asynccontextmanager
async def open_world(*relays: Host) -> AsyncIterator[World]:
    """A world with a relay on each of these hosts."""
    async with trio.open_nursery() as nursery:
        async with AsyncExitStack() as stack:
            made = World(nursery, stack)
            for host in relays:
                await made.relay(host)
            yield made
            nursery.cancel_scope.cancel()


async def _echo(stream: trio.abc.HalfCloseableStream) -> None:
    try:
        async with stream:
            while data := await stream.receive_some(65536):
                await stream.send_all(data)
            await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def classified(*nodes: Node, timeout: float = 10) -> None:
    """Wait until all know what NAT they are behind."""
    with trio.move_on_after(timeout):
        for node in nodes:
            while node.nat_type is NatType.UNKNOWN:
                await trio.sleep(0.01)
    assert all(node.nat_type is not NatType.UNKNOWN for node in nodes), [node.nat_report for node in nodes]


async def announced(nodes: Sequence[Node], to: Sequence[Node], timeout: float = 15) -> None:
    """Wait until the nodes ``to`` have heard, by announcements, of the NATs of ``nodes``."""
    lacking = list(itertools.product(nodes, to))
    with trio.move_on_after(timeout):
        while lacking:
            lacking = [(n, other) for n, other in lacking if other.peer_nat_type(n.peer_id) is NatType.UNKNOWN]
            await trio.sleep(0.01)
    assert not lacking, f"{lacking} have not heard of each other after {timeout} s"


@attrs.frozen(kw_only=True)
class Outcome:
    """What one pair achieved; times in seconds from the call of ``connect``."""

    a: str
    b: str
    possible: bool
    direct: bool
    relay_rtt: float | None
    #: Until a byte had come back over whatever path there was.
    echoed: float
    #: Until data took a direct path.
    found: float | None
    #: Until the first byte that left on the direct path had arrived, half of its way there and back.
    arrived: float | None
    why: str | None
    both: bool

    @property
    def right(self) -> bool:
        """Direct where that is possible, else a typed reason."""
        return self.direct and self.both if self.possible else not self.direct and self.why is not None

    def __str__(self) -> str:
        rtt = f"{self.relay_rtt * 1e3:.1f}" if self.relay_rtt else "-"
        found = f"{self.found * 1e3:.0f} ms" if self.found is not None else "-"
        flag = "" if self.right else "   <<< not as expected"
        return (
            f"{self.a:19}{self.b:19} possible {self.possible!s:5}  direct {found:>8}  relay rtt {rtt:>6} ms  "
            f"{self.why or ''}{'' if self.both or not self.direct else ' (one end)'}{flag}"
        )


async def try_pair(kinds: Pair, a: Node, b: Node, patience: float) -> Outcome:
    """Connect ``a`` to ``b`` by its peer id, use the session, and see what becomes of the path."""
    possible = direct_path_possible(*kinds)
    began = trio.current_time()
    peer = await a.connect(b.peer_id)
    first = peer.path
    stream = await peer.open_stream(SERVICE)
    found = arrived = None
    async with stream:
        await _round_trip(stream)
        echoed = trio.current_time() - began
        rtt = peer.path.rtt if first is not None and first.kind is PathKind.RELAYED and peer.path is not None else None
        with trio.move_on_after(patience):
            if possible:
                await peer.wait_direct()
            else:
                while peer.why_not_direct is None and (peer.path is None or peer.path.kind is not PathKind.DIRECT):
                    await trio.sleep(0.02)
                await trio.sleep(0.3)  # nothing comes after that
        path = peer.path
        direct = path is not None and path.kind is PathKind.DIRECT
        if direct:
            found = trio.current_time() - began
            sent = trio.current_time()
            await _round_trip(stream)
            arrived = found + (trio.current_time() - sent) / 2
        back = next((p for p in b.peers() if p.peer_id == a.peer_id), None)
        both = False
        with trio.move_on_after(1):
            if direct and back is not None:
                await back.wait_direct()
                both = True
    why = peer.why_not_direct
    return Outcome(
        a=kinds[0],
        b=kinds[1],
        possible=possible,
        direct=direct,
        relay_rtt=rtt,
        echoed=echoed,
        found=found,
        arrived=arrived,
        why=None if why is None else why.kind,
        both=both,
    )


async def _round_trip(stream: trio.abc.HalfCloseableStream) -> None:
    with trio.fail_after(10):
        await stream.send_all(b"x")
        assert await stream.receive_some(10) == b"x"


@attrs.frozen
class Side:
    """One gateway of each kind with a host behind it."""

    hosts: dict[NatKind, Host]
    gateways: dict[NatKind, Gateway]


def build_side(lab: KernelInternet, name: str, kinds: Sequence[NatKind] = KINDS, delay: float = 0.0) -> Side:
    """Make them."""
    gateways: dict[NatKind, Gateway] = {}
    for kind in kinds:
        gateways[kind] = lab.nat(f"{name}-{kind}", kind=kind)
    hosts: dict[NatKind, Host] = {}
    for kind, gateway in gateways.items():
        hosts[kind] = gateway.host(f"{name}h-{kind}", delay=delay)
    return Side(hosts, gateways)


def rounds_of_pairs(first: Sequence[NatKind], second: Sequence[NatKind]) -> Iterator[list[Pair]]:
    """All pairs of two equally long lists, in groups in which every host takes part at most once."""
    for shift in range(len(first)):
        yield [(a, second[(i + shift) % len(second)]) for i, a in enumerate(first)]


async def all_pairs(
    world: World, a_side: Side, b_side: Side, *, patience: float = 7.0, at_once: int = 8
) -> list[Outcome]:
    """One node on each host, and every pair once: no pair has seen the other's network before."""
    outcomes: list[Outcome] = []
    a_nodes = {kind: await world.node(host) for kind, host in a_side.hosts.items()}
    b_nodes = {kind: await world.node(host) for kind, host in b_side.hosts.items()}
    await classified(*a_nodes.values(), *b_nodes.values())
    for kind, node in itertools.chain(a_nodes.items(), b_nodes.items()):
        assert node.nat_type is nat_type(kind), f"{kind} is taken for {node.nat_type}: {node.nat_report}"
    # the relays keep the map, and tell both ends of each other when they open a circuit between them
    await announced([*a_nodes.values(), *b_nodes.values()], world.nodes[: len(world.relays)])

    async def one(kinds: Pair) -> None:
        outcomes.append(await try_pair(kinds, a_nodes[kinds[0]], b_nodes[kinds[1]], patience))

    async def several(pairs: Sequence[Pair]) -> None:
        async with trio.open_nursery() as nursery:
            for kinds in pairs:
                nursery.start_soon(one, kinds)

    groups = list(rounds_of_pairs(list(a_side.hosts), list(b_side.hosts)))
    for group in groups:
        hopeful = [kinds for kinds in group if direct_path_possible(*kinds)]
        for at in range(0, len(hopeful), at_once):
            await several(hopeful[at : at + at_once])
    # these take until a deadline, and next to no processor time
    await several([kinds for group in groups for kinds in group if not direct_path_possible(*kinds)])
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """For each pair how often it became direct, and the median times."""
    lines = []
    by_pair: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        by_pair.setdefault((outcome.a, outcome.b), []).append(outcome)
    for (a, b), several in sorted(by_pair.items(), key=lambda p: (_rank(p[0][0]), _rank(p[0][1]))):
        direct = [o for o in several if o.direct]
        found = statistics.median(o.found for o in direct if o.found is not None) if direct else None
        trips = [o.found / o.relay_rtt for o in direct if o.found is not None and o.relay_rtt]
        words = "" if found is None else f"{found * 1e3:6.0f} ms"
        words += f" {statistics.median(trips):5.1f} rtt" if trips else ""
        whys = sorted({o.why for o in several if o.why})
        flag = "" if all(o.right for o in several) else "   <<<"
        lines.append(
            f"{a:19}{b:19}{'possible' if several[0].possible else '-':9} {len(direct)}/{len(several)} {words:20} "
            f"{', '.join(whys)}{flag}"
        )
    return "\n".join(lines)


def _rank(kind: str) -> int:
    return next((i for i, known in enumerate(KINDS) if known == kind), len(KINDS))
