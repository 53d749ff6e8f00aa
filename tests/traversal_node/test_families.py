"""Nodes with IPv4 and IPv6, and nodes with one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from netmesh_trio import Identity, NatType, Node, PathKind, open_node
from netmesh_trio.testing import VirtualInternet
from tests.node.mesh import echoing, round_trip

BOTH = [("0.0.0.0", 0), ("::", 0)]


@asynccontextmanager
async def two_homes(kind: str, *, six: tuple[bool, bool]) -> AsyncGenerator[tuple[Node, Node]]:
    """Two nodes behind NATs of one kind that bind both families, some with an address of IPv6, and relays without."""
    async with VirtualInternet() as net, AsyncExitStack() as stack:
        uris: list[str] = []
        for name in ("r1", "r2"):
            host = net.host(name)
            relay = await stack.enter_async_context(open_node(Identity.generate(), ("0.0.0.0", 7), uris, network=host))
            uris.append(f"netmesh://{relay.peer_id}@{host.address}:7")
        nodes = []
        for name, has_six in zip(("a", "b"), six, strict=True):
            home = net.nat(f"home of {name}", kind)
            host = home.host(name)
            if has_six:
                host.interfaces[0].attach(home.realm, f"2001:470::{name}")
            node = await stack.enter_async_context(open_node(Identity.generate(), BOTH, uris, network=host))
            nodes.append(node)
        await trio.sleep(3)
        yield nodes[0], nodes[1]


async def path_after(a: Node, b: Node, seconds: float) -> tuple[PathKind, int | None]:
    """What leads from one to the other, and the family of its address."""
    async with echoing(b):
        peer = await a.connect(b.peer_id)
        await round_trip(peer, bytes(10_000))
        await trio.sleep(seconds)
        await round_trip(peer, bytes(10_000))
        assert peer.path is not None
        return peer.path.kind, None if peer.path.addr is None else peer.path.addr.family


async def test_symmetric_nats_do_not_matter_where_both_have_ipv6(autojump_clock: trio.testing.MockClock) -> None:
    async with two_homes("symmetric", six=(True, True)) as (a, b):
        assert a.nat_type is NatType.SYMMETRIC
        assert await path_after(a, b, 1) == (PathKind.DIRECT, 6)


@pytest.mark.parametrize("kind", ["port-restricted", "symmetric"])
@pytest.mark.parametrize("six", [(True, False), (False, True), (False, False)])
async def test_ipv6_at_one_end_changes_nothing(
    kind: str, six: tuple[bool, bool], autojump_clock: trio.testing.MockClock
) -> None:
    async with two_homes(kind, six=six) as (a, b):
        assert a.nat_type is (NatType.SYMMETRIC if kind == "symmetric" else NatType.CONE)
        expected = (PathKind.RELAYED, None) if kind == "symmetric" else (PathKind.DIRECT, 4)
        assert await path_after(a, b, 10) == expected
        assert a.statistics().internal_errors == 0
