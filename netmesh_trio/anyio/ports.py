"""How the objects of this package reach the node: on the same loop, or on one in another thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import anyio
import trio

from ..errors import NetmeshError
from ..node import streams

__all__ = ["Bytes", "Items", "Port", "anyio_errors"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@contextmanager
def anyio_errors(doing: str) -> Generator[None, None, None]:
    """Raise trio's errors as anyio's of the same names; those of this library are both already."""
    try:
        yield
    except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
        if isinstance(error, NetmeshError):
            raise
        kind = anyio.ClosedResourceError if isinstance(error, trio.ClosedResourceError) else anyio.BrokenResourceError
        raise kind(*error.args) from None
    except trio.BusyResourceError:
        raise anyio.BusyResourceError(doing) from None
    except trio.EndOfChannel:
        raise anyio.EndOfStream from None


class Items(Protocol[T_co]):
    """Items that the node hands out one by one."""

    async def receive(self) -> T_co:
        """The next.  Raises anyio's errors; cancelled, it has taken none."""
        ...

    async def aclose(self) -> None:
        """Take no more; what was not received is disposed of."""
        ...


class Bytes(Protocol):
    """A stream's bytes; see :class:`~netmesh_trio.anyio.Stream` for what each does."""

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes."""
        ...

    async def send(self, data: bytes) -> None:
        """Send them."""
        ...

    async def send_eof(self) -> None:
        """Nothing more comes."""
        ...

    async def aclose(self) -> None:
        """Close."""
        ...

    def reset(self, code: int) -> None:
        """Give up."""
        ...


class Port(Protocol):
    """The way to the node."""

    async def call(self, function: Callable[[], Awaitable[T]], dispose: Callable[[T], object] | None = None) -> T:
        """Call a function of the node.  ``dispose`` gets a result that came too late for a caller who was cancelled."""
        ...

    async def do(self, function: Callable[[], T], dispose: Callable[[T], object] | None = None) -> T:
        """The same for a function that is not async."""
        ...

    def items(
        self,
        open_source: Callable[[], Callable[[], Awaitable[T]]],
        close: Callable[[], object],
        ended: type[Exception],
        dispose: Callable[[T], object] | None = None,
    ) -> Items[T]:
        """What ``open_source()`` returns is called for each item; it raises anyio's errors.

        ``close`` is called when nothing more is taken, ``dispose`` with items that were taken for nobody.  All of them
        run where the node runs.  ``ended`` is what there is to receive from a node that is closed.
        """
        ...

    def bytes(self, stream: streams.Stream) -> Bytes:
        """The bytes of a stream."""
        ...
