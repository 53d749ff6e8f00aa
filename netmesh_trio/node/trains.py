"""What every attempt at a direct path consists of, whoever began it: a train of challenges, and the wait for a path."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ..addresses import Address
from ..events import PathKind
from ..paths.path import Path
from .engine import Engine
from .live import LiveSession

__all__ = ["run_train", "until_direct"]

# Seconds that the last packet of a train has to be answered.
_LAST_ANSWER_TIME = 1.0


async def until_direct(live: LiveSession, scope: trio.CancelScope) -> None:
    """End the attempt once the session is on a direct path, or over."""
    session = live.session
    while session.closed is None:
        if session.path is not None and session.path.kind is PathKind.DIRECT and not session.path.suspect:
            break
        await live.peer.wait_change()
    scope.cancel()


async def run_train(engine: Engine, live: LiveSession, targets: Sequence[Address]) -> None:
    """Challenges of the running session to every target, at the times of the keep-alive train.

    The first that is answered has validated its path.  Those that were not, are forgotten in the end.
    """
    session = live.session
    paths: list[Path] = []
    start = trio.current_time()
    try:
        for address in targets:
            number = engine.socket_for(address)
            if number is not None:
                path = session.add_path((number, address), None, engine.now())
                path.trains += 1
                paths.append(path)
        for offset in engine.config.traversal.keep_alives:
            await trio.sleep_until(start + offset)
            for path in paths:
                if session.closed is None and not path.failed and path is not session.path:
                    session.queue_challenge(path, engine.now())
            live.drive()
        await trio.sleep(_LAST_ANSWER_TIME)
    finally:
        for path in paths:
            path.trains -= 1
            if not path.trains and not path.validated and not path.failed:
                session.remove_path(path, engine.now())
