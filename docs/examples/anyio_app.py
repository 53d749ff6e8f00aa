import anyio

from netmesh_trio import Identity
from netmesh_trio.anyio import MeshAttribute, Stream, open_node


async def shout(stream: Stream) -> None:
    async with stream:
        async for part in stream:
            await stream.send(part.upper())


async def app() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        server.listen("shout") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, shout)
        peer = await client.connect(server.addresses[0])
        async with await peer.open_stream("shout") as stream:
            with anyio.fail_after(5):
                await stream.send(b"hello")
                print(await stream.receive(), "from", stream.extra(MeshAttribute.peer_id))
        tasks.cancel_scope.cancel()


def main() -> None:
    anyio.run(app, backend="asyncio")
    anyio.run(app, backend="trio")


if __name__ == "__main__":
    main()
