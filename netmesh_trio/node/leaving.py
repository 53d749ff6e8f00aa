"""What a node that leaves does to those who wait for something of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio

from ..errors import NodeClosedError

__all__ = ["Leaving", "closed_error"]


def closed_error() -> NodeClosedError:
    """What everything raises that a closed node was asked to do."""
    return NodeClosedError("the node was closed")


class Leaving:
    """Ends all that programs wait for, in one way."""

    def __init__(self) -> None:
        self._left = False
        self._scopes: set[trio.CancelScope] = set()

    @contextmanager
    def ends_waiting(self) -> Generator[None, None, None]:
        """What the block waits for ends with NodeClosedError once the node leaves, or at once if it has left."""
        if self._left:
            raise closed_error()
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise closed_error()

    def leave(self) -> None:
        """The node leaves: wake all who wait."""
        self._left = True
        for scope in self._scopes:
            scope.cancel()
