import trio

from netmesh_trio import Identity, open_node


async def main() -> None:
    async with open_node(Identity.generate(), ("127.0.0.1", 0)) as bob, bob.listen("greeting") as listener:
        async with open_node(Identity.generate(), ("127.0.0.1", 0)) as alice:
            peer = await alice.connect(bob.addresses[0])
            outgoing = await peer.open_stream("greeting")
            await outgoing.send_all(b"hello bob")
            incoming = await listener.accept()
            print(await incoming.receive_some(), "from", incoming.peer_id.short)


if __name__ == "__main__":
    trio.run(main)
