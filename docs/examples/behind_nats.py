import trio
import trio.testing

from netmesh_trio import Identity, Stream, open_node
from netmesh_trio.testing import VirtualInternet


async def echo(stream: Stream) -> None:  # the program under test
    async with stream:
        while data := await stream.receive_some():
            await stream.send_all(data)


async def test_echo_behind_symmetric_nats() -> None:
    async with VirtualInternet(seed=1) as net:
        relay_host = net.host("relay", "203.0.113.7")
        alice_host = net.host("alice", behind="symmetric")
        bob_host = net.host("bob", behind="port-restricted")
        alice_host.link.loss = 0.02
        bob_host.link.delay = 0.040
        async with open_node(Identity.generate(), ("0.0.0.0", 4650), network=relay_host) as relay:
            bootstrap = [f"netmesh://{relay.peer_id}@203.0.113.7:4650"]
            async with (
                open_node(Identity.generate(), bootstrap=bootstrap, network=alice_host) as alice,
                open_node(Identity.generate(), bootstrap=bootstrap, network=bob_host) as bob,
                bob.listen("echo") as listener,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(trio.serve_listeners, echo, [listener])
                peer = await alice.connect(bob.peer_id)
                async with await peer.open_stream("echo") as stream:
                    await stream.send_all(b"anybody there?")
                    assert await stream.receive_some() == b"anybody there?"
                await trio.sleep(600)  # ten quiet minutes: the session is kept alive
                assert peer.connected
                nursery.cancel_scope.cancel()


def main() -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)  # with pytest-trio: the fixture autojump_clock
    trio.run(test_echo_behind_symmetric_nats, clock=clock)


if __name__ == "__main__":
    main()
