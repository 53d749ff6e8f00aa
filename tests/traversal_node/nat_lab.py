"""A node behind some NAT, and public relays that see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import trio

from netmesh_trio import Identity, Node, NodeConfig, NodeStats, TraversalConfig, open_node
from netmesh_trio.node.classifying import Classifying
from netmesh_trio.node.reflexes import Reflexes
from netmesh_trio.session.session import Session
from netmesh_trio.testing import Host, NatBehavior, VirtualInternet

__all__ = ["NatLab", "classifying", "config_of", "open_nat_lab", "reflexes", "session"]

DELAY = 0.01
RTT = 4 * DELAY


@attrs.frozen
class NatLab:
    """``node`` runs on ``host`` and knows all of ``relays`` but the last ``strangers``."""

    net: VirtualInternet
    node: Node
    host: Host
    relays: list[Node]
    opened: float

    async def until(self, condition: Any, seconds: float = 60) -> float:
        """Wait until it is so; returns seconds since the node was opened."""
        with trio.fail_after(seconds):
            while not condition():
                await trio.sleep(0.001)
        return trio.current_time() - self.opened

    def stats(self) -> NodeStats:
        return self.node.statistics()


def config_of(**traversal: Any) -> NodeConfig:
    return NodeConfig(traversal=TraversalConfig(**traversal))


@asynccontextmanager
async def open_nat_lab(
    behind: str | NatBehavior | None = "port-restricted",
    *,
    relays: int = 2,
    strangers: int = 0,
    seed: int = 1,
    config: NodeConfig | None = None,
    relay_configs: Sequence[NodeConfig | None] = (),
    bootstraps: int | None = None,
) -> AsyncGenerator[NatLab, None]:
    """``strangers`` are relays that have sessions with the others and none with the node."""
    async with VirtualInternet(seed=seed, delay=DELAY, lan_delay=0.0) as net, AsyncExitStack() as stack:
        hosts = [net.host(f"r{n}") for n in range(relays + strangers)]
        opened: list[Node] = []
        uris: list[str] = []
        for number, host in enumerate(hosts):
            node = await stack.enter_async_context(
                open_node(
                    Identity.generate(),
                    ("0.0.0.0", 4650),
                    bootstrap=uris[:relays] if number >= relays else (),
                    config=relay_configs[number] if number < len(relay_configs) else None,
                    network=host,
                )
            )
            opened.append(node)
            uris.append(f"netmesh://{node.peer_id}@{host.address}:4650")
        if strangers:
            await trio.sleep(5)
        host = net.host("n", behind=behind)
        then = trio.current_time()
        node = await stack.enter_async_context(
            open_node(Identity.generate(), bootstrap=uris[: bootstraps or relays], config=config, network=host)
        )
        yield NatLab(net, node, host, opened, then)


def classifying(node: Node) -> Classifying:
    return node._classifying


def reflexes(node: Node) -> Reflexes:
    return node._reflexes


def session(a: Node, b: Node) -> Session:
    live = a._engine.peer(b.peer_id).live
    assert live is not None
    return live.session
