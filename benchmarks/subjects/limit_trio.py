"""What trio allows a small message: UDP and one AEAD a packet, a task that reads the socket, and one that it wakes.

That is the least of a library whose programs read from what is theirs while others read from the same socket.  No
sessions, no streams, no acknowledgements, no timers.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from benchmarks.loops import OnTrio
from benchmarks.subject import Channel, Endpoint, Link, NotOffered
from netmesh_trio.node.ciphers import aes_is_faster
from netmesh_trio.session.keys import PacketKey

_NONCE = bytes(12)
_WAITING = 64

Address = tuple[str, int]


class _Node:
    """A socket, and the plaintexts that came in on it."""

    def __init__(self, host: str) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind((host, 0))
        self._key = PacketKey(bytes(32), aes_is_faster())
        self.address: Address = self._sock.getsockname()
        self._came, self.messages = trio.open_memory_channel[tuple[bytes, Address]](_WAITING)

    async def run(self) -> None:
        """Read the socket for ever."""
        with self._sock:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                packet, source = self._sock.recvfrom(2048)
                self._came.send_nowait((self._key.decrypt(_NONCE, packet, None), source))

    def send(self, message: bytes, target: Address) -> None:
        """Seal it and send it."""
        self._sock.sendto(self._key.encrypt(_NONCE, message, None), target)


class Subject(OnTrio):
    """One socket a process."""

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        node = _Node(self.bind)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            ready("{}:{}".format(*node.address))
            async for message, source in node.messages:
                node.send(message, source)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        node = _Node("0.0.0.0")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            yield _Endpoint(node)
            nursery.cancel_scope.cancel()


class _Endpoint(Endpoint):
    def __init__(self, node: _Node) -> None:
        self._node = node

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        host, _, port = where.rpartition(":")
        yield _Link(self._node, (host, int(port)))


class _Link(Link):
    def __init__(self, node: _Node, target: Address) -> None:
        self._node = node
        self._target = target

    async def sink(self) -> Channel:
        raise NotOffered("it is no sink")

    async def echo(self) -> Channel:
        return _Echo(self._node, self._target)


class _Echo(Channel):
    def __init__(self, node: _Node, target: Address) -> None:
        self._node = node
        self._target = target

    async def exchange(self, data: bytes) -> None:
        self._node.send(data, self._target)
        await self._node.messages.receive()
