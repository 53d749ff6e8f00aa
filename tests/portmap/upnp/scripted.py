"""A router of our own on loopback, that does as it is told: well or badly."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import h11
import pytest
import trio

from netmesh_trio.traversal.portmap import Gateway
from netmesh_trio.traversal.portmap.upnp import UpnpClient
from netmesh_trio.traversal.portmap.upnp.locations import SEARCH_TARGETS
from netmesh_trio.traversal.portmap.upnp.tree import read_tree_untrusted
from tests.portmap.upnp.descriptions import IGD1

_numbers = itertools.count(250)


def loopback_address() -> str:
    """An address of the loopback network that no other test uses."""
    number = next(_numbers)
    return f"127.{1 + os.getpid() % 250}.{number // 250}.{2 + number % 250}"


@attrs.define
class Row:
    """A mapping in the router's table."""

    client: str
    port: int
    lease: int
    description: str = ""
    enabled: bool = True


Arguments = dict[str, str]
#: Results, or the code of a fault.
Results = Arguments | int
Action = Callable[[Arguments], Results]


@attrs.define(eq=False)
class ScriptedRouter:
    """A router with one table.  What it does can be replaced, action by action or altogether."""

    host: str = attrs.Factory(loopback_address)
    local: str = attrs.Factory(loopback_address)
    description: bytes = IGD1
    port: int = 0
    table: dict[int, Row] = attrs.Factory(dict)
    pinholes: dict[int, tuple[str, int, int]] = attrs.Factory(dict)
    external: str = "8.9.10.11"
    status: str = "Connected"
    #: Called instead of what it would do itself.
    actions: dict[str, Action] = attrs.Factory(dict)
    #: In place of any answer: gets the request and the stream.
    raw: Callable[[bytes, trio.SocketStream], Awaitable[None]] | None = None
    #: The answers to a search; None for the right ones.
    answers: Callable[[str], list[bytes]] | None = None
    #: All calls so far: the path and the action, or ``GET``.
    calls: list[tuple[str, str]] = attrs.Factory(list)
    #: Told of each call before it is answered.
    watch: Callable[[str], None] | None = None
    connections: int = 0

    def client(self) -> UpnpClient:
        return UpnpClient(self.gateway)

    @property
    def gateway(self) -> Gateway:
        return Gateway(self.host, self.local)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/desc.xml"

    def count(self, action: str) -> int:
        """How often an action was called."""
        return sum(called == action for _, called in self.calls)

    # Serving

    async def serve_http(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        try:
            async with stream:
                await self._answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.connections -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        server = h11.Connection(h11.SERVER)
        body = b""
        method = path = ""
        while True:
            event = server.next_event()
            if event is h11.NEED_DATA:
                server.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                method, path = event.method.decode(), event.target.decode()
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                break
        if not isinstance(event, h11.EndOfMessage):
            return  # the client left
        if self.raw is not None:
            await self.raw(body or method.encode(), stream)
            return
        status, answer = (200, self.description) if method == "GET" else self._control(path, body)
        if method == "GET":
            self._called(path, "GET")
        head = f"HTTP/1.1 {status} So be it\r\nContent-Length: {len(answer)}\r\nContent-Type: text/xml\r\n\r\n"
        await stream.send_all(head.encode() + answer)

    def _called(self, path: str, action: str) -> None:
        self.calls.append((path, action))
        if self.watch is not None:
            self.watch(action)

    def _control(self, path: str, body: bytes) -> tuple[int, bytes]:
        call = read_tree_untrusted(body).children[0].children[0]
        arguments = {child.name: child.text for child in call.children}
        self._called(path, call.name)
        act = self.actions.get(call.name) or getattr(self, f"_{call.name}", None)
        results: Results = 401 if act is None else act(arguments)
        if isinstance(results, int):
            inner = (
                "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
                f"<UPnPError><errorCode>{results}</errorCode></UPnPError></detail></s:Fault>"
            )
        else:
            values = "".join(f"<{name}>{value}</{name}>" for name, value in results.items())
            inner = f"<u:{call.name}Response>{values}</u:{call.name}Response>"
        status = 500 if isinstance(results, int) else 200
        return status, f"<s:Envelope><s:Body>{inner}</s:Body></s:Envelope>".encode()

    async def serve_ssdp(self, sock: trio.socket.SocketType) -> None:
        while True:
            request, source = await sock.recvfrom(2048)
            target = request.decode().partition("\r\nST: ")[2].partition("\r\n")[0]
            for answer in self.answers(target) if self.answers is not None else [self.answer(target)]:
                await sock.sendto(answer, source)

    def answer(self, target: str = SEARCH_TARGETS[0], location: str | None = None) -> bytes:
        """The answer to a search."""
        lines = ["HTTP/1.1 200 OK", f"ST: {target}", f"LOCATION: {location or self.url}", "EXT:", "", ""]
        return "\r\n".join(lines).encode()

    # What it does

    def _GetStatusInfo(self, arguments: Arguments) -> Results:
        return {"NewConnectionStatus": self.status, "NewLastConnectionError": "ERROR_NONE", "NewUptime": "1"}

    def _GetExternalIPAddress(self, arguments: Arguments) -> Results:
        return {"NewExternalIPAddress": self.external}

    def _AddPortMapping(self, arguments: Arguments) -> Results:
        assert list(arguments) == [
            "NewRemoteHost",
            "NewExternalPort",
            "NewProtocol",
            "NewInternalPort",
            "NewInternalClient",
            "NewEnabled",
            "NewPortMappingDescription",
            "NewLeaseDuration",
        ]
        assert (arguments["NewProtocol"], arguments["NewRemoteHost"], arguments["NewEnabled"]) == ("UDP", "", "1")
        port = int(arguments["NewExternalPort"])
        row = Row(
            arguments["NewInternalClient"],
            int(arguments["NewInternalPort"]),
            int(arguments["NewLeaseDuration"]),
            arguments["NewPortMappingDescription"],
        )
        there = self.table.get(port)
        if there is not None and (there.client, there.port) != (row.client, row.port):
            return 718
        self.table[port] = row
        return {}

    def _GetSpecificPortMappingEntry(self, arguments: Arguments) -> Results:
        row = self.table.get(int(arguments["NewExternalPort"]))
        return 714 if row is None else self._row(row)

    def _GetGenericPortMappingEntry(self, arguments: Arguments) -> Results:
        index = int(arguments["NewPortMappingIndex"])
        if index >= len(self.table):
            return 713
        port, row = list(self.table.items())[index]
        return {"NewExternalPort": str(port), "NewProtocol": "UDP", **self._row(row)}

    @staticmethod
    def _row(row: Row) -> Arguments:
        return {
            "NewInternalPort": str(row.port),
            "NewInternalClient": row.client,
            "NewEnabled": str(int(row.enabled)),
            "NewPortMappingDescription": row.description,
            "NewLeaseDuration": str(row.lease),
        }

    def _DeletePortMapping(self, arguments: Arguments) -> Results:
        # As routers are that do not care whose it is.
        return 714 if self.table.pop(int(arguments["NewExternalPort"]), None) is None else {}


@asynccontextmanager
async def open_router(router: ScriptedRouter) -> AsyncIterator[ScriptedRouter]:
    """Let it answer searches and requests for the length of the block."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ssdp:
        try:
            await ssdp.bind((router.host, 1900))
        except OSError as error:
            pytest.skip(f"needs {router.host}: 127.0.0.1 is not the only loopback address on Linux alone ({error})")
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(router.port, host=router.host)
            router.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, router.serve_http, listeners)
            nursery.start_soon(router.serve_ssdp, ssdp)
            yield router
            nursery.cancel_scope.cancel()
