"""The mesh that users test their programs on."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from netmesh_trio import NetworkKey, NodeConfig, PathKind
from netmesh_trio.testing import KINDS, VirtualInternet, open_mesh


async def test_alice_reaches_bob_by_his_peer_id_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        peer = await mesh.connect()
        assert peer.peer_id == mesh.bob.peer_id
        with trio.fail_after(10):
            report = await peer.wait_direct()
        assert report.kind is PathKind.DIRECT


@pytest.mark.parametrize("kind", KINDS)
async def test_any_kind_of_nat(autojump_clock: trio.testing.MockClock, kind: str) -> None:
    async with open_mesh(kind, "symmetric", relays=1) as mesh:
        assert [nat.behavior for nat in mesh.host(mesh.alice).nats] == list(KINDS[kind])
        peer = await mesh.connect()
        assert peer.connected


async def test_names_have_the_same_peer_ids_in_each_run(autojump_clock: trio.testing.MockClock) -> None:
    seen = []
    for seed in (1, 1, 2):
        async with open_mesh(seed=seed) as mesh:
            assert mesh.identity("alice").peer_id == mesh.alice.peer_id
            seen.append((mesh.alice.peer_id, mesh.bob.peer_id, *(relay.peer_id for relay in mesh.relays)))
    assert seen[0] == seen[1]
    assert len({*seen[0], *seen[2]}) == 8


async def test_a_node_that_is_killed_starts_again_as_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        async with mesh.node("carol", behind="full-cone") as carol:
            host, peer_id = mesh.host(carol), carol.peer_id
            await mesh.alice.connect(peer_id)
            mesh.net.kill(host)
        with pytest.raises(LookupError):
            mesh.host(carol)
        async with mesh.node("carol") as again:
            assert mesh.host(again) is host
            assert again.peer_id == peer_id
            peer = await mesh.alice.connect(peer_id)
            assert peer.connected


async def test_a_private_mesh_and_lines_as_asked_for(autojump_clock: trio.testing.MockClock) -> None:
    config = NodeConfig(network_key=NetworkKey.generate())
    async with open_mesh(config=config, delay=0.1, loss=0.05) as mesh:
        for node in (mesh.alice, mesh.bob):
            link = mesh.host(node).link
            assert (link.outbound.delay, link.inbound.loss) == (0.1, 0.05)
        assert all(relay.config is config for relay in mesh.relays)
        await mesh.connect()
        # who does not have the key is not answered
        async with mesh.node("dave") as dave:
            assert dave.config is config


async def test_arguments_that_make_no_sense(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ValueError, match="relays is 0"):
        async with open_mesh(relays=0):
            pass
    async with VirtualInternet(seed=1) as net:
        with pytest.raises(ValueError, match="net has a seed of its own"):
            async with open_mesh(net=net, seed=1):
                pass
    with pytest.raises(ValueError, match="no kind of NAT is called 'cone'"):
        async with open_mesh("cone"):
            pass


async def test_what_the_block_raises_comes_out_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_mesh() as mesh, mesh.node("carol"):
            raise ZeroDivisionError


async def test_idle_nodes_cost_little(autojump_clock: trio.testing.MockClock) -> None:
    """Ten minutes of a test that waits take less than a second, as long as nothing wakes up all the time."""
    async with open_mesh() as mesh:
        await mesh.connect()
        await trio.sleep(60)  # until each knows what it wants to know
        steps = 0

        class Steps(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                nonlocal steps
                steps += 1

        counter = Steps()
        trio.lowlevel.add_instrument(counter)
        before = sum(host.statistics().sent for host in mesh.net.hosts.values())
        await trio.sleep(600)
        trio.lowlevel.remove_instrument(counter)
        packets = sum(host.statistics().sent for host in mesh.net.hosts.values()) - before
    assert packets / (4 * 600) < 1  # a second, of each node
    assert steps / (4 * 600) < 10
