"""The program under test: a chat that keeps saying what it has not yet said."""

import trio

from netmesh_trio import NetmeshError, Node, PeerId, Stream


class Inbox:
    """Takes the lines of everybody who calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.first_line = trio.Event()

    async def run(self, node: Node, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with node.listen("chat") as listener:
            task_status.started()
            await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, stream: Stream) -> None:
        async with stream:
            line = b""
            while data := await stream.receive_some():
                line += data
            self.lines.append(line.decode())
            self.first_line.set()
            await stream.send_all(b"ok")


async def say(node: Node, to: PeerId, line: str, patience: float = 60) -> None:
    """Deliver one line, trying again for ``patience`` seconds while the peer cannot be reached."""
    with trio.fail_after(patience):
        while True:
            try:
                peer = await node.connect(to)
                async with await peer.open_stream("chat") as stream:
                    await stream.send_all(line.encode())
                    await stream.send_eof()
                    if await stream.receive_some() == b"ok":
                        return
            except NetmeshError:
                await trio.sleep(1)
