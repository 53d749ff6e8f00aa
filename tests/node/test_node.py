"""Nodes on the virtual internet, in virtual time."""

from __future__ import annotations

import random

import attrs
import pytest
import trio

import netmesh_trio
from netmesh_trio import ConfigError, Identity, NodeConfig, TraversalConfig, open_node
from netmesh_trio.testing import VirtualInternet


async def echo(stream: netmesh_trio.Stream) -> None:
    async with stream:
        while data := await stream.receive_some():
            await stream.send_all(data)


async def test_two_nodes_behind_symmetric_nats_talk_over_a_relay(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet(seed=1) as net:
        relay_host = net.host("r", "203.0.113.7")
        async with open_node(Identity.generate(), ("0.0.0.0", 4650), network=relay_host) as relay:
            uri = f"netmesh://{relay.peer_id}@203.0.113.7:4650"
            async with (
                open_node(Identity.generate(), bootstrap=[uri], network=net.host("a", behind="symmetric")) as a,
                open_node(Identity.generate(), bootstrap=[uri], network=net.host("b", behind="symmetric")) as b,
            ):
                await a.wait_connected()
                await b.wait_connected()
                async with b.listen("echo") as listener, trio.open_nursery() as nursery:
                    nursery.start_soon(trio.serve_listeners, echo, [listener])
                    peer = await a.connect(b.peer_id)
                    assert peer.path is not None
                    assert peer.path.via == relay.peer_id
                    stream = await peer.open_stream("echo")
                    data = random.Random(1).randbytes(300_000)
                    got = bytearray()

                    async def read() -> None:
                        while part := await stream.receive_some():
                            got.extend(part)

                    async with trio.open_nursery() as inner:
                        inner.start_soon(read)
                        await stream.send_all(data)
                        await stream.send_eof()
                    assert bytes(got) == data
                    with pytest.raises(netmesh_trio.ServiceNotFoundError):
                        await peer.open_stream("nobody")
                    nursery.cancel_scope.cancel()


async def test_over_loopback_sockets() -> None:
    config = NodeConfig()
    async with open_node(Identity.generate(), ("127.0.0.1", 0), config=config) as b:
        async with b.listen("echo") as listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, echo, [listener])
            async with open_node(Identity.generate(), ("127.0.0.1", 0)) as a:
                peer = await a.connect(b.addresses[0])
                async with await peer.open_stream("echo") as stream:
                    await stream.send_all(b"hello")
                    assert await stream.receive_some() == b"hello"
            nursery.cancel_scope.cancel()


def test_one_setting_for_port_mappings_at_two_doors() -> None:
    for config in (
        NodeConfig(try_port_mapping=True),
        NodeConfig(traversal=TraversalConfig(try_port_mapping=True)),
        NodeConfig(try_port_mapping=True, traversal=TraversalConfig(port_mapping_lease=7200)),
        attrs.evolve(NodeConfig(try_port_mapping=True), direct=False),
        attrs.evolve(NodeConfig(), try_port_mapping=True),
        attrs.evolve(NodeConfig(try_port_mapping=True), traversal=TraversalConfig()),
    ):
        assert config.try_port_mapping is config.traversal.try_port_mapping is True
    for config in (
        NodeConfig(),
        NodeConfig(try_port_mapping=False, traversal=TraversalConfig(try_port_mapping=True)),
        attrs.evolve(NodeConfig(try_port_mapping=True), try_port_mapping=False),
    ):
        assert config.try_port_mapping is config.traversal.try_port_mapping is False
    with pytest.raises(ConfigError, match="try_port_mapping is 'yes'"):
        NodeConfig(try_port_mapping="yes")  # type: ignore[arg-type]
