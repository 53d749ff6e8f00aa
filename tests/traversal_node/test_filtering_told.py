"""Pairs whose announced kinds leave no chance, and what the two tell each other does."""

from __future__ import annotations

import itertools
import types
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from unittest import mock

import attrs
import pytest
import trio
import trio.testing

from netmesh_trio import PathKind, open_node
from netmesh_trio.node import engine as engine_module
from netmesh_trio.testing import Dependence, Host, NatBehavior, VirtualInternet
from netmesh_trio.traversal import NatType
from tests.mesh.world import Chance
from tests.traversal_node.lab import Member, until

EI, AD, APD = Dependence


@attrs.frozen
class Pair:
    net: VirtualInternet
    a: Member
    b: Member

    @property
    def possible(self) -> bool:
        return self.net.direct_path_possible(self.a.host, self.b.host)

    def is_direct(self) -> bool:
        paths = (self.a.peer(self.b).path, self.b.peer(self.a).path)
        return all(path is not None and path.kind is PathKind.DIRECT for path in paths)


@asynccontextmanager
async def open_pair(
    behind_a: str | NatBehavior, behind_b: str | NatBehavior, *, relays_of_b: int = 2
) -> AsyncGenerator[Pair, None]:
    """Two nodes that know relays, which know another that can send them canaries."""
    chance = Chance(1)
    with mock.patch.object(engine_module, "os", types.SimpleNamespace(urandom=chance.randbytes)):
        async with VirtualInternet(seed=1, delay=0.01) as net, AsyncExitStack() as stack:
            uris: list[str] = []

            async def member(host: Host, bootstrap: list[str], port: int = 0) -> Member:
                opened = open_node(chance.identity(), ("0.0.0.0", port), bootstrap, network=host)
                return Member(await stack.enter_async_context(opened), host)

            for number in range(3):
                relay = await member(net.host(f"relay{number}"), uris, 4650)
                uris.append(f"netmesh://{relay.node.peer_id}@{relay.host.address}:4650")
            await trio.sleep(5.0)
            a = await member(net.host("a", behind=behind_a), uris[:2])
            b = await member(net.host("b", behind=behind_b), uris[:relays_of_b])
            await trio.sleep(30.0)
            yield Pair(net, a, b)


def symmetric(mapping: Dependence, filtering: Dependence) -> NatBehavior:
    return NatBehavior(mapping=mapping, filtering=filtering)


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted", "port-restricted"])
@pytest.mark.parametrize("turned", [False, True])
async def test_symmetric_with_one_that_does_not_know_its_kind(
    kind: str, turned: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_pair("symmetric", kind, relays_of_b=1) as pair:
        assert (pair.a.node.nat_type, pair.b.node.nat_type) == (NatType.SYMMETRIC, NatType.UNKNOWN)
        one, other = (pair.b, pair.a) if turned else (pair.a, pair.b)
        peer = await one.node.connect(other.node.peer_id)
        if pair.possible:
            await until(pair.is_direct, 3.0)
        else:
            assert kind == "port-restricted"
            await trio.sleep(12.0)
            assert not pair.is_direct()
            # its filter is known to be strict, so nothing was sent in vain
            assert "without guessing ports" in str(peer.why_not_direct)


def _names(pair: tuple[Dependence, Dependence]) -> str:
    short = {EI: "anybody", AD: "address", APD: "port"}
    return "-".join(short[one] for one in pair)


MAPPINGS = list(itertools.product((AD, APD), repeat=2))
FILTERS = [(EI, AD), (AD, EI), (EI, EI), (AD, AD), (EI, APD)]


@pytest.mark.parametrize("filters", FILTERS, ids=_names)
@pytest.mark.parametrize("mappings", MAPPINGS, ids=_names)
async def test_two_symmetric_ends(
    mappings: tuple[Dependence, Dependence],
    filters: tuple[Dependence, Dependence],
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair(*itertools.starmap(symmetric, zip(mappings, filters, strict=True))) as pair:
        assert pair.a.node.nat_type is pair.b.node.nat_type is NatType.SYMMETRIC
        await pair.a.node.connect(pair.b.node.peer_id)
        if pair.possible:
            await until(pair.is_direct, 3.0)
            await trio.sleep(20.0)
            assert pair.is_direct()
        else:
            await trio.sleep(20.0)
            assert not pair.is_direct()
