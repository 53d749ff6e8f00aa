"""The virtual internet: hosts behind NATs and bad links, in one process, by any clock."""

from __future__ import annotations

from netmesh_trio.testing.behavior import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    KINDS,
    PORT_PRESERVING,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_STEP,
    Dependence,
    NatBehavior,
)
from netmesh_trio.testing.host import Host, HostStats, Interface
from netmesh_trio.testing.internet import VirtualInternet
from netmesh_trio.testing.link import Link, LinkDirection, LinkSettings, LinkStats
from netmesh_trio.testing.mesh import Mesh, Place, open_mesh
from netmesh_trio.testing.nat import Nat, NatStats
from netmesh_trio.testing.oracle import direct_path_possible
from netmesh_trio.testing.packets import DROP, PASS, LogEntry, Packet, Verdict
from netmesh_trio.testing.realm import Realm
from netmesh_trio.testing.socket import SocketStats, VirtualUdpSocket

__all__ = [
    "ADDRESS_RESTRICTED",
    "DROP",
    "FIREWALL",
    "FULL_CONE",
    "KINDS",
    "PASS",
    "PORT_PRESERVING",
    "PORT_RESTRICTED",
    "SYMMETRIC",
    "SYMMETRIC_STEP",
    "Dependence",
    "Host",
    "HostStats",
    "Interface",
    "Link",
    "LinkDirection",
    "LinkSettings",
    "LinkStats",
    "LogEntry",
    "Mesh",
    "Nat",
    "NatBehavior",
    "NatStats",
    "Packet",
    "Place",
    "Realm",
    "SocketStats",
    "Verdict",
    "VirtualInternet",
    "VirtualUdpSocket",
    "direct_path_possible",
    "open_mesh",
]
