import ssl

import trio
import trustme

from netmesh_trio import Identity, Stream, open_node

# Certificates, as a real service has them; the mesh itself needs none.
authority = trustme.CA()
server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
authority.issue_cert("shout.example.org").configure_cert(server_context)
client_context = ssl.create_default_context()
authority.configure_trust(client_context)


async def shout(stream: Stream) -> None:
    secured = trio.SSLStream(stream, server_context, server_side=True)
    async with secured:
        while data := await secured.receive_some():
            await secured.send_all(data.upper())


async def main() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as server,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as client,
        server.listen("shout") as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, shout, [listener])
        peer = await client.connect(server.addresses[0])
        stream = await peer.open_stream("shout")
        async with trio.SSLStream(stream, client_context, server_hostname="shout.example.org") as secured:
            await secured.send_all(b"hello")
            print(await secured.receive_some(), secured.version(), "inside", stream)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
