import trio

from netmesh_trio import Identity, Stream, open_node


async def greet(stream: Stream) -> None:
    async with stream:
        name = await stream.receive_some()
        await stream.send_all(b"Hello " + name + b", you are " + stream.peer_id.short.encode())


async def main() -> None:
    identity = Identity.load_or_create("greeter.key")
    async with open_node(identity, ("127.0.0.1", 0)) as node, node.listen("greeting") as listener:
        print("python caller.py", node.addresses[0], flush=True)
        await trio.serve_listeners(greet, [listener])


if __name__ == "__main__":
    trio.run(main)
