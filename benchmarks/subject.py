"""What a subject offers, so that each measurement is written once.

A subject has up to three ends, each in a process of its own: one *serves*, one *relays*, one measures, which opens
an :class:`Endpoint`, with it a :class:`Link` to the serving end, and on that channels.  The methods are coroutines for
the sake of those that have an event loop; what blocks just blocks.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

__all__ = ["Channel", "Datagrams", "Endpoint", "Link", "NotOffered", "Subject"]

T = TypeVar("T")

Job = Callable[[], Awaitable[object]]


class NotOffered(Exception):
    """The subject cannot do this; the text says why, for the table."""


class Channel:
    """One stream to the serving end: either a sink, or an echo, or whichever it is used for first."""

    async def send(self, data: bytes) -> None:
        """Write to the sink; waits while the other end is too slow."""
        raise NotOffered("it is no sink")

    async def send_batch(self, messages: Sequence[bytes]) -> None:
        """Write many small messages in one call: joined, where a stream knows no messages."""
        await self.send(b"".join(messages))

    async def finish(self) -> int:
        """End the sink and wait; how many bytes the other end took in."""
        raise NotOffered("it is no sink")

    async def exchange(self, data: bytes) -> None:
        """One round trip of the echo."""
        raise NotOffered("it is no echo")

    async def aclose(self) -> None:
        """Close."""


class Datagrams(abc.ABC):
    """Unreliable messages to the serving end."""

    @abc.abstractmethod
    async def send(self, message: bytes, count: int) -> None:
        """Send it so many times, then let the event loop breathe."""

    @abc.abstractmethod
    async def finish(self) -> tuple[int, float]:
        """How many messages came, and the seconds from the first to the last."""


class Link(abc.ABC):
    """A connection with the serving end."""

    @abc.abstractmethod
    async def sink(self) -> Channel:
        """A stream that the other end reads and counts."""

    @abc.abstractmethod
    async def echo(self) -> Channel:
        """A stream that the other end sends back."""

    async def datagrams(self) -> Datagrams:
        """Unreliable messages that the other end counts."""
        raise NotOffered("no datagrams")

    async def wait_direct(self) -> None:
        """Wait until data travels without the relay."""
        raise NotOffered("no direct paths")


class Endpoint(abc.ABC):
    """The measuring end, before it is connected: a program has one and connects it to many."""

    @abc.abstractmethod
    def connect(self, where: str) -> AbstractAsyncContextManager[Link]:
        """Connect to what the serving end printed."""


class Subject(abc.ABC):
    """One thing to measure; made in each of its processes."""

    def __init__(
        self,
        *,
        bind: str = "127.0.0.1",
        relay: str | None = None,
        datagram: int | None = None,
        direct: bool = True,
        clients: int = 1,
    ) -> None:
        #: The address to listen on.
        self.bind = bind
        #: What the relay printed, in the other two processes.
        self.relay_at = relay
        #: The UDP payload to use, bytes, where it can be chosen.
        self.datagram = datagram
        #: Whether to look for a path that avoids the relay.
        self.direct = direct
        #: How many endpoints will connect, for those that have to know.
        self.clients = clients

    @abc.abstractmethod
    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run in the event loop of the subject."""

    @abc.abstractmethod
    async def together(self, jobs: Sequence[Job]) -> None:
        """Run jobs at once and wait for all; the first error ends them."""

    @abc.abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait, in the event loop of the subject."""

    @abc.abstractmethod
    async def serve(self, ready: Callable[[str], None]) -> None:
        """Answer for ever; ``ready`` takes the address for :meth:`Endpoint.connect`."""

    async def relay(self, ready: Callable[[str], None]) -> None:
        """Relay for ever; ``ready`` takes what the two ends get as ``relay``."""
        raise NotOffered("no relay in the package")

    @abc.abstractmethod
    def endpoint(self) -> AbstractAsyncContextManager[Endpoint]:
        """Open the measuring end."""
