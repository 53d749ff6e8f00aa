"""TCP and Unix-socket services over streams of the mesh."""

from __future__ import annotations

from netmesh_trio.cli.tunnel.endpoints import Endpoint, connect, listen, parse_endpoint
from netmesh_trio.cli.tunnel.gate import Gate, turn_away
from netmesh_trio.cli.tunnel.splice import CODE_BUSY, CODE_NOT_ALLOWED, CODE_TARGET, why_ended

__all__ = [
    "CODE_BUSY",
    "CODE_NOT_ALLOWED",
    "CODE_TARGET",
    "Endpoint",
    "Gate",
    "connect",
    "listen",
    "parse_endpoint",
    "turn_away",
    "why_ended",
]
