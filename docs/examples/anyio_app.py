import anyio
import anyio.abc
import trio

from netmesh_trio import Identity, Node, Stream, open_node


async def greet(stream: Stream) -> None:
    async with stream:
        await stream.send_all(b"hello from an anyio program")


async def serve(node: Node, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    async with node.listen("greet") as listener:
        task_status.started()
        await trio.serve_listeners(greet, [listener])


async def app() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        anyio.create_task_group() as tasks,
    ):
        await tasks.start(serve, server)
        with anyio.fail_after(5):
            peer = await client.connect(server.addresses[0])
            async with await peer.open_stream("greet") as stream:
                print(await stream.receive_some())
        tasks.cancel_scope.cancel()


def main() -> None:
    anyio.run(app, backend="trio")


if __name__ == "__main__":
    main()
