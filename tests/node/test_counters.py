"""What sessions drop is seen at the peer, at the node, and there also when the session is over."""

from __future__ import annotations

import trio
import trio.testing

from netmesh_trio import Address, Identity, NodeStats, PeerStats, open_node
from netmesh_trio.testing import VirtualInternet
from netmesh_trio.wire import frames, packets
from tests.node.mesh import engine, settle

NAMES = ("dropped_forged", "dropped_replayed", "dropped_invalid", "unsent_control", "unsent_datagrams")


def dropped(stats: NodeStats | PeerStats) -> list[int]:
    return [getattr(stats, name) for name in NAMES]


async def test_what_sessions_drop(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet(seed=1) as net:
        hosts = net.host("a", "203.0.113.1"), net.host("b", "203.0.113.2")
        async with (
            open_node(Identity.generate(), ("0.0.0.0", 1), network=hosts[0]) as a,
            open_node(Identity.generate(), ("0.0.0.0", 1), network=hosts[1]) as b,
        ):
            seen: list[bytes] = []
            net.on_packet = lambda p: seen.append(bytes(p.data)) if p.source == Address("203.0.113.2", 1) else None
            peer = await a.connect(f"netmesh://{b.peer_id}@203.0.113.2:1")
            await settle(1)
            assert dropped(peer.statistics()) == dropped(a.statistics()) == [0] * 5
            live = peer.live
            assert live is not None
            whole = next(data for data in reversed(seen) if data[0] == packets.DATA)
            forged = whole[:8] + (1 << 20).to_bytes(8, "little") + whole[16:]
            of_another_key = whole[:1] + bytes((whole[1] + 7,)) + whole[2:]
            for data in (forged, forged, whole, of_another_key, of_another_key, of_another_key):
                net.inject(data, Address("203.0.113.2", 1), Address("203.0.113.1", 1))
            await settle(1)
            assert dropped(peer.statistics()) == [2, 1, 3, 0, 0]
            for _ in range(2000):
                live.session.send_datagram(b"x", bytes(1000))
            while live.session.send_control(frames.SUBPROTOCOL_REFLEX, b"x"):
                pass
            known = dropped(peer.statistics())
            assert known[3] == 1
            assert known[4] >= 1000
            assert dropped(a.statistics()) == known
            await peer.aclose()
            assert dropped(peer.statistics()) == [0] * 5
            assert dropped(a.statistics()) == known
            assert not engine(a).sessions
