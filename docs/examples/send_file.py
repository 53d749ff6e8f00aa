import trio

from netmesh_trio import Identity, Peer, Stream, open_node


async def receive_file(stream: Stream) -> None:
    """Store what comes under a temporary name, and give it its own when it is whole."""
    partial, final = trio.Path("inbox.part"), trio.Path("inbox.bin")
    async with stream, await trio.open_file(partial, "wb") as file:
        while data := await stream.receive_some():
            await file.write(data)
        # only a stream that ended properly comes here: one that broke has raised
        await file.aclose()
        await partial.replace(final)
        await stream.send_all(b"stored")


async def send_file(peer: Peer, path: trio.Path) -> None:
    async with await peer.open_stream("inbox") as stream, await trio.open_file(path, "rb") as file:
        while data := await file.read(256 * 1024):
            await stream.send_all(data)  # waits while the receiver does not keep up
        await stream.send_eof()
        assert await stream.receive_some() == b"stored"


async def main() -> None:
    source = trio.Path("source.bin")
    await source.write_bytes(bytes(range(256)) * 4096)
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as receiver,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as sender,
        receiver.listen("inbox") as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, receive_file, [listener])
        await send_file(await sender.connect(receiver.addresses[0]), source)
        assert await trio.Path("inbox.bin").read_bytes() == await source.read_bytes()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
