"""A peer that changes its network while an attempt runs: the failure of that attempt says nothing about the next."""

from __future__ import annotations

import trio
import trio.testing

from netmesh_trio import Identity, PathKind, open_node
from netmesh_trio.testing import VirtualInternet
from netmesh_trio.traversal import NatType


async def test_a_path_becomes_direct_when_the_network_allows_it(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet(seed=1, delay=0.01) as net:
        relay_hosts = [net.host("relay 1"), net.host("relay 2")]
        alice_host = net.host("alice", behind="symmetric")
        bob_host = net.host("bob", behind="symmetric")
        home = net.nat("home", "address-restricted")
        async with (
            open_node(Identity.generate(), ("0.0.0.0", 4650), network=relay_hosts[0]) as first,
            open_node(Identity.generate(), ("0.0.0.0", 4650), network=relay_hosts[1]) as second,
        ):
            relays = [*first.addresses, *second.addresses]
            async with (
                open_node(Identity.generate(), bootstrap=relays, network=alice_host) as alice,
                open_node(Identity.generate(), bootstrap=relays, network=bob_host) as bob,
            ):
                for node in (alice, bob):
                    await node.wait_connected()
                    await node.reclassify_nat()
                await trio.sleep(1)
                peer = await alice.connect(bob.peer_id)
                await trio.sleep(5)
                assert peer.path is not None
                assert peer.path.kind is PathKind.RELAYED
                assert peer.why_not_direct is not None
                assert peer.why_not_direct.kind == "punch-failed"
                bob_host.roam(home)
                await bob.reclassify_nat()
                with trio.fail_after(8):
                    while alice.peer_nat_type(bob.peer_id) is NatType.SYMMETRIC:
                        await trio.sleep(0.001)
                assert peer.path.kind is PathKind.RELAYED
                assert peer.why_not_direct is None, "that was about the network that bob has left"
                with trio.fail_after(8):  # no backoff of 30 s
                    await peer.wait_direct()
                assert peer.why_not_direct is None
