import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import httpx
from fastapi import FastAPI, HTTPException

from netmesh_trio import AddressError, Identity, NetmeshError
from netmesh_trio.anyio import Node, Stream, open_node

BOOTSTRAP = os.environ.get("MESH_BOOTSTRAP", "").split()


async def greet(stream: Stream) -> None:
    async with stream:
        await stream.send(b"hello from " + await stream.receive())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """The node lives as long as the app."""
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0), BOOTSTRAP) as node,
        node.listen("greet") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, greet)
        app.state.node = node
        yield
        tasks.cancel_scope.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def about() -> dict[str, str]:
    node: Node = app.state.node
    return {"peer_id": str(node.peer_id), "address": str(node.addresses[0])}


@app.get("/greet")
async def ask(peer: str, name: str) -> dict[str, str]:
    """Ask another node, named by peer id or address."""
    node: Node = app.state.node
    try:
        with anyio.fail_after(10):
            stream = await (await node.connect(peer)).open_stream("greet")
            async with stream:
                await stream.send(name.encode())
                return {"answer": (await stream.receive()).decode()}
    except AddressError as error:
        raise HTTPException(400, str(error)) from error
    except (NetmeshError, TimeoutError) as error:
        raise HTTPException(502, str(error)) from error


async def main_async() -> None:
    """Try it without a web server: two requests to the app itself."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as other,
        other.listen("greet") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, greet)
        print((await client.get("/")).json())
        answer = await client.get("/greet", params={"peer": str(other.addresses[0]), "name": "Ada"})
        print(answer.raise_for_status().json())
        tasks.cancel_scope.cancel()


def main() -> None:
    anyio.run(main_async, backend="asyncio")


if __name__ == "__main__":
    main()
