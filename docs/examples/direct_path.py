import trio
import trio.testing

from netmesh_trio import Identity, Node, Stream, open_node
from netmesh_trio.testing import VirtualInternet


async def echo(stream: Stream) -> None:
    async with stream:
        while data := await stream.receive_some():
            await stream.send_all(data)


async def talk(alice: Node, bob: Node) -> None:
    peer = await alice.connect(bob.peer_id)  # over a relay, at once
    async with await peer.open_stream("echo") as stream:
        await stream.send_all(b"one")
        print(await stream.receive_some(), peer)

        await peer.wait_direct()  # it happens by itself: only a program that wants to see it waits
        await stream.send_all(b"two")  # the same stream on another path
        print(await stream.receive_some(), peer)

    report = await alice.connect_direct(bob.peer_id)
    if report.error is None:
        print(f"direct to {report.addr}, {report.rtt or 0:.3f} s")
    else:
        print(f"over the relay as before, because: {report.error}")


async def run() -> None:
    async with VirtualInternet(seed=1) as net:
        async with (
            open_node(Identity.generate(), ("0.0.0.0", 4650), network=net.host("relay 1")) as first,
            open_node(Identity.generate(), ("0.0.0.0", 4650), network=net.host("relay 2")) as second,
        ):
            relays = [*first.addresses, *second.addresses]  # two, so that a node can compare what they see of it
            alice_host, bob_host = net.host("a", behind="symmetric"), net.host("b", behind="address-restricted")
            async with (
                open_node(Identity.generate(), bootstrap=relays, network=alice_host) as alice,
                open_node(Identity.generate(), bootstrap=relays, network=bob_host) as bob,
                bob.listen("echo") as listener,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(trio.serve_listeners, echo, [listener])
                await talk(alice, bob)
                nursery.cancel_scope.cancel()


def main() -> None:
    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


if __name__ == "__main__":
    main()
