import trio

from netmesh_trio import Identity, NetworkKey, NodeConfig, PeerUnreachableError, open_node


async def main() -> None:
    key = NetworkKey.generate()  # NetworkKey.load("mesh.key") in real life
    members = NodeConfig(network_key=key)
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0), config=members) as bob,
        open_node(Identity.generate(), ("127.0.0.1", 0), config=members) as alice,
        open_node(Identity.generate(), ("127.0.0.1", 0), config=NodeConfig(connect_timeout=0.5)) as mallory,
    ):
        print(await alice.connect(bob.addresses[0]))
        try:
            await mallory.connect(bob.addresses[0])
        except PeerUnreachableError as error:
            print("without the key:", error)


if __name__ == "__main__":
    trio.run(main)
