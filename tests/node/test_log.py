"""The standard library's log of a node: records with node, peer and path."""

from __future__ import annotations

import logging

import pytest
import trio

from netmesh_trio import Identity, NodeConfig, open_node
from netmesh_trio.testing import VirtualInternet

FORMAT = logging.Formatter("%(levelname)s %(node)s %(peer)s [%(path)s] %(message)s")


async def test_records_carry_node_peer_and_path(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "netmesh_trio")
    net = VirtualInternet(delay=0.01)
    hosts = net.host("relay"), net.host("a", behind="port-restricted"), net.host("b", behind="port-restricted")
    identities = [Identity(bytes([number]) * 32) for number in range(3)]
    relay_id, a_id, b_id = (str(identity.peer_id) for identity in identities)
    async with net, open_node(identities[0], ("0.0.0.0", 4650), network=hosts[0]) as relay:
        relays = relay.addresses
        async with (
            open_node(identities[1], bootstrap=relays, network=hosts[1]) as a,
            open_node(identities[2], bootstrap=relays, network=hosts[2]) as b,
        ):
            await a.wait_connected()
            await b.wait_connected()
            peer = await a.connect(b_id)
            await peer.wait_direct()
            assert peer.path is not None
            direct = peer.path.route
    of_a = [record for record in caplog.records if vars(record)["node"] == a_id]
    paths = [(vars(r)["peer"], vars(r)["path"]) for r in of_a if vars(r)["path"] != "-"]
    assert paths == [
        (relay_id, f"direct at {hosts[0].address}:4650"),
        (b_id, f"relayed by {relay_id[:8]}"),
        (b_id, direct),
    ]
    lines = [FORMAT.format(record) for record in of_a]
    assert lines[0].startswith(f"INFO {a_id} - [-] open at 0.0.0.0:")
    assert f"INFO {a_id} {b_id} [{direct}] {b_id[:8]} is now {direct}" in "\n".join(lines)
    assert any("NAT: unknown, seen from outside as" in line for line in lines)
    assert lines[-1] == f"INFO {a_id} - [-] closed"


async def test_a_bootstrap_node_that_does_not_answer_is_a_warning(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    net = VirtualInternet()
    host, absent = net.host("a"), net.host("b")
    nobody = Identity.generate().peer_id
    async with net, open_node(Identity.generate(), bootstrap=[f"netmesh://{nobody}@{absent.address}:1"], network=host):
        await trio.sleep(100)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert vars(warning)["peer"] == str(nobody)
    assert "cannot be reached, trying on" in warning.getMessage()


async def test_what_becomes_of_a_port_mapping_carries_the_fields_too(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "netmesh_trio")
    net = VirtualInternet()
    host = net.host("a")
    config = NodeConfig(try_port_mapping=True)
    async with net, open_node(Identity(bytes(32)), config=config, network=host) as node:
        await trio.sleep(5)
    (line,) = [line for line in map(FORMAT.format, caplog.records) if "port mapping" in line]
    assert line.startswith(f"INFO {node.peer_id} - [-] no port mapping: no-gateway")
