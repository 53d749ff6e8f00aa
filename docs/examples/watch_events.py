import trio
import trio.testing

from netmesh_trio import Identity, Node, PathChanged, PeerConnected, PeerDisconnected, open_node
from netmesh_trio.testing import VirtualInternet


async def report(node: Node) -> None:
    async for event in node.events():
        match event:
            case PeerConnected(peer_id=peer_id, path=path):
                print(f"{peer_id.short} is connected, {path.kind.value}")
            case PathChanged(peer_id=peer_id, path=path, reason=reason) if path.via is not None:
                print(f"{peer_id.short} is now reached via {path.via.short} ({reason})")
            case PeerDisconnected(peer_id=peer_id, reason=reason):
                print(f"{peer_id.short} is gone ({reason})")


async def run() -> None:
    async with VirtualInternet(seed=1) as net:
        hosts = [net.host("relay 1"), net.host("relay 2")]
        async with (
            open_node(Identity.generate(), ("0.0.0.0", 4650), network=hosts[0]) as first,
            open_node(Identity.generate(), ("0.0.0.0", 4650), network=hosts[1]) as second,
        ):
            relays = [*first.addresses, *second.addresses]
            async with (
                open_node(Identity.generate(), bootstrap=relays, network=net.host("a", behind="symmetric")) as alice,
                open_node(Identity.generate(), bootstrap=relays, network=net.host("b", behind="symmetric")) as bob,
                bob.listen("chat") as listener,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(report, alice)
                peer = await alice.connect(bob.peer_id)
                stream = await peer.open_stream("chat")
                await stream.send_all(b"before")
                other_end = await listener.accept()
                assert await other_end.receive_some() == b"before"

                assert peer.path is not None
                net.kill(hosts[0] if peer.path.via == first.peer_id else hosts[1])
                await stream.send_all(b"after")  # the same stream, over the other relay
                assert await other_end.receive_some() == b"after"
                nursery.cancel_scope.cancel()


def main() -> None:
    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


if __name__ == "__main__":
    main()
