"""Shorter paths: what NAT a node is behind, how two nodes find a direct path, and why they have none.

All of it makes paths shorter and relays less busy.  None of it is needed to communicate: two nodes that any chain of
connected nodes joins exchange every message over relays, whatever their NATs are, and go on doing so where no direct
path is found.
"""

from __future__ import annotations

from ..wire.frames import SUBPROTOCOL_REFLEX, SUBPROTOCOL_RENDEZVOUS
from .classify import NatType
from .config import TraversalConfig
from .errors import (
    PeerNotReachableError,
    PortMapUnavailableError,
    PunchFailedError,
    ReflexTimeoutError,
    RendezvousNoRelayError,
    RendezvousRejectedError,
    TransportError,
    TraversalError,
    UnsupportedError,
)
from .matrix import PunchAction, pair_action
from .portmap.mapping import Gateway, PortMapCause, PortMapError, PortMapping, RouterReport, RouterStatus
from .report import Dependence, NatReport
from .stats import Histogram, TraversalStats, TraversalStatsSnapshot

__all__ = [
    "SUBPROTOCOL_REFLEX",
    "SUBPROTOCOL_RENDEZVOUS",
    "Dependence",
    "Gateway",
    "Histogram",
    "NatReport",
    "NatType",
    "PeerNotReachableError",
    "PortMapCause",
    "PortMapError",
    "PortMapUnavailableError",
    "PortMapping",
    "PunchAction",
    "PunchFailedError",
    "ReflexTimeoutError",
    "RendezvousNoRelayError",
    "RendezvousRejectedError",
    "RouterReport",
    "RouterStatus",
    "TransportError",
    "TraversalConfig",
    "TraversalError",
    "TraversalStats",
    "TraversalStatsSnapshot",
    "UnsupportedError",
    "pair_action",
]
