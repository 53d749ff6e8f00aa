"""Which of its addresses this host sends from."""

from __future__ import annotations

import socket
from typing import Final

from ..addresses import Address

__all__ = ["ANYWHERE", "source_towards"]

ANYWHERE: Final = {4: "192.0.2.1", 6: "2001:db8::1"}
"""For each family an address that stands for the internet, and is no host of anybody's (RFC 5737, RFC 3849)."""


def source_towards(host: str) -> str | None:
    """The address that the system would send from to a numeric host (RFC 6724), None without a route; sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # of a UDP socket: no packet
            return Address.from_sockaddr(probe.getsockname()).host
    except OSError:
        return None
