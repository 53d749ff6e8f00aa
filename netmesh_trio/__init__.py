"""Encrypted mesh networking for trio: programs talk to each other wherever they run.

From the ground up, imports going down only:

* ``identity``, ``addresses``, ``config``, ``errors``, ``events``, ``stats``: values;
* ``wire``: bytes to values and back;
* ``session`` and ``paths``: one peer's keys, streams and loss recovery, and the ways to it; no I/O;
* ``routing``: circuits, announcements, routes; ``traversal``: shorter paths; decisions only;
* ``node``: trio: sockets, tasks, the objects of this module;
* ``testing`` (a virtual internet) and ``cli``.
"""

from __future__ import annotations

from .addresses import Address, HostPort, MeshUri
from .config import NodeConfig
from .errors import (
    AddressError,
    BindError,
    ConfigError,
    DatagramTooLargeError,
    IdentityError,
    NetmeshError,
    NodeClosedError,
    PeerUnreachableError,
    ServiceInUseError,
    ServiceNotFoundError,
    SessionClosedError,
    StreamResetError,
)
from .events import (
    Event,
    EventsLost,
    KeyInUse,
    NatChanged,
    PathChanged,
    PathKind,
    PathReport,
    PeerConnected,
    PeerDisconnected,
    PortMapChanged,
)
from .identity import Identity, NetworkKey, PeerId
from .node.node import Node, open_node
from .node.peer import Peer
from .node.services import Datagram, Listener
from .node.streams import Stream
from .stats import NodeStats, PeerStats
from .traversal.classify import NatType
from .traversal.config import TraversalConfig
from .traversal.errors import TraversalError
from .traversal.report import NatReport

__version__ = "0.1.0"

__all__ = [
    "Address",
    "AddressError",
    "BindError",
    "ConfigError",
    "Datagram",
    "DatagramTooLargeError",
    "Event",
    "EventsLost",
    "HostPort",
    "Identity",
    "IdentityError",
    "KeyInUse",
    "Listener",
    "MeshUri",
    "NatChanged",
    "NatReport",
    "NatType",
    "NetmeshError",
    "NetworkKey",
    "Node",
    "NodeClosedError",
    "NodeConfig",
    "NodeStats",
    "PathChanged",
    "PathKind",
    "PathReport",
    "Peer",
    "PeerConnected",
    "PeerDisconnected",
    "PeerId",
    "PeerStats",
    "PeerUnreachableError",
    "PortMapChanged",
    "ServiceInUseError",
    "ServiceNotFoundError",
    "SessionClosedError",
    "Stream",
    "StreamResetError",
    "TraversalConfig",
    "TraversalError",
    "__version__",
    "open_node",
]
