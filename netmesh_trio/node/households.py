"""Whom to take for one: keys cost nothing, addresses cost something."""

from __future__ import annotations

from collections.abc import Hashable

from ..addresses import Address
from ..identity import PeerId
from ..paths.path import PathKey
from ..session.cookies import source_prefix

__all__ = ["household"]

_UNPROVEN = "unproven"


def household(
    who: Hashable, key: PathKey, via: PeerId | None, carrier: Address | None, *, proven: bool = True
) -> Hashable:
    """What *who*, on that path, shares in, when somebody has to make room: all behind an IPv4 address, in an IPv6 /64,
    or over one relay are taken for one.  On this very host everybody is somebody else.

    *carrier* is where the relay *via* is.  Anybody can be a relay, so those at one address are one, too.  Any address
    can be written as the source of a packet, so all at addresses that are not *proven* are one; what comes over a relay
    is sure to have come over it.
    """
    if isinstance(key, bytes):
        return "over", via if via is None or carrier is None else _at(via, carrier)
    return _at(who, key[1]) if proven else _UNPROVEN


def _at(who: Hashable, address: Address) -> Hashable:
    return who if address.is_loopback else source_prefix(address.pack())
