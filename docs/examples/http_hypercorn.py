"""An ASGI app under hypercorn, reached over the mesh.

hypercorn serves sockets and takes no other listeners, so it gets one that nobody outside sees, on loopback, and each
stream is led there.  The same leads to any program that serves TCP.
"""

from functools import partial
from typing import Any

import h11
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from netmesh_trio import Identity, Peer, Stream, open_node


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": scope["path"].upper().encode()})


async def copy(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
    try:
        async for part in source:
            await sink.send_all(part)
        await sink.send_eof()
    except trio.BrokenResourceError:
        pass  # one end closed before the other was done


async def lead_to(port: int, stream: Stream) -> None:
    async with stream, await trio.open_tcp_stream("127.0.0.1", port) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(copy, stream, socket)
        nursery.start_soon(copy, socket, stream)


async def get(peer: Peer, target: str) -> bytes:
    http = h11.Connection(h11.CLIENT)
    async with await peer.open_stream("http") as stream:
        request = h11.Request(method="GET", target=target, headers=[("Host", "app"), ("Connection", "close")])
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        body = b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body


async def main() -> None:
    config = Config.from_mapping(bind=["127.0.0.1:0"], errorlog=None)
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        server.listen("http") as listener,
        trio.open_nursery() as nursery,
    ):
        [url] = await nursery.start(partial(serve, app, config))
        port = int(url.rpartition(":")[2])
        nursery.start_soon(trio.serve_listeners, partial(lead_to, port), [listener])
        print(await get(await client.connect(server.addresses[0]), "/hello"))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
