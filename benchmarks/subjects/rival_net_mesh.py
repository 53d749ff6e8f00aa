"""net-mesh: encrypted streams of messages over UDP, in Rust, by its blocking calls.

Both ends have to know each other's node id, and ``accept`` has to be called for every peer before ``start``.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import net

from benchmarks.loops import Blocking
from benchmarks.streams import Tally
from benchmarks.subject import Channel, Datagrams, Endpoint, Link, NotOffered

_PSK = "42" * 32
_EVENT = 8000  # bytes of one message at most
_EVENTS = 8
_WINDOW = 4 << 20
_INBOX = 65536
_RETRY = 0.0002  # send_blocking() would wait 5 ms and more
_WAIT = 250  # milliseconds
_TRIES = 40
# streams have numbers; the answers to each come back on another
_ECHO = 0x1000
_LOSSY = 0x2000
_SINK = 0x3000
_SINKS = 10
_BACK = 0x8000
_QUESTION = b"?"


_ONE_BY_ONE = "a node that runs takes no new peers in: accept() has to come before start()"


def _mesh(host: str, name: str) -> Any:
    return net.NetMesh(f"{host}:0", _PSK, identity_seed=hashlib.sha256(name.encode()).digest())


def _send(mesh: Any, stream: Any, events: Sequence[bytes]) -> None:
    while True:
        try:
            mesh.send_on_stream(stream, events)
            return
        except net.BackpressureError:
            time.sleep(_RETRY)


class Subject(Blocking):
    """One node a process."""

    async def relay(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.relay`."""
        raise NotOffered("its connect_direct() over a third node said peer-not-reachable here")

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        mesh = _mesh(self.bind, "server")
        ready(json.dumps([mesh.local_addr, mesh.public_key, mesh.node_id]))
        mesh.accept(_mesh(self.bind, "client").node_id)
        for stream_id in (_ECHO, _LOSSY, *range(_SINK, _SINK + _SINKS)):
            threading.Thread(target=_serve, args=(mesh, stream_id), daemon=True).start()
        mesh.start()
        threading.Event().wait()

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        if self.clients > 1:
            raise NotOffered(_ONE_BY_ONE)
        mesh = _mesh(self.bind, "client")
        yield _Endpoint(mesh)
        mesh.shutdown()


def _serve(mesh: Any, stream_id: int) -> None:
    """Answer what comes on one stream, of any peer."""
    tally = Tally()
    back: dict[int, Any] = {}
    with mesh.open_stream_inbox(stream_id, _INBOX) as inbox:
        while True:
            event = inbox.recv(_WAIT)
            if event is None:
                continue
            payload = event.payload
            if stream_id == _ECHO:
                answer = payload
            elif payload == _QUESTION:
                answer = json.dumps([tally.bytes, tally.count, tally.seconds]).encode()
            else:
                tally.add(payload)
                continue
            peer = event.peer_node_id
            if peer not in back:
                back[peer] = mesh.open_stream(peer, _BACK + stream_id, "reliable", _WINDOW)
            _send(mesh, back[peer], [answer])


class _Endpoint(Endpoint):
    def __init__(self, mesh: Any) -> None:
        self._mesh = mesh
        self._connected = False

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        if self._connected:
            raise NotOffered(_ONE_BY_ONE)
        self._connected = True
        address, key, node_id = json.loads(where)
        self._mesh.connect(address, key, node_id)
        self._mesh.start()
        yield _Link(self._mesh, node_id)


class _Link(Link):
    def __init__(self, mesh: Any, node_id: int) -> None:
        self._mesh = mesh
        self._node_id = node_id
        self._sinks = 0

    async def sink(self) -> _Channel:
        self._sinks += 1
        return _Channel(self._mesh, self._node_id, _SINK + self._sinks - 1)

    async def echo(self) -> _Channel:
        return _Channel(self._mesh, self._node_id, _ECHO)

    async def datagrams(self) -> Datagrams:
        return _Datagrams(_Channel(self._mesh, self._node_id, _LOSSY, "fire_and_forget"))


class _Channel(Channel):
    def __init__(self, mesh: Any, node_id: int, stream_id: int, reliability: str = "reliable") -> None:
        self._mesh = mesh
        self._stream = mesh.open_stream(node_id, stream_id, reliability, _WINDOW)
        self._inbox = mesh.open_stream_inbox(_BACK + stream_id, _INBOX)

    async def send(self, data: bytes) -> None:
        if len(data) <= _EVENT:
            _send(self._mesh, self._stream, [data])
            return
        pieces = [data[at : at + _EVENT] for at in range(0, len(data), _EVENT)]
        for at in range(0, len(pieces), _EVENTS):
            _send(self._mesh, self._stream, pieces[at : at + _EVENTS])

    async def send_batch(self, messages: Sequence[bytes]) -> None:
        _send(self._mesh, self._stream, messages)

    async def finish(self) -> int:
        total, _, _ = self.tally()
        return total

    def tally(self) -> tuple[int, int, float]:
        """Bytes, messages and seconds at the other end."""
        _send(self._mesh, self._stream, [_QUESTION])
        total, count, seconds = json.loads(self._receive())
        return total, count, seconds

    async def exchange(self, data: bytes) -> None:
        _send(self._mesh, self._stream, [data])
        self._receive()

    def _receive(self) -> bytes:
        for _ in range(_TRIES):
            event = self._inbox.recv(_WAIT)
            if event is not None:
                payload: bytes = event.payload
                return payload
        raise TimeoutError(f"no answer within {_TRIES * _WAIT / 1000:g} s")


class _Datagrams(Datagrams):
    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    async def send(self, message: bytes, count: int) -> None:
        await self._channel.send_batch([message] * count)

    async def finish(self) -> tuple[int, float]:
        _, count, seconds = self._channel.tally()
        return count, seconds
