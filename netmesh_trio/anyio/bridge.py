"""On anyio's asyncio backend: the node runs on a trio loop in a thread of its own, and this is the way there and back.

``(asyncio)`` and ``(trio)`` say in which thread a method is called.  Nothing here blocks the asyncio loop, but for the
moment in which the thread, which is done by then, ends.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import trio

from ..errors import NodeClosedError
from ..node import node as trio_node
from ..node import streams
from .buffers import BridgedBytes, Feed
from .ports import anyio_errors

if TYPE_CHECKING:
    from .buffers import Sink, Waiter

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ["Bridge", "open_bridge"]

T = TypeVar("T")

# Items (datagrams, events, streams that nobody has accepted) between the two loops.
_ITEMS = 64
# Seconds: how long to wait, unwilling to be cancelled, for what takes no longer than a few steps of the other loop; and
# how often to look whether writers are through.
_PATIENCE = 5.0
_POLL = 0.01


class Bridge:
    """A trio loop in another thread; :class:`~netmesh_trio.anyio.ports.Port`."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        #: (trio) Writers that wait for their peers to read.
        self.blocked: set[Sink] = set()
        self.node: trio_node.Node | None = None
        self.failure: BaseException | None = None
        #: (asyncio) The node is open, or will never be; the trio loop has ended.
        self.ready: asyncio.Event = asyncio.Event()
        self.ended: asyncio.Event = asyncio.Event()
        #: (asyncio) Who is to be told should the trio loop break down.
        self.waiting: set[Waiter] = set()
        self.calls: set[_AnyCall[Any]] = set()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._node_scope = trio.CancelScope()
        self._leave = trio.Event()
        self._told_to_stop = False
        self._body: anyio.CancelScope | None = None

    # both

    def post(self, function: Callable[[], object]) -> bool:
        """(asyncio) Have the trio loop call it soon, in order; False when that loop has ended."""
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return False
        return True

    def tell(self, function: Callable[..., object], *args: object) -> None:
        """(trio) Have the asyncio loop call it soon, in order."""
        with suppress(RuntimeError):  # that loop is closed: nobody is there to be told
            self.loop.call_soon_threadsafe(function, *args)

    # the thread

    def run(self, opener: Callable[[], AbstractAsyncContextManager[trio_node.Node]]) -> None:
        """(trio) What the thread does."""
        try:
            trio.run(self._main, opener)
        except BaseException as error:  # noqa: BLE001 - raised in the other thread
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            self.failure = error
        finally:
            self.tell(self._on_end)

    async def _main(self, opener: Callable[[], AbstractAsyncContextManager[trio_node.Node]]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            with self._node_scope:
                if self._told_to_stop:
                    self._node_scope.cancel()
                async with opener() as node:
                    self._nursery = nursery
                    self.node = node
                    self.tell(self.ready.set)
                    await self._leave.wait()
                    with trio.move_on_after(node.config.close_timeout):
                        while self.blocked:  # noqa: ASYNC110 - rare, and bounded
                            await trio.sleep(_POLL)
            # with the node closed, what still waits for it ends by itself
            self._nursery = None
            nursery.cancel_scope.deadline = trio.current_time() + 1

    def start(self, function: Callable[..., Awaitable[object]], *args: Any) -> bool:
        """(trio) Run it as a task; False when the node is closed."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(function, *args)
        return True

    # the end

    def watch(self, body: anyio.CancelScope) -> None:
        """(asyncio) Cancel this scope should the trio loop fail."""
        self._body = body

    def unwatch(self) -> None:
        """(asyncio) Do so no more."""
        self._body = None

    def leave(self) -> None:
        """(asyncio) Close the node, and deliver what was written."""
        self.post(self._leave.set)

    def stop(self) -> None:
        """(asyncio) Close the node at once."""
        self._told_to_stop = True
        self.post(self._node_scope.cancel)

    def _on_end(self) -> None:
        self.ready.set()
        self.ended.set()
        for call in list(self.calls):
            call.end()
        for waiter in list(self.waiting):
            waiter.wake()
        if self._body is not None:
            self._body.cancel()

    # Port

    async def call(self, function: Callable[[], Awaitable[T]], dispose: Callable[[T], object] | None = None) -> T:
        """(asyncio) See :class:`~netmesh_trio.anyio.ports.Port`.  When it returns, nothing of the call goes on."""
        return await _Call(self, function, dispose).result()

    async def do(self, function: Callable[[], T], dispose: Callable[[T], object] | None = None) -> T:
        """(asyncio) See :class:`~netmesh_trio.anyio.ports.Port`."""
        return await _QuickCall(self, function, dispose).result()

    def items(
        self,
        open_source: Callable[[], Callable[[], Awaitable[T]]],
        close: Callable[[], object],
        ended: type[Exception],
        dispose: Callable[[T], object] | None = None,
    ) -> Feed[T]:
        """(asyncio) See :class:`~netmesh_trio.anyio.ports.Port`."""
        feed = Feed(self, close, ended, dispose, _ITEMS)
        feed.start(open_source)
        return feed

    def bytes(self, stream: streams.Stream) -> BridgedBytes:
        """(asyncio) See :class:`~netmesh_trio.anyio.ports.Port`."""
        return BridgedBytes(self, stream)


class _AnyCall(Generic[T]):
    """A call by a task on asyncio, of a function on trio."""

    def __init__(self, bridge: Bridge, dispose: Callable[[T], object] | None) -> None:
        self._bridge = bridge
        self._dispose = dispose
        self._over = asyncio.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._abandoned = False

    def _start(self) -> None:
        """(trio) Begin; ends with :meth:`_tell`."""
        raise NotImplementedError

    def _cancel(self) -> None:
        """(trio) Nobody waits for it any more."""

    async def result(self) -> T:
        """(asyncio) Call, and wait."""
        if not self._bridge.post(self._start):
            await anyio.lowlevel.checkpoint()
            raise NodeClosedError("the node was closed")
        self._bridge.calls.add(self)
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self._abandoned = True
            if self._over.is_set():
                self._throw_away()
            else:
                self._bridge.post(self._cancel)
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await self._over.wait()
            raise
        finally:
            self._bridge.calls.discard(self)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None
        return self._value[0]

    def _throw_away(self) -> None:
        if self._value and self._dispose is not None:
            value, dispose = self._value[0], self._dispose
            self._bridge.post(lambda: dispose(value))

    def _tell(self, error: BaseException | None) -> None:
        """(trio) It is over."""
        self._error = error
        self._bridge.tell(self._finish)

    def end(self) -> None:
        """(asyncio) The trio loop broke down, and will say no more."""
        if not self._over.is_set():
            self._error = NodeClosedError("the node was closed")
            self._over.set()

    def _finish(self) -> None:
        self._over.set()
        if self._abandoned:
            self._throw_away()


class _Call(_AnyCall[T]):
    """Of an async function, in a task."""

    def __init__(
        self, bridge: Bridge, function: Callable[[], Awaitable[T]], dispose: Callable[[T], object] | None
    ) -> None:
        super().__init__(bridge, dispose)
        self._function = function
        self._scope = trio.CancelScope()

    def _start(self) -> None:
        if not self._bridge.start(self._run):
            self._tell(NodeClosedError("the node was closed"))

    def _cancel(self) -> None:
        self._scope.cancel()

    async def _run(self) -> None:
        # unless something comes of it, the loop was ended
        error: BaseException | None = NodeClosedError("the node was closed")
        try:
            with self._scope, anyio_errors("using"):
                self._value.append(await self._function())
                error = None
        except Exception as raised:  # noqa: BLE001 - for the caller
            error = raised
        finally:
            self._tell(error)


class _QuickCall(_AnyCall[T]):
    """Of a function that does not wait: without a task."""

    def __init__(self, bridge: Bridge, function: Callable[[], T], dispose: Callable[[T], object] | None) -> None:
        super().__init__(bridge, dispose)
        self._function = function

    def _start(self) -> None:
        error: BaseException | None = None
        try:
            self._value.append(self._function())
        except Exception as raised:  # noqa: BLE001 - for the caller
            error = raised
        self._tell(error)


@asynccontextmanager
async def open_bridge(
    opener: Callable[[], AbstractAsyncContextManager[trio_node.Node]],
) -> AsyncGenerator[tuple[Bridge, trio_node.Node], None]:
    """(asyncio) Run a trio loop with a node in a thread; neither is left after the block."""
    bridge = Bridge()
    # A daemon, for programs that end without leaving the block: they should not hang.
    thread = threading.Thread(target=bridge.run, args=(opener,), name="netmesh_trio", daemon=True)
    thread.start()
    try:
        await bridge.ready.wait()
        if bridge.node is not None:
            with anyio.CancelScope() as body:
                bridge.watch(body)
                yield bridge, bridge.node
                bridge.unwatch()
                bridge.leave()
                await bridge.ended.wait()
    finally:
        bridge.unwatch()
        bridge.stop()
        try:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await bridge.ended.wait()
        finally:
            # A second cancellation ends the wait above at once.  What is left then are a few steps of the other loop,
            # and the second that a port mapping may take to be given back.
            thread.join(_PATIENCE)
    if bridge.failure is not None:
        try:
            raise bridge.failure
        finally:
            bridge.failure = None
