"""Whom to take for one: keys cost nothing, addresses cost something."""

from __future__ import annotations

from collections.abc import Hashable

from ..identity import PeerId
from ..paths.path import Path
from ..session.cookies import source_prefix

__all__ = ["household"]


def household(peer_id: PeerId, path: Path | None) -> Hashable:
    """What a peer shares in, when somebody has to make room: all behind an IPv4 address, in an IPv6 /64, or over one
    relay are taken for one.  On this very host everybody is somebody else."""
    if path is None:
        return peer_id
    if path.via is not None:
        return ("over", path.via)
    address = path.address
    if address is None or address.is_loopback:
        return peer_id
    return source_prefix(address.pack())
