import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream, wrap_server_stream

from netmesh_trio import Identity, Stream, open_node


async def shout(stream: Stream) -> None:
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream)
        websocket: WebSocketConnection = await request.accept()
        try:
            while True:
                await websocket.send_message(str(await websocket.get_message()).upper())
        except ConnectionClosed:
            pass


async def main() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        server.listen("chat") as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, shout, [listener])
        peer = await client.connect(server.addresses[0])
        stream = await peer.open_stream("chat")
        # any stream will do, whatever the annotation says
        websocket = await wrap_client_stream(nursery, stream, str(peer.peer_id), "/chat")  # type: ignore[arg-type]
        async with websocket:
            await websocket.send_message("hello")
            print(await websocket.get_message())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
