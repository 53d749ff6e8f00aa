"""The FastAPI example under a real web server: asked over HTTP, it asks another node, and ends when it is told to."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from netmesh_trio import Identity
from netmesh_trio.anyio import Stream, open_node
from tests.anyio.backends import LOOPBACK, both_backends

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


async def answer(stream: Stream) -> None:
    async with stream:
        await stream.send(b"dear " + await stream.receive())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is sent to a process")
@both_backends
async def test_under_a_web_server() -> None:
    async with open_node(Identity.generate(), LOOPBACK) as node, node.listen("greet") as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, answer)
            command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", "0"]
            environment = {**os.environ, "MESH_BOOTSTRAP": str(node.addresses[0])}
            async with await anyio.open_process(command, cwd=EXAMPLES, env=environment) as server:
                said = ""
                try:
                    assert server.stderr is not None
                    while not (running := re.search(r"running on (\S+)", said)):
                        said += (await server.stderr.receive()).decode()
                    async with httpx.AsyncClient(base_url=running[1]) as client:
                        about = (await client.get("/")).json()
                        assert about["address"].startswith("netmesh://" + about["peer_id"])
                        asked = {"peer": str(node.peer_id), "name": "Ada"}
                        assert (await client.get("/greet", params=asked)).json() == {"answer": "dear Ada"}
                        # and the other way round: the app serves its peers
                        stream = await (await node.connect(about["address"])).open_stream("greet")
                        async with stream:
                            await stream.send(b"Bob")
                            assert await stream.receive() == b"hello from Bob"
                        wrong = await client.get("/greet", params={**asked, "peer": "nobody"})
                        assert wrong.status_code == 400
                    server.send_signal(signal.SIGTERM)
                    while True:
                        said += (await server.stderr.receive()).decode()
                except anyio.EndOfStream:
                    pass
                finally:
                    if server.returncode is None:
                        server.terminate()
                assert await server.wait() in (0, -signal.SIGTERM)
                assert "Application shutdown complete" in said
                assert "Traceback" not in said
            tasks.cancel_scope.cancel()
