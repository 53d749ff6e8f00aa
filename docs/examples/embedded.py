import functools
from collections.abc import Iterable

import attrs
import trio

from netmesh_trio import Identity, MeshUri, PeerId, Stream, open_node


class Notes:
    """The service, which knows nothing of where its streams come from: a line is a note, an empty one asks for all."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    async def handle(self, stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            line = b""
            while data := await stream.receive_some():
                line += data
            if line:
                self.lines.append(line)
            await stream.send_all(b"\n".join(self.lines))


@attrs.frozen
class Running:
    port: int
    peer_id: PeerId


async def serve(
    notes: Notes,
    identity: Identity,
    bootstrap: Iterable[str | MeshUri],
    friends: set[PeerId],
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on a local TCP port and on the mesh until cancelled."""

    async def handle_friend(stream: Stream) -> None:
        if stream.peer_id in friends:  # it is proved: no password needed
            await notes.handle(stream)
        else:
            stream.reset()

    async with (
        open_node(identity, ("127.0.0.1", 0), bootstrap) as node,
        node.listen("notes") as mesh_listener,
        trio.open_nursery() as nursery,
    ):
        tcp = await nursery.start(functools.partial(trio.serve_tcp, notes.handle, 0, host="127.0.0.1"))
        nursery.start_soon(trio.serve_listeners, handle_friend, [mesh_listener])
        task_status.started(Running(tcp[0].socket.getsockname()[1], node.peer_id))


async def ask(stream: trio.abc.HalfCloseableStream, line: bytes) -> bytes:
    async with stream:
        await stream.send_all(line)
        await stream.send_eof()
        answer = b""
        while data := await stream.receive_some():
            answer += data
        return answer


async def main() -> None:
    friend = Identity.generate()
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as relay,
        open_node(friend, ("127.0.0.1", 0), relay.addresses) as far_away,
        trio.open_nursery() as nursery,
    ):
        running = await nursery.start(serve, Notes(), Identity.generate(), relay.addresses, {friend.peer_id})
        await ask(await trio.open_tcp_stream("127.0.0.1", running.port), b"by TCP")
        peer = await far_away.connect(running.peer_id)
        print(await ask(await peer.open_stream("notes"), b"over the mesh"))
        nursery.cancel_scope.cancel()  # ends the service; its node says goodbye


if __name__ == "__main__":
    trio.run(main)
