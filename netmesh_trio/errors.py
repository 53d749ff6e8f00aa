"""Errors that a program using netmesh_trio can meet.

Two families, as in trio: *you* did it (:class:`ConfigError`, :class:`AddressError`, :class:`IdentityError`,
:class:`BindError`, :class:`ServiceInUseError`, :class:`DatagramTooLargeError`, :class:`NodeClosedError`), *the world*
did it (:class:`PeerUnreachableError`, :class:`SessionClosedError`, :class:`StreamResetError`,
:class:`ServiceNotFoundError`).  Those that end a stream are also :class:`trio.BrokenResourceError` and
:class:`anyio.BrokenResourceError`, so code written for any trio or anyio stream handles them.  What bad bytes from the
network do is not here: they are dropped and counted, never raised at a program.
"""

from __future__ import annotations

import anyio
import trio

__all__ = [
    "AddressError",
    "BindError",
    "ConfigError",
    "DatagramTooLargeError",
    "IdentityError",
    "NetmeshError",
    "NodeClosedError",
    "PeerUnreachableError",
    "ServiceInUseError",
    "ServiceNotFoundError",
    "SessionClosedError",
    "StreamResetError",
]


class NetmeshError(Exception):
    """Base of every error that this library raises on purpose.

    ``kind`` is a short, stable, machine-readable name; ``str(error)`` is one line for people that says what
    happened and, where there is something to do, what.
    """

    kind: str = "error"


class ConfigError(NetmeshError, ValueError):
    """A configuration value is out of range or contradicts another.  The caller's to mend."""

    kind = "config"


class AddressError(NetmeshError, ValueError):
    """An address, peer id or ``netmesh://`` URI does not parse, or a host name does not resolve."""

    kind = "address"


class IdentityError(NetmeshError):
    """An identity or network-key file cannot be read, written or trusted."""

    kind = "identity"


class BindError(NetmeshError, OSError):
    """The local UDP address cannot be bound (in use, not ours, no permission)."""

    kind = "bind"

    def __str__(self) -> str:
        return str(self.args[-1]) if self.args else ""


class NodeClosedError(NetmeshError, trio.ClosedResourceError, anyio.ClosedResourceError):
    """The node was closed by its own program; open a new one."""

    kind = "node-closed"


class PeerUnreachableError(NetmeshError):
    """No connected node leads to the peer now, or it did not answer in time.  Trying again later is sound."""

    kind = "peer-unreachable"


class ServiceInUseError(NetmeshError, ValueError):
    """This node already serves a service of that name; close the other listener first."""

    kind = "service-in-use"


class DatagramTooLargeError(NetmeshError, ValueError):
    """A datagram is larger than the path carries in one packet; send less, or open a stream."""

    kind = "datagram-too-large"


class SessionClosedError(NetmeshError, trio.BrokenResourceError, anyio.BrokenResourceError):
    """The session under a stream or peer is over: either side closed it, or the peer restarted or stopped answering.

    ``reason`` is one of ``"closed"``, ``"restarted"``, ``"timeout"``, ``"protocol"``, and ``"fault"``: an exception
    inside the library, which its log has, ended the session instead of the node.
    """

    kind = "session-closed"

    def __init__(self, message: str, reason: str = "closed") -> None:
        super().__init__(message)
        self.reason = reason


class StreamResetError(NetmeshError, trio.BrokenResourceError, anyio.BrokenResourceError):
    """The other side reset the stream, or asked us to stop sending on it; ``code`` is the code it gave."""

    kind = "stream-reset"

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class ServiceNotFoundError(NetmeshError, trio.BrokenResourceError, anyio.BrokenResourceError):
    """The peer serves nothing under the name that a stream was opened for."""

    kind = "service-not-found"

    def __init__(self, message: str, service: str) -> None:
        super().__init__(message)
        self.service = service
