"""One connection on this host and one stream of the mesh, joined so that neither end can tell."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import Final

import attrs
import trio

from netmesh_trio import Stream
from netmesh_trio.errors import NetmeshError, NodeClosedError, ServiceNotFoundError, StreamResetError

__all__ = [
    "CODE_BROKEN",
    "CODE_BUSY",
    "CODE_NOT_ALLOWED",
    "CODE_TARGET",
    "Carried",
    "abort",
    "splice",
    "why_ended",
]

# Codes with which a tunnel resets a stream of the mesh.
CODE_BROKEN: Final = 1
"""The connection at this end broke."""
CODE_TARGET: Final = 2
"""The target of ``expose`` takes no connection."""
CODE_NOT_ALLOWED: Final = 3
"""The service is not for this peer."""
CODE_BUSY: Final = 4
"""Too many connections at once."""

_REASONS = {
    CODE_BROKEN: ("broken", "the connection broke at the other end"),
    CODE_TARGET: ("target", "the other end cannot connect to what it exposes; it says why there"),
    CODE_NOT_ALLOWED: ("not-allowed", "the other end does not serve this peer: have it add --from, or leave that out"),
    CODE_BUSY: ("busy", "the other end has too many connections; try again later"),
}
_PIECE = 1 << 16


@attrs.define
class Carried:
    """Bytes that one connection moved; updated in place."""

    to_mesh: int = 0
    from_mesh: int = 0


def why_ended(error: Exception) -> tuple[str, str]:
    """What broke a connection: a kind for programs, and words for people."""
    if isinstance(error, StreamResetError) and error.code in _REASONS:
        return _REASONS[error.code]
    if isinstance(error, ServiceNotFoundError):
        return error.kind, f"{error}: run netmesh-trio expose {error.service} HOST:PORT there"
    if isinstance(error, NetmeshError):
        return error.kind, str(error)
    return "broken", "the connection on this host broke"


def abort(local: trio.SocketStream) -> None:
    """Have the connection end in a reset, rather than as if all had been said, when it is closed."""
    # RFC 1122 section 4.2.2.13.  A Unix socket does not know it, and shows an end.
    kind = "hh" if sys.platform == "win32" else "ii"
    with contextlib.suppress(OSError):
        local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(kind, 1, 0))


async def splice(local: trio.SocketStream, mesh: Stream, carried: Carried) -> Exception | None:
    """Move bytes both ways until both have ended, and close both; what broke it, if anything did.

    The end of one direction is passed on while the other goes on, and so is a reset.  No more is read than the
    other side takes.
    """
    problem: Exception | None = None

    async def outward() -> None:
        while data := await local.receive_some(_PIECE):
            await mesh.send_all(data)
            carried.to_mesh += len(data)
        await mesh.send_eof()

    async def inward() -> None:
        while data := await mesh.receive_some(_PIECE):
            await local.send_all(data)
            carried.from_mesh += len(data)
        await local.send_eof()

    finished = False
    try:
        async with trio.open_nursery() as nursery:

            async def run(outwards: bool) -> None:
                nonlocal problem
                try:
                    await (outward() if outwards else inward())
                except (trio.BrokenResourceError, NodeClosedError) as error:
                    problem = problem or error
                    nursery.cancel_scope.cancel()

            nursery.start_soon(run, True)
            nursery.start_soon(run, False)
        finished = problem is None
    finally:
        if not finished:
            mesh.reset(CODE_BROKEN)
            abort(local)
        local.socket.close()
    await mesh.aclose()
    return problem
