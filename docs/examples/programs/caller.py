import sys

import trio

from netmesh_trio import Identity, open_node


async def main(uri: str) -> None:
    async with open_node(Identity.generate()) as node:
        peer = await node.connect(uri)
        async with await peer.open_stream("greeting") as stream:
            await stream.send_all(b"caller")
            print((await stream.receive_some()).decode(), "|", peer)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
