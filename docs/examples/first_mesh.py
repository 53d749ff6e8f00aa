import trio

from netmesh_trio import Identity, Stream, open_node

ANY_PORT = ("127.0.0.1", 0)


async def shout(stream: Stream) -> None:
    async with stream:
        await stream.send_all((await stream.receive_some()).upper())


async def main() -> None:
    async with open_node(Identity.generate(), ANY_PORT) as relay:
        relays = relay.addresses
        async with (
            open_node(Identity.generate(), ANY_PORT, relays) as alice,
            open_node(Identity.generate(), ANY_PORT, relays) as bob,
            bob.listen("shout") as listener,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(trio.serve_listeners, shout, [listener])
            peer = await alice.connect(bob.peer_id)  # the key is all one needs to know
            async with await peer.open_stream("shout") as stream:
                await stream.send_all(b"hello")
                print(await stream.receive_some(), peer)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
