"""Measures one stream: ``bulk.py serve [BIND-PORT] [BOOTSTRAP...]`` and ``bulk.py send TARGET SIZE [BOOTSTRAP...]``.

The server prints its peer id, swallows what comes and answers with the count.  The client prints, as JSON, the
seconds from the call of ``connect`` to the whole answer, and those to the first byte of an answer to one byte before.
"""

from __future__ import annotations

import json
import sys

import trio

import netmesh_trio

SERVICE = "bulk"
PIECE = 1 << 18


async def serve(port: int, bootstrap: list[str]) -> None:
    async def swallow(stream: netmesh_trio.Stream) -> None:
        async with stream:
            await stream.send_all(await stream.receive_some(1))
            count = 0
            while data := await stream.receive_some(PIECE):
                count += len(data)
            await stream.send_all(str(count).encode())

    identity = netmesh_trio.Identity.generate()
    async with netmesh_trio.open_node(identity, bind=("0.0.0.0", port), bootstrap=bootstrap) as node:
        await node.wait_connected()
        async with node.listen(SERVICE) as listener:
            print(node.peer_id, flush=True)
            await trio.serve_listeners(swallow, [listener])


async def send(target: str, size: int, bootstrap: list[str]) -> None:
    piece = bytes(PIECE)
    identity = netmesh_trio.Identity.generate()
    async with netmesh_trio.open_node(identity, bootstrap=bootstrap) as node:
        await node.wait_connected()
        began = trio.current_time()
        peer = await node.connect(target)
        connected = trio.current_time() - began
        stream = await peer.open_stream(SERVICE)
        opened = trio.current_time() - began
        await stream.send_all(b"?")
        await stream.receive_some(1)
        first = trio.current_time() - began
        left = size
        while left:
            await stream.send_all(piece[:left])
            left -= min(left, PIECE)
        await stream.send_eof()
        answer = b""
        while data := await stream.receive_some():
            answer += data
        seconds = trio.current_time() - began
        assert int(answer) == size
        lost = sum(live.session.stats.packets_lost for live in node._engine.all_live())
        print(json.dumps({"connected": connected, "opened": opened, "first": first, "seconds": seconds, "lost": lost}))


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "serve":
        trio.run(serve, int(rest[0]), rest[1:])
    else:
        trio.run(send, rest[0], int(rest[1]), rest[2:])


if __name__ == "__main__":
    main()
