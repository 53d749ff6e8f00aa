"""Who can be reached through whom: announcements, routes, and the circuits of a relay.  All of it
is pure."""

from __future__ import annotations

from netmesh_trio.routing.announcements import (
    MAX_ANNOUNCEMENT_HOPS,
    MAX_LIFETIME,
    MAX_RELAYS,
    MAX_TAGS,
    PREFIX_HUB,
    TAG_NAT_TRAVERSAL,
    TAG_RELAY_CAPABLE,
    Announcement,
    Envelope,
    withdrawal,
)
from netmesh_trio.routing.circuits import (
    CIRCUIT_ID_SIZE,
    MAX_FIRST_PACKET,
    MAX_HOPS,
    CircuitMessage,
    CircuitRefused,
    CloseCircuit,
    Leg,
    OpenCircuit,
    Opened,
    RefusalReason,
    RelayLimits,
    RelayPolicy,
    RelayStats,
    RelayTable,
    decode_circuit_message_untrusted,
)
from netmesh_trio.routing.graph import Effort, MeshGraph
from netmesh_trio.routing.hubs import HUB_EFFORT, choose_listed, hub_rank, is_hub_needed
from netmesh_trio.routing.routes import RouteFinder, find_next_hops
from netmesh_trio.routing.shares import Places, Shares
from netmesh_trio.routing.store import (
    AnnouncementStore,
    Decision,
    StoreLimits,
    StoreStats,
    Verdict,
)

__all__ = [
    "CIRCUIT_ID_SIZE",
    "HUB_EFFORT",
    "MAX_ANNOUNCEMENT_HOPS",
    "MAX_FIRST_PACKET",
    "MAX_HOPS",
    "MAX_LIFETIME",
    "MAX_RELAYS",
    "MAX_TAGS",
    "PREFIX_HUB",
    "TAG_NAT_TRAVERSAL",
    "TAG_RELAY_CAPABLE",
    "Announcement",
    "AnnouncementStore",
    "CircuitMessage",
    "CircuitRefused",
    "CloseCircuit",
    "Decision",
    "Effort",
    "Envelope",
    "Leg",
    "MeshGraph",
    "OpenCircuit",
    "Opened",
    "Places",
    "RefusalReason",
    "RelayLimits",
    "RelayPolicy",
    "RelayStats",
    "RelayTable",
    "RouteFinder",
    "Shares",
    "StoreLimits",
    "StoreStats",
    "Verdict",
    "choose_listed",
    "decode_circuit_message_untrusted",
    "find_next_hops",
    "hub_rank",
    "is_hub_needed",
    "withdrawal",
]
