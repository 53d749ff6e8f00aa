"""Routers that lie, stall and flood: bounded time and memory, one typed error, and nobody else is contacted."""

from __future__ import annotations

import gzip
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from netmesh_trio.traversal.portmap import PortMapCause, PortMapError
from netmesh_trio.traversal.portmap.upnp import UpnpClient
from netmesh_trio.traversal.portmap.upnp.locations import SEARCH_TARGETS
from tests.portmap.upnp.descriptions import IGD1, igd, service
from tests.portmap.upnp.scripted import Row, ScriptedRouter, loopback_address, open_router

PORT = 4650
LONGEST = 8.0  # seconds that one call may take


async def failure_of(call: Callable[[], Awaitable[object]]) -> PortMapError:
    """The error of a call, which comes in time and costs little memory."""
    began = trio.current_time()
    tracemalloc.start()
    try:
        with pytest.raises(PortMapError) as caught:
            await call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert trio.current_time() - began <= LONGEST
    assert peak < 4_000_000
    assert caught.value.protocol == "upnp"
    assert len(str(caught.value)) < 400
    return caught.value


def mapping(client: UpnpClient) -> Callable[[], Awaitable[object]]:
    return lambda: client.map(internal_port=PORT, external_port=PORT, lifetime=600)


@attrs.define
class Trap:
    """Somebody else, to whom nothing must be sent."""

    host: str
    port: int
    contacts: int = 0


@asynccontextmanager
async def open_trap() -> AsyncIterator[Trap]:
    async with trio.open_nursery() as nursery:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            host = loopback_address()
            await datagrams.bind((host, 1900))
            listeners = await trio.open_tcp_listeners(0, host=host)
            trap = Trap(host, listeners[0].socket.getsockname()[1])

            async def on_stream(stream: trio.SocketStream) -> None:
                trap.contacts += 1
                await stream.aclose()

            async def on_datagram() -> None:
                while True:
                    await datagrams.recvfrom(1)
                    trap.contacts += 1

            nursery.start_soon(trio.serve_listeners, on_stream, listeners)
            nursery.start_soon(on_datagram)
            yield trap
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert trap.contacts == 0


# Answers to a search


async def test_answers_that_lead_to_others_are_not_believed(idle_clock: MockClock) -> None:
    async with open_trap() as trap:
        router = ScriptedRouter()
        urls = [
            f"http://{trap.host}:{trap.port}/desc.xml",
            f"http://{router.host}@{trap.host}:{trap.port}/",
            f"https://{router.host}:{trap.port}/",
            f"http://localhost:{trap.port}/",
            f"http://[::ffff:{trap.host}]:{trap.port}/",
            f"http://[::1]:{trap.port}/",
            "file:///etc/passwd",
        ]
        router.answers = lambda target: [router.answer(target, url) for url in urls] + [b"", bytes(65000), b"\xff" * 99]
        async with open_router(router):
            error = await failure_of(mapping(router.client()))
            assert error.cause is PortMapCause.TIMEOUT
            assert router.count("GET") == 0


async def test_answers_of_others_are_not_believed(idle_clock: MockClock) -> None:
    async with open_trap() as trap, trio.open_nursery() as nursery:
        router = ScriptedRouter(answers=lambda _: [])
        other = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await other.bind((trap.host, 0))

        async def interfere() -> None:
            # The other hears the search, as everybody does, and answers faster than the router.
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
                await ear.bind((router.host, 1900))
                while True:
                    _, source = await ear.recvfrom(2048)
                    for url in (f"http://{trap.host}:{trap.port}/", f"http://{router.host}:{trap.port}/"):
                        await other.sendto(router.answer(SEARCH_TARGETS[0], url), source)

        nursery.start_soon(interfere)
        error = await failure_of(mapping(router.client()))
        assert error.cause is PortMapCause.TIMEOUT
        nursery.cancel_scope.cancel()
        other.close()


