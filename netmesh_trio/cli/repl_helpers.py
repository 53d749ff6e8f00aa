"""What the prompt of ``netmesh-trio repl`` knows beside Python."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import trio

import netmesh_trio
from netmesh_trio import MeshUri, Node, Peer, PeerId, Stream
from netmesh_trio.cli.ping import PAYLOAD, PING_SERVICE

__all__ = ["Helpers"]

_ANSWER = 1 << 20  # bytes


class Helpers:
    """The helpers, bound to one node."""

    def __init__(self, node: Node, nursery: trio.Nursery, write: Callable[[str], None]) -> None:
        self._node = node
        self._nursery = nursery
        self._write = write

    def names(self) -> dict[str, Any]:
        """All that the prompt begins with."""
        library = {name: getattr(netmesh_trio, name) for name in netmesh_trio.__all__ if name != "__version__"}
        own = {method.__name__: method for method in self._helpers()}
        return {
            "__name__": "__console__",
            "trio": trio,
            "netmesh_trio": netmesh_trio,
            **library,
            **own,
            "node": self._node,
        }

    def _helpers(self) -> list[Callable[..., Any]]:
        return [self.helpers, self.status, self.connect, self.ping, self.ask, self.serve]

    def helpers(self) -> None:
        """this list"""
        self._write("node  the running node: node.peers(), node.nat_report, node.statistics() ...")
        for method in self._helpers():
            signature = ", ".join(inspect.signature(method).parameters)
            call = f"{'await ' if inspect.iscoroutinefunction(method) else ''}{method.__name__}({signature})"
            self._write(f"{call}  {inspect.getdoc(method)}")

    def status(self) -> None:
        """where this node is, and by which paths its peers are reached"""
        node = self._node
        for uri in node.addresses:
            self._write(f"{uri}")
        self._write(f"NAT: {node.nat_type.value}, seen from outside as {node.reflex_addr or '?'}")
        for peer in node.peers():
            why = peer.why_not_direct
            self._write(f"{peer!r}" + ("" if why is None else f"  {why.kind}"))

    async def connect(self, peer: PeerId | MeshUri | str) -> Peer:
        """the peer with that peer id or netmesh:// URI"""
        return await self._node.connect(peer)

    async def ping(self, peer: Peer | PeerId | MeshUri | str) -> str:
        """one round trip: how long, and by which path"""
        found = peer if isinstance(peer, Peer) else await self.connect(peer)
        start = trio.current_time()
        async with await found.open_stream(PING_SERVICE) as stream:
            await stream.send_all(bytes(PAYLOAD))
            left = PAYLOAD
            while left and (data := await stream.receive_some(left)):
                left -= len(data)
        return f"{(trio.current_time() - start) * 1e3:.1f} ms, {found.path}"

    async def ask(self, peer: Peer | PeerId | MeshUri | str, service: str, data: bytes = b"") -> bytes:
        """what a service answers to some bytes and an end, at most 1 MiB of it"""
        found = peer if isinstance(peer, Peer) else await self.connect(peer)
        answer = b""
        async with await found.open_stream(service) as stream:
            await stream.send_all(data)
            await stream.send_eof()
            while len(answer) < _ANSWER and (part := await stream.receive_some(_ANSWER - len(answer))):
                answer += part
        return answer

    def serve(self, service: str, handler: Callable[[Stream], Awaitable[object]]) -> None:
        """call an async function with each stream that comes for a service, in the background"""
        listener = self._node.listen(service)
        self._nursery.start_soon(trio.serve_listeners, self._guarded(handler), [listener])

    def _guarded(self, handler: Callable[[Stream], Awaitable[object]]) -> Callable[[Stream], Awaitable[object]]:
        async def run(stream: Stream) -> None:
            async with stream:
                try:
                    await handler(stream)
                except Exception as error:  # noqa: BLE001 - what somebody typed: tell it, and let the prompt live
                    self._write(f"handler of {stream.service!r}: {error!r}")

        return run
