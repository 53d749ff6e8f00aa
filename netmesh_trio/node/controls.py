"""Control messages on their way from the socket loop to the task that handles them."""

from __future__ import annotations

from collections import deque
from types import TracebackType

import attrs
import trio

from ..paths.path import Path
from ..routing.shares import Shares
from .live import LiveSession

__all__ = ["Control", "ControlQueue"]


@attrs.frozen
class Control:
    """A control message."""

    live: LiveSession
    payload: bytes
    path: Path


class ControlQueue:
    """The messages of one subprotocol, of all sessions: bounded, and fair among these.

    They come out in turns, one of each session that has any.  When the queue is full, the session with most in it loses
    its newest: a message was acknowledged when it came, so whoever sent it does not repeat it, and what one peer sends
    must not cost another's.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        # in the order of whose turn it is
        self._waiting: dict[LiveSession, deque[Control]] = {}
        self._shares: Shares[LiveSession] = Shares()
        self._lot = trio.lowlevel.ParkingLot()
        self._closed = False

    def __len__(self) -> int:
        return self._size

    def put_nowait(self, control: Control) -> bool:
        """Put it in; False if a message, this one or another, was dropped for it."""
        if self._closed:
            return False
        live = control.live
        kept_all = self._size < self._capacity
        if not kept_all:
            if self._shares.held(live) >= self._shares.most:
                return False
            self._drop_newest(self._shares.greatest())
        self._waiting.setdefault(live, deque()).append(control)
        self._shares.add(live)
        self._size += 1
        self._lot.unpark()
        return kept_all

    def _drop_newest(self, live: LiveSession) -> None:
        waiting = self._waiting[live]
        waiting.pop()
        if not waiting:
            del self._waiting[live]
        self._shares.remove(live)
        self._size -= 1

    def __aiter__(self) -> ControlQueue:
        return self

    async def __anext__(self) -> Control:
        """The next message; waits for it."""
        if self._waiting:
            await trio.lowlevel.checkpoint()
        while not self._waiting:
            await self._lot.park()
        live = next(iter(self._waiting))
        waiting = self._waiting.pop(live)
        control = waiting.popleft()
        if waiting:
            self._waiting[live] = waiting  # at the end
        self._shares.remove(live)
        self._size -= 1
        return control

    async def __aenter__(self) -> ControlQueue:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take no more: the handler is gone."""
        self._closed = True
        self._waiting.clear()
        self._shares = Shares()
        self._size = 0
