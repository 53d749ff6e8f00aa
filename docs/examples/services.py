import trio

from netmesh_trio import Identity, ServiceNotFoundError, Stream, open_node


async def add_up(stream: Stream) -> None:
    """Read numbers, one a line, to the end of the stream; answer with their sum."""
    async with stream:
        text = bytearray()
        while data := await stream.receive_some():
            text += data
        total = sum(int(line) for line in text.split())
        await stream.send_all(str(total).encode())


async def main() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        server.listen("sum") as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, add_up, [listener])
        peer = await client.connect(server.addresses[0])
        async with await peer.open_stream("sum") as stream:
            await stream.send_all(b"1\n2\n3\n")
            await stream.send_eof()  # this half is done; the answer still comes
            print(await stream.receive_some())
        try:
            await peer.open_stream("product")
        except ServiceNotFoundError as error:
            print(error)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