async def test_a_flood_of_answers(idle_clock: MockClock) -> None:
    router = ScriptedRouter(description=b"")
    router.answers = lambda target: [
        router.answer(target, f"http://{router.host}:{router.port}/{number}") for number in range(500)
    ]
    async with open_router(router):
        error = await failure_of(mapping(router.client()))
        assert error.cause is PortMapCause.MALFORMED
        assert router.count("GET") <= 4


async def test_a_right_answer_among_wrong_ones(idle_clock: MockClock) -> None:
    router = ScriptedRouter()
    dead = f"http://{router.host}:1/"
    router.answers = lambda target: [b"junk", router.answer(target, dead), router.answer(target)]
    async with open_router(router):
        await mapping(router.client())()
        assert router.table.keys() == {PORT}


# HTTP

Raw = Callable[[bytes, trio.SocketStream], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


async def silence(_: bytes, stream: trio.SocketStream) -> None:
    await stream.receive_some(1)


async def trickle(_: bytes, stream: trio.SocketStream) -> None:
    await stream.send_all(OK + b"Content-Length: 100000\r\n\r\n")
    while True:
        await stream.send_all(b" ")
        await trio.sleep(0.1)


async def trickled_head(_: bytes, stream: trio.SocketStream) -> None:
    await stream.send_all(OK + b"A: ")
    while True:
        await stream.send_all(b"a")
        await trio.sleep(0.1)


def endless(head: bytes, piece: bytes) -> Raw:
    async def send(_: bytes, stream: trio.SocketStream) -> None:
        await stream.send_all(head)
        for _number in range(100_000_000 // len(piece)):
            await stream.send_all(piece)
        raise AssertionError("all 100 MB were taken")

    return send


def whole(answer: bytes) -> Raw:
    async def send(_: bytes, stream: trio.SocketStream) -> None:
        await stream.send_all(answer)

    return send


def sized(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> Raw:
    return whole(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, more, len(body), body))


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
BOMB = f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY e0 "ha">{ENTITIES}]><root><device>&e9;</device></root>'.encode()
DEEP = b"<root><device>" + b"<x>" * 20_000 + b"</x>" * 20_000 + b"</device></root>"
GZIPPED = gzip.compress(bytes(50_000_000))
WIDE = b"<root><device>" + b"<x/>" * 30_000 + b"</device></root>"

HOSTILE: dict[str, tuple[Raw, PortMapCause]] = {
    "silence": (silence, PortMapCause.TIMEOUT),
    "trickle": (trickle, PortMapCause.TIMEOUT),
    "trickled head": (trickled_head, PortMapCause.TIMEOUT),
    "hang up": (whole(b""), PortMapCause.MALFORMED),
    "truncated": (whole(OK + b"Content-Length: 9999\r\n\r\n<root>"), PortMapCause.MALFORMED),
    "not http": (whole(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), PortMapCause.MALFORMED),
    "100 MB": (endless(OK + b"Content-Length: 100000000\r\n\r\n", bytes(65536)), PortMapCause.MALFORMED),
    "100 MB of chunks": (
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b" " * 0x8000 + b"\r\n"),
        PortMapCause.MALFORMED,
    ),
    "100 MB of headers": (endless(OK, b"A: b\r\n" * 5000), PortMapCause.MALFORMED),
    "100 MB of progress": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000), PortMapCause.MALFORMED),
    "bomb": (sized(BOMB), PortMapCause.MALFORMED),
    "compressed bomb": (sized(GZIPPED, more=b"Content-Encoding: gzip\r\n"), PortMapCause.MALFORMED),
    "100 MB of tiny chunks": (
        endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 5000),
        PortMapCause.MALFORMED,
    ),
    "deep": (sized(DEEP), PortMapCause.MALFORMED),
    "wide": (sized(WIDE), PortMapCause.MALFORMED),
    "html": (sized(b"<html><body><p>Hello<br></body></html>"), PortMapCause.MALFORMED),
    "empty": (sized(b""), PortMapCause.MALFORMED),
    "not found": (sized(b"", b"404 Not Found"), PortMapCause.MALFORMED),
    "log in first": (sized(b"", b"401 Unauthorized"), PortMapCause.REFUSED),
    "redirect": (sized(b"", b"302 Found", b"Location: http://TRAP/\r\n"), PortMapCause.MALFORMED),
    "upgrade": (whole(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"), PortMapCause.MALFORMED),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("where", ["description", "status", "mapping"])
async def test_hostile_answers(kind: str, where: str, idle_clock: MockClock) -> None:
    raw, cause = HOSTILE[kind]
    router = ScriptedRouter()
    last = {"description": b"GET", "status": b"GetStatusInfo", "mapping": b"u:AddPortMapping"}[where]

    async def answer(request: bytes, stream: trio.SocketStream) -> None:
        if last in request:
            await raw(request, stream)
        else:
            reply = router._control("/ctl/IPConn", request)[1] if request != b"GET" else router.description
            await sized(reply)(request, stream)

    async with open_trap() as trap, open_router(router):
        if kind == "redirect":
            raw = sized(b"", b"302 Found", b"Location: http://%s:%d/\r\n" % (trap.host.encode(), trap.port))
        client = router.client()
        router.raw = answer
        error = await failure_of(mapping(client))
        assert error.cause is cause
        assert router.table == {}
        # And it goes on.
        router.raw = None
        await mapping(client)()
        assert router.table == {PORT: Row(router.local, PORT, 600, "netmesh-trio")}


async def test_control_elsewhere_is_not_called(idle_clock: MockClock) -> None:
    async with open_trap() as trap:
        url = f"http://{trap.host}:{trap.port}/ctl"
        for description in (
            igd(service("WANIPConnection:1", url)),
            igd(service("WANIPConnection:1", f"//{trap.host}:{trap.port}/ctl")),
            igd(service("WANIPConnection:1", url), base=f"http://{trap.host}:{trap.port}/"),
        ):
            async with open_router(ScriptedRouter(description=description)) as router:
                assert (await failure_of(mapping(router.client()))).cause is PortMapCause.UNSUPPORTED


async def test_a_base_elsewhere_is_not_believed(idle_clock: MockClock) -> None:
    async with open_trap() as trap:
        description = igd(service("WANIPConnection:1", "/ctl/IPConn"), base=f"http://{trap.host}:{trap.port}/")
        async with open_router(ScriptedRouter(description=description)) as router:
            await mapping(router.client())()
            assert router.table.keys() == {PORT}


async def test_nonsense_for_results(idle_clock: MockClock) -> None:
    nonsense = {
        "GetStatusInfo": {"NewConnectionStatus": "Connected" * 500},
        "GetExternalIPAddress": {"NewExternalIPAddress": "8.8.8.8; rm -rf /"},
        "GetSpecificPortMappingEntry": {"NewInternalClient": "x" * 5000, "NewInternalPort": "-1"},
    }
    for action, results in nonsense.items():
        router = ScriptedRouter(actions={action: lambda _, results=results: results})  # type: ignore[misc]
        async with open_router(router):
            if action == "GetSpecificPortMappingEntry":  # it is taken not to tell
                await mapping(router.client())()
            else:
                await failure_of(mapping(router.client()))


async def test_a_table_without_end(idle_clock: MockClock) -> None:
    router = ScriptedRouter(table={PORT: Row("192.168.1.9", 1, 0)})
    router.description = IGD1.replace(b"WANIPConnection:1", b"WANIPConnection:2")
    row = {"NewExternalPort": "7", "NewProtocol": "UDP", "NewInternalClient": "192.168.1.9", "NewInternalPort": "1"}
    router.actions["GetGenericPortMappingEntry"] = lambda _: row
    async with open_router(router):
        client = router.client()
        with trio.CancelScope() as scope:
            router.watch = lambda action: scope.cancel() if action == "AddAnyPortMapping" else None
            await mapping(client)()
        assert scope.cancelled_caught
        await client.unmap()
        assert router.count("GetGenericPortMappingEntry") == 32
