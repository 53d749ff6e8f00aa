import trio

from netmesh_trio import (
    AddressError,
    Identity,
    MeshUri,
    Node,
    NodeConfig,
    PeerUnreachableError,
    ServiceNotFoundError,
    SessionClosedError,
    StreamResetError,
    open_node,
)


async def ask(node: Node, target: MeshUri | str) -> bytes:
    try:
        peer = await node.connect(target)
        async with await peer.open_stream("oracle") as stream:
            await stream.send_all(b"?")
            return await stream.receive_some()
    except AddressError as error:
        return f"the address is mistyped: {error}".encode()
    except PeerUnreachableError as error:
        return f"not now, try again later: {error}".encode()
    except ServiceNotFoundError as error:
        return f"wrong peer, or it has not started yet: {error}".encode()
    except StreamResetError as error:
        return f"the peer gave up, code {error.code:#x}".encode()
    except SessionClosedError as error:
        return f"the peer is gone, reason {error.reason}".encode()


async def main() -> None:
    config = NodeConfig(connect_timeout=0.5)
    async with open_node(Identity.generate(), ("127.0.0.1", 0), config=config) as node:
        print(await ask(node, "netmesh://mistyped"))
        nobody = Identity.generate().peer_id
        print(await ask(node, f"netmesh://{nobody}"))
        async with open_node(Identity.generate(), ("127.0.0.1", 0)) as other:
            print(await ask(node, other.addresses[0]))
            async with other.listen("oracle") as listener, trio.open_nursery() as nursery:

                async def refuse() -> None:
                    (await listener.accept()).reset(code=7)

                nursery.start_soon(refuse)
                print(await ask(node, other.addresses[0]))


if __name__ == "__main__":
    trio.run(main)
