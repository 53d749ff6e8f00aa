"""Two nodes behind NATs of any kind, two relays that introduce them, and the virtual internet between."""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from unittest import mock

import attrs
import trio

from netmesh_trio import Node, NodeConfig, PathKind, PathReport, open_node
from netmesh_trio.node import engine as engine_module
from netmesh_trio.node.engine import Engine
from netmesh_trio.node.peer import Peer
from netmesh_trio.node.rendezvous import Rendezvous
from netmesh_trio.session.session import Session
from netmesh_trio.testing import Host, LinkSettings, VirtualInternet
from netmesh_trio.traversal import NatType
from tests.mesh.world import Chance

__all__ = ["KINDS", "Lab", "Member", "echo", "open_lab", "open_member", "settle", "until"]

KINDS = (
    "none",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-preserving",
    "symmetric",
    "double",
    "firewall",
)
RELAY_HOSTS = ("203.0.113.7", "198.51.100.8")
_SETTLED = 30.0


@attrs.define(eq=False)
class Member:
    """A node, and where it runs."""

    node: Node
    host: Host

    @property
    def engine(self) -> Engine:
        return self.node._engine

    @property
    def rendezvous(self) -> Rendezvous:
        return self.node._upgrader._rendezvous

    def peer(self, other: Member) -> Peer:
        return self.engine.peer(other.node.peer_id)

    def session(self, other: Member) -> Session:
        live = self.peer(other).live
        assert live is not None
        return live.session

    def path(self, other: Member) -> PathReport:
        path = self.peer(other).path
        assert path is not None
        return path

    def knows(self, other: Member) -> bool:
        """Whether what the other one announces of its NAT has come here."""
        known = self.node._store.get(other.node.peer_id)
        state = other.engine.nat_state
        return known is not None and NatType.of_tags(known.tags) is state.nat_type and known.reflex == state.reflex


@attrs.define(eq=False)
class Lab:
    net: VirtualInternet
    a: Member
    b: Member
    relays: list[Member]
    chance: Chance

    @property
    def possible(self) -> bool:
        return self.net.direct_path_possible(self.a.host, self.b.host)

    @property
    def members(self) -> list[Member]:
        return [self.a, self.b, *self.relays]

    async def connect(self) -> Peer:
        return await self.a.node.connect(self.b.node.peer_id)

    async def direct_within(self, seconds: float) -> PathReport | None:
        """The direct path of the peer that ``a`` is connected to, or None if there is none in time."""
        with trio.move_on_after(seconds):
            return await self.a.peer(self.b).wait_direct()
        return None

    def is_direct(self) -> bool:
        paths = (self.a.peer(self.b).path, self.b.peer(self.a).path)
        return all(path is not None and path.kind is PathKind.DIRECT for path in paths)

    def check_clean(self) -> None:
        """No attempt has left anything behind."""
        for member in (self.a, self.b):
            rendezvous = member.rendezvous
            assert not rendezvous._attempts
            assert not len(rendezvous._guard)
            assert not rendezvous._guard.requests._requests
            assert not len(rendezvous._answering)
            assert not member.node._upgrader._running
            for live in member.engine.all_live():
                for path in live.session.paths.values():
                    # a relay that was asked, and whose answer got lost, is no business of an attempt
                    direct = path.kind is not PathKind.RELAYED
                    assert not direct or path.validated or path.tokens or path is live.session.path, path
                    assert not path.trains, path


@asynccontextmanager
async def open_member(
    host: Host,
    relays: Sequence[Member],
    chance: Chance,
    config: NodeConfig | None = None,
    port: int = 0,
) -> AsyncGenerator[Member, None]:
    uris = [f"netmesh://{r.node.peer_id}@{r.host.address}:4650" for r in relays]
    async with open_node(chance.identity(), ("0.0.0.0", port), uris, config, network=host) as node:
        member = Member(node, host)
        member.rendezvous._random_below = chance.randrange
        yield member


async def settle(one: Member, other: Member, relays: Sequence[Member]) -> None:
    """Wait until both know their NATs, as well as can be with these relays, and the relays know them."""
    for member in (one, other):
        await member.node.wait_connected()
    with trio.fail_after(_SETTLED):
        for member in (one, other):
            while len([r for r in relays if member.engine.direct_session(r.node.peer_id)]) < len(relays):
                await trio.sleep(0.05)
            if not member.engine.config.traversal.enabled:
                continue
            while member.engine.nat_state.nat_type is NatType.UNKNOWN and len(relays) > 1:
                await trio.sleep(0.05)
        for relay in relays:
            while not (relay.knows(one) and relay.knows(other)):
                await trio.sleep(0.05)


@asynccontextmanager
async def open_lab(
    kind_a: str = "port-restricted",
    kind_b: str = "port-restricted",
    *,
    seed: int = 1,
    link_a: LinkSettings | None = None,
    link_b: LinkSettings | None = None,
    relays: int = 2,
    config_a: NodeConfig | None = None,
    config_b: NodeConfig | None = None,
    relay_config: NodeConfig | None = None,
    place: Callable[[VirtualInternet], tuple[Host, Host]] | None = None,
    settled: bool = True,
    segments: int = 1,
    serve: bool = True,
) -> AsyncGenerator[Lab, None]:
    """Nodes ``a`` and ``b``, not connected to each other yet; ``b`` echoes what comes to the service "echo".

    ``place`` makes the two hosts where no kind of NAT says enough.
    """
    chance = Chance(seed)
    with mock.patch.object(engine_module, "os", types.SimpleNamespace(urandom=chance.randbytes)):
        async with VirtualInternet(seed=seed, segments=segments, resolution=0.001 if segments > 1 else 0.0) as net:
            if place is not None:
                host_a, host_b = place(net)
            else:
                host_a = net.host("a", behind=kind_a, link=link_a or LinkSettings(delay=0.02))
                host_b = net.host("b", behind=kind_b, link=link_b or LinkSettings(delay=0.02))
            async with trio.open_nursery() as nursery:
                made: list[Member] = []
                for number in range(relays):
                    host = net.host(f"relay{number + 1}", RELAY_HOSTS[number])
                    made.append(await nursery.start(_run, host, made[:0], chance, relay_config, 4650))
                a: Member = await nursery.start(_run, host_a, made, chance, config_a, 0)
                b: Member = await nursery.start(_run, host_b, made, chance, config_b, 0)
                if serve:
                    await nursery.start(echo, b)
                if settled:
                    await settle(a, b, made)
                yield Lab(net, a, b, made, chance)
                nursery.cancel_scope.cancel()


async def _run(
    host: Host,
    relays: Sequence[Member],
    chance: Chance,
    config: NodeConfig | None,
    port: int,
    *,
    task_status: trio.TaskStatus[Member],
) -> None:
    async with open_member(host, relays, chance, config, port) as member:
        task_status.started(member)
        await trio.sleep_forever()


async def until(what: Callable[[], bool], within: float) -> float:
    """Wait for it; return how long it took."""
    start = trio.current_time()
    with trio.fail_after(within):
        while not what():
            await trio.sleep(0.01)
    return trio.current_time() - start


async def echo(member: Member, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Echo every stream of the service "echo"."""

    async def serve(stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            while data := await stream.receive_some():
                await stream.send_all(data)
            await stream.send_eof()

    async with member.node.listen("echo") as listener:
        task_status.started()
        await trio.serve_listeners(serve, [listener])
