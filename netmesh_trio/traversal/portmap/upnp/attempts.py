"""Which mapping to ask a router for next, and what its answers mean.  Decisions only: values in, values out.

The error codes are those of WANIPConnection:1 (section 2.4) and :2 (section 2.5), and of WANIPv6FirewallControl:1.
"""

from __future__ import annotations

import enum
import math
import random
import re

import attrs

from ..mapping import MAX_LIFETIME, PortMapCause
from .soap import Fault

__all__ = [
    "MAX_LEASE",
    "MAX_PINHOLE_LEASE",
    "Attempt",
    "Entry",
    "Owner",
    "after_fault",
    "cause_of",
    "first_attempt",
    "granted_lifetime",
    "lease_of",
    "number",
    "owner_of",
]

MAX_LEASE = 604800
"""Seconds of a mapping (WANIPConnection:2, 2.3.16)."""

MAX_PINHOLE_LEASE = 86400
"""Seconds of a pinhole (WANIPv6FirewallControl:1, 2.2.9)."""

_INVALID_ACTION = (401, 602)
_TAKEN = (718, 729)
_RETRY_ELSEWHERE = (
    *_TAKEN,
    501,  # action failed: some routers say it for a port that is taken
    606,  # not authorized: of some ports only, perhaps
)
_CAUSES = {
    401: PortMapCause.UNSUPPORTED,
    402: PortMapCause.UNSUPPORTED,
    602: PortMapCause.UNSUPPORTED,
    603: PortMapCause.OUT_OF_RESOURCES,
    701: PortMapCause.OUT_OF_RESOURCES,  # of pinholes
    702: PortMapCause.UNSUPPORTED,  # the firewall is off
    705: PortMapCause.UNSUPPORTED,  # UDP is not among the protocols
    708: PortMapCause.UNSUPPORTED,  # only for one remote host
    715: PortMapCause.UNSUPPORTED,  # only for one remote host
    718: PortMapCause.CONFLICT,
    724: PortMapCause.CONFLICT,  # the same port inside and outside, and that one is taken
    725: PortMapCause.UNSUPPORTED,
    727: PortMapCause.UNSUPPORTED,  # all ports or none
    728: PortMapCause.OUT_OF_RESOURCES,
    729: PortMapCause.CONFLICT,
    732: PortMapCause.UNSUPPORTED,
}
_NUMBER = re.compile(r"[0-9]{1,10}")


def number(text: str) -> int | None:
    """An unsigned number of a router; None if it is none, or absurdly large."""
    return int(text) if _NUMBER.fullmatch(text) else None


def cause_of(code: int) -> PortMapCause:
    """What an error code that ends the attempts means."""
    return _CAUSES.get(code, PortMapCause.REFUSED)


def lease_of(lifetime: float, longest: int) -> int:
    """The seconds to ask for.  Never 0, which would be for ever."""
    return max(1, math.ceil(min(lifetime, longest)))


@attrs.frozen
class Attempt:
    """One request for a mapping."""

    external_port: int
    lease: int
    """Seconds; 0 for a mapping that stays until it is removed."""
    any_port: bool = False
    """Whether to ask by AddAnyPortMapping for this port or any other that is free."""
    may_ask_any: bool = False
    """Whether AddAnyPortMapping is left to be tried."""
    others: tuple[int, ...] = ()
    """Ports to try after this."""
    tried: frozenset[int] = frozenset()
    """Ports that were tried before this."""


def first_attempt(
    external_port: int, lifetime: float, *, version: int, only_permanent: bool, chance: random.Random
) -> Attempt:
    """What to ask for first: the very port that is wanted.

    :param version: of the service; from 2 on it has AddAnyPortMapping.
    :param only_permanent: whether the router is known to give no lease.
    """
    near = [port for port in range(external_port + 1, external_port + 4) if port < 65536]
    far = chance.sample(range(49152, 65536), 5 - len(near))
    lease = 0 if only_permanent else lease_of(lifetime, MAX_LEASE)
    return Attempt(external_port, lease, may_ask_any=version >= 2, others=(*near, *far))


def after_fault(attempt: Attempt, code: int, internal_port: int) -> Attempt | None:
    """What to ask for after the router refused with ``code``; None if nothing is left to try."""
    exact = attrs.evolve(attempt, any_port=False, may_ask_any=False)
    if attempt.any_port and code != 728:
        # For whatever reason: AddPortMapping is what routers are good at.
        return _next_port(exact)
    if code in (402, 725):
        # 725: only permanent leases.  Some say 402, invalid arguments, for the same.
        return attrs.evolve(exact, lease=0) if attempt.lease else None
    if code == 724:
        if internal_port == attempt.external_port or internal_port in attempt.tried:
            return None
        return _at(attrs.evolve(exact, others=()), internal_port)
    if code in _TAKEN and attempt.may_ask_any:
        return attrs.evolve(exact, any_port=True)
    if code in _RETRY_ELSEWHERE:
        return _next_port(exact)
    return None


def _next_port(attempt: Attempt) -> Attempt | None:
    if not attempt.others:
        return None
    return _at(attrs.evolve(attempt, others=attempt.others[1:]), attempt.others[0])


def _at(attempt: Attempt, port: int) -> Attempt:
    return attrs.evolve(attempt, external_port=port, tried=attempt.tried | {attempt.external_port})


class Owner(enum.Enum):
    """Whose a mapping is."""

    OURS = "ours"
    ANOTHER = "another"
    NOBODY = "nobody"
    UNKNOWN = "unknown"
    """The router does not tell, which is not the same as that there is none."""


@attrs.frozen
class Entry:
    """A mapping as the router tells it."""

    client: str
    port: int | None
    enabled: bool
    lease: int | None
    description: str

    @classmethod
    def of(cls, results: dict[str, str]) -> Entry:
        """Of what GetSpecificPortMappingEntry or GetGenericPortMappingEntry gave."""
        return cls(
            client=results.get("NewInternalClient", ""),
            port=number(results.get("NewInternalPort", "")),
            enabled=results.get("NewEnabled", "1").lower() not in ("0", "false", "no"),
            lease=number(results.get("NewLeaseDuration", "")),
            description=results.get("NewPortMappingDescription", ""),
        )


def owner_of(entry: Entry | Fault, local: str, internal_port: int) -> Owner:
    """Whose the mapping is, for the host ``local`` and its port."""
    if isinstance(entry, Fault):
        return Owner.NOBODY if entry.code == 714 else Owner.UNKNOWN
    if entry.port is None or not re.fullmatch(r"[0-9.]{7,15}", entry.client):
        return Owner.UNKNOWN  # names, and what makes no sense
    return Owner.OURS if (entry.client, entry.port) == (local, internal_port) else Owner.ANOTHER


def granted_lifetime(asked: int, entry: Entry | Fault) -> float:
    """The seconds that a mapping lives, by what was asked for and what the router says that it has.

    Routers that say 0 although they were asked for a lease may mean "for ever" or nothing at all: it is renewed as if
    it ended, and removed as if it did not.
    """
    told = None if isinstance(entry, Fault) else entry.lease
    if told:
        return min(float(told), MAX_LIFETIME)
    return float(asked) if asked else math.inf
