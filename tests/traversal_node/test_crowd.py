"""Many peers that look for a direct path to one node in the same moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from netmesh_trio import Node, PathKind, PeerId, open_node
from netmesh_trio.node.answering import Answering
from netmesh_trio.testing import VirtualInternet
from netmesh_trio.testing.packets import Packet
from netmesh_trio.traversal import NatType, RendezvousRejectedError
from netmesh_trio.traversal.rendezvous import Candidates, PunchReject, RejectReason
from netmesh_trio.traversal.stats import TraversalStats
from tests.mesh.world import Chance
from tests.traversal_node.lab import RELAY_HOSTS, until


@asynccontextmanager
async def crowd(
    kinds: list[str], *, behind: str = "port-restricted", relays: int = 2
) -> AsyncGenerator[tuple[VirtualInternet, Node, list[Node]], None]:
    """A node, and others behind NATs of those kinds, which all know the same relays."""
    chance = Chance(1)
    async with VirtualInternet(seed=1, delay=0.02) as net, AsyncExitStack() as stack:
        uris: list[str] = []
        for number, address in enumerate(RELAY_HOSTS[:relays]):
            host = net.host(f"relay{number}", address)
            relay = await stack.enter_async_context(open_node(chance.identity(), ("0.0.0.0", 4650), uris, network=host))
            uris.append(f"netmesh://{relay.peer_id}@{address}:4650")
        nodes = [
            await stack.enter_async_context(open_node(chance.identity(), bootstrap=uris, network=host))
            for host in (net.host("one", behind=behind), *(net.host(f"n{n}", behind=k) for n, k in enumerate(kinds)))
        ]
        await until(lambda: all(node.nat_type is not NatType.UNKNOWN for node in nodes), 30.0)
        await trio.sleep(1.0)
        yield net, nodes[0], nodes[1:]


async def all_dial(nodes: list[Node], one: Node) -> None:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.connect, one.peer_id)


def direct(nodes: list[Node], one: Node) -> int:
    return sum(
        peer.path is not None and peer.path.kind is PathKind.DIRECT
        for node in nodes
        for peer in node.peers()
        if peer.peer_id == one.peer_id
    )


async def test_all_become_direct_soon(autojump_clock: trio.testing.MockClock) -> None:
    async with crowd(["port-restricted"] * 40) as (_, one, nodes):
        await all_dial(nodes, one)
        await until(lambda: direct(nodes, one) == len(nodes), 10.0)
        assert sum(node.traversal_stats().upgrades_succeeded for node in nodes) == len(nodes)
        # each relay introduced many more than an introducer may who is not backed by the peer itself
        assert one.traversal_stats().introductions_dropped == 0
        assert one.traversal_stats().answers > 16


async def test_those_that_cannot_do_not_keep_others_from_it(autojump_clock: trio.testing.MockClock) -> None:
    """Trains that nobody answers hold their turn for a part of their time only."""
    async with crowd(["port-restricted", "symmetric"] * 20) as (_, one, nodes):
        await all_dial(nodes, one)
        await until(lambda: direct(nodes[::2], one) == 20, 15.0)
        assert direct(nodes[1::2], one) == 0


async def test_one_that_dials_all(autojump_clock: trio.testing.MockClock) -> None:
    async with crowd(["port-restricted"] * 40) as (_, one, nodes):
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(one.connect, node.peer_id)
        await until(lambda: direct(nodes, one) == len(nodes), 10.0)


async def test_what_a_crowd_gets_out_of_a_node_is_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers a probe: no more trains than have a turn begin within a second, and the others hear why."""
    async with crowd(["port-restricted"] * 40) as (net, one, nodes):
        hosts = {node.reflex_addr.host for node in nodes if node.reflex_addr is not None}
        assert len(hosts) == len(nodes)
        first: dict[str, float] = {}
        probes: Counter[str] = Counter()

        def watch(packet: Packet) -> None:
            if packet.origin == "one" and packet.destination.host in hosts:
                first.setdefault(packet.destination.host, trio.current_time())
                probes[packet.destination.host] += 1

        net.on_packet = watch
        for node in nodes:
            net.block(net.hosts["one"], net.hosts[f"n{nodes.index(node)}"])
        begin = trio.current_time()
        await all_dial(nodes, one)
        await trio.sleep_until(begin + 6.0)
        times = sorted(first.values())
        assert len(times) < len(nodes)
        for early, late in zip(times, times[8:], strict=False):
            assert late - early >= 0.79
        assert max(probes.values()) <= 2 * 8  # the train that the peer asked for, and that of its introduction
        stats = one.traversal_stats()
        assert stats.answers_put_off > 0
        reasons = [peer.why_not_direct for node in nodes for peer in node.peers() if peer.why_not_direct is not None]
        assert {why.reason for why in reasons if isinstance(why, RendezvousRejectedError)} == {"busy"}


async def test_so_many_wait_for_a_turn_and_each_asks_so_often() -> None:
    """Who is put off hears of it."""
    sent: list[bytes] = []
    engine: Any = SimpleNamespace(now=lambda: 0.0, send_control=lambda _live, _number, payload: sent.append(payload))
    stats = TraversalStats()
    answering = Answering(engine, stats)
    first = PeerId(bytes(32))

    def admits(peer_id: PeerId, punch_id: bytes = bytes(8)) -> bool:
        live: Any = SimpleNamespace(peer=SimpleNamespace(peer_id=peer_id))
        return answering.admits(live, Candidates(punch_id, (), True, True))

    for _ in range(4):
        assert admits(first)
        assert not answering.expects(first, b"another1")
        assert answering.expects(first, bytes(8))
        assert not answering.expects(first, bytes(8))
        del answering._answers[first]
    assert not admits(first)
    assert [admits(PeerId(number.to_bytes(32, "big"))) for number in range(1, 258)] == [True] * 256 + [False]
    assert sent == [PunchReject(bytes(8), RejectReason.BUSY).encode()] * 2
    assert stats.snapshot().answers_put_off == 2
