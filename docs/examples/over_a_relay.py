import trio

from netmesh_trio import Identity, open_node


async def main() -> None:
    async with open_node(Identity.generate(), ("127.0.0.1", 0)) as relay:
        bootstrap = [str(relay.addresses[0])]
        async with (
            open_node(Identity.generate(), ("127.0.0.1", 0), bootstrap) as alice,
            open_node(Identity.generate(), ("127.0.0.1", 0), bootstrap) as bob,
        ):
            await alice.wait_connected()
            await bob.wait_connected()
            peer = await alice.connect(bob.peer_id)
            assert peer.path is not None
            assert peer.path.via == relay.peer_id
            print(peer)
            print(f"the relay carries {relay.statistics().circuits} circuit")


if __name__ == "__main__":
    trio.run(main)
