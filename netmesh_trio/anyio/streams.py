"""Streams, listeners and datagrams as anyio's interfaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel

from ..events import Event
from ..identity import PeerId
from ..node import streams
from ..node.services import Datagram
from ..node.streams import CODE_RESET
from .attributes import MeshAttribute
from .ports import Bytes, Items

if TYPE_CHECKING:
    from .node import Node, Peer

__all__ = ["DatagramReceiveStream", "DatagramSendStream", "EventStream", "Listener", "Stream"]


class Stream(anyio.abc.ByteStream):
    """One stream with a peer: bytes in order, both ways, over whichever path the session uses.

    Errors are anyio's: :class:`anyio.EndOfStream`, :class:`anyio.ClosedResourceError` when this side closed it,
    :class:`anyio.BusyResourceError` when two tasks do the same to it, and :class:`anyio.BrokenResourceError` in one of
    three kinds: :class:`~netmesh_trio.StreamResetError`, :class:`~netmesh_trio.ServiceNotFoundError`,
    :class:`~netmesh_trio.SessionClosedError`.

    A cancelled :meth:`receive` has taken nothing.  A cancelled :meth:`send` of up to 256 KiB has sent nothing; of more,
    perhaps a part.
    """

    def __init__(self, peer: Peer, service: str, data: Bytes) -> None:
        #: The peer at the other end.
        self.peer = peer
        #: The name that the stream was opened for.
        self.service = service
        self._data = data

    def __repr__(self) -> str:
        return f"<Stream for {self.service!r} with {self.peer_id.short}>"

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end; authenticated."""
        return self.peer.peer_id

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """:class:`MeshAttribute`, and on a direct path anyio's ``SocketAttribute.remote_address``."""
        return {MeshAttribute.service: lambda: self.service, **self.peer.extra_attributes}

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Some bytes, at least one.  Raises EndOfStream after the last."""
        return await self._data.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        """Send; returns once the bytes are taken over for sending, which waits while the peer does not read."""
        await self._data.send(item)

    async def send_eof(self) -> None:
        """Tell the peer that nothing more comes; receiving goes on."""
        await self._data.send_eof()

    async def aclose(self) -> None:
        """Close.  What was sent still arrives; what the peer still sends is refused."""
        await self._data.aclose()

    def reset(self, code: int = CODE_RESET) -> None:
        """Give the stream up at once, both ways: nothing more is delivered, and the peer sees ``code``."""
        self._data.reset(code)


class Listener(anyio.abc.Listener[Stream]):
    """Accepts the streams that peers open for one service; made by :meth:`Node.listen`."""

    def __init__(
        self,
        node: Node,
        service: str,
        accepted: Items[streams.Stream],
        wrap: Callable[[streams.Stream], Stream],
    ) -> None:
        #: The name served.
        self.service = service
        self._node = node
        self._accepted = accepted
        self._wrap = wrap

    def __repr__(self) -> str:
        return f"<Listener for {self.service!r}>"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """``MeshAttribute.service`` and ``MeshAttribute.local_peer_id``."""
        return {
            MeshAttribute.service: lambda: self.service,
            MeshAttribute.local_peer_id: lambda: self._node.peer_id,
        }

    async def accept(self) -> Stream:
        """The next stream.  Cancelled, it has taken none.  Raises ClosedResourceError once the listener is closed."""
        return self._wrap(await self._accepted.receive())

    async def serve(self, handler: Callable[[Stream], Any], task_group: anyio.abc.TaskGroup | None = None) -> None:
        """Run ``handler(stream)`` as a task for each stream, in ``task_group`` or in one of its own, for ever.

        Raises ClosedResourceError once the listener is closed, never in a group.
        """
        if task_group is not None:
            await self._serve(handler, task_group)
            return
        closed: anyio.ClosedResourceError | None = None
        async with anyio.create_task_group() as handlers:
            try:
                await self._serve(handler, handlers)
            except anyio.ClosedResourceError as error:
                closed = error  # past the task group, which would wrap it
                handlers.cancel_scope.cancel()
        if closed is not None:
            raise closed

    async def _serve(self, handler: Callable[[Stream], Any], task_group: anyio.abc.TaskGroup) -> None:
        while True:
            task_group.start_soon(handler, await self.accept())

    async def aclose(self) -> None:
        """Serve the name no longer; streams that nobody accepted are reset."""
        await self._accepted.aclose()


class DatagramReceiveStream(anyio.abc.UnreliableObjectReceiveStream[Datagram]):
    """The unreliable datagrams that peers send to one service; made by :meth:`Node.datagrams`.

    It ends when the node is closed.  Datagrams that come while too many wait to be received are dropped and counted.
    """

    def __init__(self, node: Node, service: str, received: Items[Datagram]) -> None:
        #: The name that they are sent to.
        self.service = service
        self._node = node
        self._received = received

    def __repr__(self) -> str:
        return f"<DatagramReceiveStream for {self.service!r}>"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """``MeshAttribute.service`` and ``MeshAttribute.local_peer_id``."""
        return {
            MeshAttribute.service: lambda: self.service,
            MeshAttribute.local_peer_id: lambda: self._node.peer_id,
        }

    async def receive(self) -> Datagram:
        """The next datagram.  Cancelled, it has taken none."""
        return await self._received.receive()

    async def aclose(self) -> None:
        """Receive no more."""
        await self._received.aclose()


class DatagramSendStream(anyio.abc.UnreliableObjectSendStream[bytes]):
    """Unreliable datagrams to one service of a peer; made by :meth:`Peer.datagrams`."""

    def __init__(self, peer: Peer, service: str) -> None:
        #: The peer that they go to.
        self.peer = peer
        #: The name that they are sent to.
        self.service = service
        self._closed = False

    def __repr__(self) -> str:
        return f"<DatagramSendStream for {self.service!r} with {self.peer.peer_id.short}>"

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """:class:`MeshAttribute`, and on a direct path anyio's ``SocketAttribute.remote_address``."""
        return {MeshAttribute.service: lambda: self.service, **self.peer.extra_attributes}

    async def send(self, item: bytes) -> None:
        """Send one.  Raises DatagramTooLargeError if it does not fit into a packet, PeerUnreachableError without a
        session; neither is the end of this stream."""
        if self._closed:
            await anyio.lowlevel.checkpoint()
            raise anyio.ClosedResourceError
        await self.peer.send_datagram(self.service, item)

    async def aclose(self) -> None:
        """Send no more."""
        self._closed = True
        await anyio.lowlevel.checkpoint()


class EventStream(anyio.abc.ObjectReceiveStream[Event]):
    """What happens at a node; made by :meth:`Node.events`.  It ends when the node is closed.

    A reader that is too slow loses the oldest and gets :class:`~netmesh_trio.EventsLost` in their place.
    """

    def __init__(self, received: Items[Event]) -> None:
        self._received = received

    def __repr__(self) -> str:
        return "<EventStream>"

    async def receive(self) -> Event:
        """The next event.  Cancelled, it has taken none."""
        return await self._received.receive()

    async def aclose(self) -> None:
        """Watch no more."""
        await self._received.aclose()
