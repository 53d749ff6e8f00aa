import h11
import trio

from netmesh_trio import Identity, Peer, Stream, open_node


async def next_event(http: h11.Connection, stream: Stream) -> h11.Event:
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Event):
            return event
        else:
            raise h11.RemoteProtocolError("the other end did not finish")


async def send(http: h11.Connection, stream: Stream, *events: h11.Event) -> None:
    for event in events:
        data = http.send(event)
        if data:
            await stream.send_all(data)


async def serve(stream: Stream) -> None:
    http = h11.Connection(h11.SERVER)
    async with stream:
        while True:
            request = await next_event(http, stream)
            if not isinstance(request, h11.Request):
                return  # the client closed
            while not isinstance(await next_event(http, stream), h11.EndOfMessage):
                pass
            body = b"You are %s, and asked for %s.\n" % (str(stream.peer_id).encode(), request.target)
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
            await send(
                http, stream, h11.Response(status_code=200, headers=headers), h11.Data(data=body), h11.EndOfMessage()
            )
            if http.our_state is h11.MUST_CLOSE:
                return
            http.start_next_cycle()


async def get(peer: Peer, target: str) -> tuple[int, bytes]:
    http = h11.Connection(h11.CLIENT)
    async with await peer.open_stream("http") as stream:
        headers = [("Host", str(peer.peer_id)), ("Connection", "close")]
        await send(http, stream, h11.Request(method="GET", target=target, headers=headers), h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := await next_event(http, stream), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        return status, body


async def main() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        server.listen("http") as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        print(await get(await client.connect(server.addresses[0]), "/index.html"))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
