"""Where a tunnel ends on this host: a TCP address, or the path of a Unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from netmesh_trio.addresses import HostPort
from netmesh_trio.cli.runner import CommandError
from netmesh_trio.errors import AddressError

__all__ = ["Endpoint", "UnixPath", "connect", "listen", "parse_endpoint"]

_PREFIX = "unix:"
#: Bytes of a path that every system's ``sockaddr_un`` holds.
_LONGEST = 100
_BACKLOG = 128
_CONNECT_TIMEOUT = 10.0  # seconds


class UnixPath(NamedTuple):
    """The path of a Unix stream socket."""

    path: str

    def __str__(self) -> str:
        return _PREFIX + self.path


Endpoint = HostPort | UnixPath


def parse_endpoint(text: str) -> Endpoint:
    """Read ``HOST:PORT`` or ``unix:PATH``.  AddressError if it is neither."""
    if not text.startswith(_PREFIX):
        return HostPort.parse(text)
    path = text[len(_PREFIX) :]
    if not path or "\0" in path or len(os.fsencode(path)) > _LONGEST:
        raise AddressError(f"{text!r} names no Unix socket: write unix:PATH, with at most {_LONGEST} bytes of path")
    if not hasattr(socket, "AF_UNIX"):
        raise AddressError("this system has no Unix sockets: write HOST:PORT")
    return UnixPath(path)


def _reason(error: OSError) -> str:
    """What the system says, without numbers and addresses."""
    if isinstance(error.__context__, OSError) and error.errno is None:
        error = error.__context__
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error)


async def connect(target: Endpoint, timeout: float = _CONNECT_TIMEOUT) -> trio.SocketStream:
    """Connect to a service.  CommandError of kind ``target`` if there is none, in words."""
    try:
        with trio.fail_after(timeout):
            if isinstance(target, UnixPath):
                return await trio.open_unix_socket(target.path)
            stream = await trio.open_tcp_stream(target.host, target.port)
            # a peer that vanished without a word is noticed some day
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return stream
    except trio.TooSlowError:
        raise CommandError("target", f"{target} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise CommandError("target", f"cannot connect to {target}: {_reason(_cause(error))}") from None


def _cause(error: OSError) -> OSError:
    """Of several addresses that were tried, what the last one said."""
    inner = getattr(error.__cause__, "exceptions", None) or [error.__cause__]
    last = inner[-1]
    return last if isinstance(last, OSError) else error


@asynccontextmanager
async def listen(where: Endpoint) -> AsyncIterator[tuple[list[trio.SocketListener], list[Endpoint]]]:
    """Listen for the length of the block; gives the listeners, and what they are bound to.

    CommandError of kind ``bind`` if that is not possible.
    """
    try:
        if isinstance(where, UnixPath):
            listeners = [await _listen_unix(where.path)]
        else:
            listeners = await _listen_tcp(where)
    except OSError as error:
        raise CommandError("bind", f"cannot listen on {where}: {_advice(error)}") from None
    bound: list[Endpoint] = [where]
    if isinstance(where, HostPort):
        bound = [HostPort(*listener.socket.getsockname()[:2]) for listener in listeners]
    try:
        yield listeners, bound
    finally:
        for listener in listeners:
            listener.socket.close()
        if isinstance(where, UnixPath):
            with contextlib.suppress(OSError):
                os.unlink(where.path)  # also when cancelled, so not by a thread


def _advice(error: OSError) -> str:
    reason = _reason(_cause(error))
    if error.errno == errno.EADDRINUSE:
        return f"{reason}; give another, or end the program that has it"
    if error.errno == errno.EACCES:
        return f"{reason}; ports below 1024 are the system's, give a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{reason}; give an address of this host, such as 127.0.0.1"
    return reason


async def _listen_tcp(where: HostPort) -> list[trio.SocketListener]:
    """Listen on those addresses of the name that this host has: "localhost" may stand for ::1, too, where there is no
    IPv6."""
    found = await trio.socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[trio.SocketListener] = []
    missing: OSError | None = None
    try:
        for host in dict.fromkeys(str(entry[4][0]) for entry in found):
            try:
                listeners += await trio.open_tcp_listeners(where.port, host=host)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not listeners:
            raise missing
    except BaseException:  # also when cancelled: nobody else will close them
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


async def _listen_unix(path: str) -> trio.SocketListener:
    await trio.to_thread.run_sync(_remove_stale, path)
    made = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await made.bind(path)
        made.listen(_BACKLOG)
    except BaseException:  # also when cancelled: nobody else will close it
        made.close()
        raise
    return trio.SocketListener(made)


def _remove_stale(path: str) -> None:
    """Remove the socket of a program that is gone; one that answers stays, and bind will say so."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass
