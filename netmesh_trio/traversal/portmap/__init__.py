"""Port mappings: asking the router, by PCP, NAT-PMP or UPnP, to let the packets of others in.

A node with a mapping is easier to reach directly.  One without is reached as well, over the relay where need be.
"""

from __future__ import annotations

from .mapping import (
    Gateway,
    PortMapCause,
    PortMapClient,
    PortMapError,
    PortMapping,
    RouterReport,
    RouterStatus,
    is_public,
)

__all__ = [
    "Gateway",
    "PortMapCause",
    "PortMapClient",
    "PortMapError",
    "PortMapping",
    "RouterReport",
    "RouterStatus",
    "is_public",
]
