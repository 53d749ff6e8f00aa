"""What to do about a mapping, and when: values in, value out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from .mapping import PortMapping, PortMapProtocol

__all__ = ["FAILURES", "PROBE_TIME", "choose_protocol", "renew_after", "retry_after"]

PREFERENCE: Final[tuple[PortMapProtocol, ...]] = ("pcp", "nat-pmp", "upnp")
"""PCP tells a conflict and does IPv6; NAT-PMP takes two datagrams; UPnP takes a description, XML and connections."""
PROBE_TIME: Final = 2.0
"""Seconds within which the best answer wins."""
GRACE: Final = 0.3
"""Seconds that a better protocol gets once a worse one has answered."""
FAILURES: Final = 3
"""Renewals in a row that fail before a mapping counts as lost."""
_SHORTEST: Final = 1.0
_FIRST_RETRY: Final = 10.0
_LAST_RETRY: Final = 300.0


def choose_protocol(
    answered: Collection[PortMapProtocol],
    pending: Collection[PortMapProtocol],
    since_first: float,
) -> tuple[PortMapProtocol | None, float]:
    """Which protocol to use of those that have answered, or None and for how many seconds to wait for others.

    ``since_first`` are the seconds since the first answer; ``pending`` are those that may still answer.
    """
    for protocol in PREFERENCE:
        if protocol in answered:
            return protocol, 0.0
        if protocol in pending and since_first < GRACE:
            # a hair's breadth would be too short for the clock to advance
            return None, max(0.001, GRACE - since_first) if answered else PROBE_TIME
    return None, PROBE_TIME if pending else 0.0


def renew_after(mapping: PortMapping, renewal: float, failures: int) -> float:
    """Seconds from the last success to the next renewal: half the lease, or ``renewal`` if that is sooner.

    After each failure half of what is left of the lease is waited again (RFC 6887, 11.2.1), so that three attempts fit
    in; between two there are a second or more.
    """
    first = min(mapping.lifetime / 2, renewal)
    if not failures:
        return max(_SHORTEST, first)
    # of a permanent mapping, or one renewed long before its end, as if the lease were twice as long as the renewal
    lease = min(mapping.lifetime, 2 * first)
    return max(_SHORTEST * (failures + 1), lease - lease / (1 << failures + 1))


def retry_after(failures: Sequence[float | None]) -> float:
    """Seconds until routers are asked again, after so many fruitless rounds; each names the wait that the router asked
    for, if it did."""
    wait = min(_FIRST_RETRY * (1 << max(0, len(failures) - 1)), _LAST_RETRY)
    wished = failures[-1] if failures else None
    return wait if wished is None else min(max(wait, wished), _LAST_RETRY)
