"""The core without I/O: a handshake and a session as state machines, for who brings sockets, clock and chance along.

For simulations, other transports, and protocol work; a program that wants to talk to peers needs :mod:`netmesh_trio`
only.  All that is here is fed with bytes and times and answers with bytes and events:

1. :class:`Initiator` makes an INIT, :class:`Responder` answers it; both have :class:`Established` then, which with both
   :class:`Hello` values makes a :class:`Session` at each end;
2. a session is driven in a fixed order: feed it a batch of datagrams, a timeout or a command; send what
   :meth:`Session.transmit` returns until it returns None; take its events; read its next deadline.

Times are seconds of one clock that never goes back.  No other module of the package below ``netmesh_trio`` promises to
stay as it is, and this one may change with any minor version before 1.0.
"""

from __future__ import annotations

from .paths.path import DirectKey, Path, PathKey
from .session.events import (
    Closed,
    ControlReceived,
    DatagramReceived,
    PathActive,
    PathQuiet,
    PathSuspect,
    PathValidated,
    StreamArrived,
    StreamsAllowed,
    StreamStopped,
)
from .session.events import Event as SessionEvent
from .session.handshake import (
    CookieReply,
    Drop,
    Established,
    HandshakeLimits,
    HandshakeRejected,
    HandshakeStats,
    Indices,
    Initiator,
    Reply,
    Responder,
    peek_indices_untrusted,
)
from .session.keys import KeyRing
from .session.outgoing import Transmit
from .session.session import Session, SessionStats, SessionTimes
from .wire.errors import DecodeError
from .wire.hello import Hello, service_tag

__all__ = [
    "Closed",
    "ControlReceived",
    "CookieReply",
    "DatagramReceived",
    "DecodeError",
    "DirectKey",
    "Drop",
    "Established",
    "HandshakeLimits",
    "HandshakeRejected",
    "HandshakeStats",
    "Hello",
    "Indices",
    "Initiator",
    "KeyRing",
    "Path",
    "PathActive",
    "PathKey",
    "PathQuiet",
    "PathSuspect",
    "PathValidated",
    "Reply",
    "Responder",
    "Session",
    "SessionEvent",
    "SessionStats",
    "SessionTimes",
    "StreamArrived",
    "StreamStopped",
    "StreamsAllowed",
    "Transmit",
    "peek_indices_untrusted",
    "service_tag",
]
