"""Helpers of the mesh tests: starting, closing and killing nodes, and streams whose bytes are checked."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import Any

import attrs
import trio

import netmesh_trio
from netmesh_trio import Identity, MeshUri, Node, NodeConfig, PeerId, open_node
from netmesh_trio.node.engine import Engine
from netmesh_trio.testing import Host, VirtualInternet

__all__ = ["Chance", "Member", "Pattern", "Receiver", "World", "exchange", "serve_exchange"]


class Chance(random.Random):
    """The chance of one world; the same seed gives the same keys, ids and losses."""

    def identity(self) -> Identity:
        return Identity(self.randbytes(32))


@attrs.define(eq=False)
class Member:
    """A node that runs in a task of its own."""

    node: Node
    host: Host
    identity: Identity
    port: int
    scope: trio.CancelScope
    leave: trio.Event = attrs.field(factory=trio.Event)
    gone: trio.Event = attrs.field(factory=trio.Event)

    @property
    def id(self) -> PeerId:
        return self.identity.peer_id

    @property
    def uri(self) -> str:
        return f"netmesh://{self.id}@{self.host.address}:{self.port}"

    @property
    def engine(self) -> Engine:
        return self.node._engine

    async def close(self) -> None:
        """Leave as a program does that comes to its end."""
        self.leave.set()
        await self.gone.wait()

    async def kill(self) -> None:
        """End as by ``kill -9``: nobody is told."""
        self.host.kill()
        self.scope.cancel()
        await self.gone.wait()

    def session(self, peer: Member | PeerId) -> Any:
        peer_id = peer.id if isinstance(peer, Member) else peer
        known = self.engine.peers.get(peer_id)
        return None if known is None or known.live is None else known.live.session


@attrs.define(eq=False)
class World:
    net: VirtualInternet
    nursery: trio.Nursery
    chance: Chance

    async def start(
        self,
        host: Host | str,
        bootstrap: Iterable[str | MeshUri | Member] = (),
        *,
        identity: Identity | None = None,
        port: int = 4650,
        behind: str | None = None,
        wait: bool = True,
        **config: Any,
    ) -> Member:
        """Open a node on a host, which is made if it is only named, and wait until it is connected."""
        if isinstance(host, str):
            known = self.net.hosts.get(host)
            host = known if known is not None else self.net.host(host, behind=behind)
        uris = [entry.uri if isinstance(entry, Member) else entry for entry in bootstrap]
        identity = identity or self.chance.identity()
        member: Member = await self.nursery.start(self._run, host, uris, identity, port, NodeConfig(**config))
        if wait:
            await member.node.wait_connected()
        return member

    async def _run(
        self,
        host: Host,
        bootstrap: list[str | MeshUri],
        identity: Identity,
        port: int,
        config: NodeConfig,
        *,
        task_status: trio.TaskStatus[Member],
    ) -> None:
        member: Member | None = None
        with trio.CancelScope() as scope:
            async with open_node(identity, ("0.0.0.0", port), bootstrap, config, network=host) as node:
                member = Member(node, host, identity, port, scope)
                task_status.started(member)
                await member.leave.wait()
        if member is not None:
            member.gone.set()

    def serve(self, member: Member, service: str = "echo") -> None:
        """Echo every stream of a service for as long as the node runs."""
        self.nursery.start_soon(self._serve, member, service)

    async def _serve(self, member: Member, service: str) -> None:
        async def echo(stream: netmesh_trio.Stream) -> None:
            async with stream:
                try:
                    while data := await stream.receive_some():
                        await stream.send_all(data)
                    await stream.send_eof()
                except trio.BrokenResourceError:
                    pass

        async with member.node.listen(service) as listener, trio.open_nursery() as nursery:
            while not member.gone.is_set():
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                nursery.start_soon(echo, stream)


class Pattern:
    """Bytes that tell a lost, doubled or moved one: the same at no two offsets close together."""

    def __init__(self, seed: int, size: int) -> None:
        self.data = random.Random(seed).randbytes(size)
        self.digest = hashlib.sha256(self.data).digest()


class Receiver:
    """Reads one direction of a stream to its end; knows the digest of it and when bytes came."""

    def __init__(self, stream: netmesh_trio.Stream) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0
        self.times: list[float] = []

    async def run(self) -> None:
        while data := await self._stream.receive_some():
            self._hash.update(data)
            self.size += len(data)
            self.times.append(trio.current_time())

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    def pause(self, after: float, before: float = float("inf")) -> float:
        """The longest time without a byte that ends after ``after`` and begins before ``before``."""
        gaps = [b - a for a, b in zip(self.times, self.times[1:], strict=False) if b > after and a < before]
        return max(gaps, default=0.0)


async def _send(stream: netmesh_trio.Stream, data: bytes, lasting: float) -> None:
    if lasting:
        for piece in range(0, len(data), step := max(1, len(data) // 50)):
            await stream.send_all(data[piece : piece + step])
            await trio.sleep(lasting / 50)
    else:
        await stream.send_all(data)
    await stream.send_eof()


async def exchange(
    stream: netmesh_trio.Stream,
    out: Pattern,
    expected: Pattern,
    receiver: Receiver | None = None,
    *,
    lasting: float = 0.0,
) -> Receiver:
    """Send one pattern, receive the other, check every byte.  ``lasting`` spreads the sending over so many seconds."""
    receiver = receiver or Receiver(stream)
    async with stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, stream, out.data, lasting)
            nursery.start_soon(receiver.run)
    assert receiver.size == len(expected.data)
    assert receiver.digest == expected.digest
    return receiver


async def serve_exchange(
    member: Member,
    out: Pattern,
    expected: Pattern,
    receivers: list[Receiver],
    service: str = "exchange",
    lasting: float = 0.0,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The other end of :func:`exchange`, for one stream."""
    async with member.node.listen(service) as listener:
        task_status.started()
        stream = await listener.accept()
        receiver = Receiver(stream)
        receivers.append(receiver)
        await exchange(stream, out, expected, receiver, lasting=lasting)
