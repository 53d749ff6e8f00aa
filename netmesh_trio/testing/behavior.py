"""What a NAT does, in the words of RFC 4787, and the usual kinds by name.

The RFC separates two questions that the older names (full-cone, symmetric) mix:

- *mapping* (section 4.1): when one socket behind the NAT sends to several destinations, does it
  keep one outside port, or get one for each destination address, or for each destination address
  and port?
- *filtering* (section 5): from whom does the NAT let a packet in to an outside port: from anybody,
  from addresses, or from addresses and ports that the socket has sent to?
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import attrs

__all__ = [
    "ADDRESS_RESTRICTED",
    "FIREWALL",
    "FULL_CONE",
    "KINDS",
    "PORT_PRESERVING",
    "PORT_RESTRICTED",
    "SYMMETRIC",
    "SYMMETRIC_STEP",
    "Dependence",
    "NatBehavior",
    "as_chain",
]


class Dependence(str, enum.Enum):
    """On how much of the remote address a mapping or a filter depends."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


def _is_positive(_instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} is {value}: it must be more than 0")


@attrs.frozen(kw_only=True)
class NatBehavior:
    """What a NAT or a firewall does.  ``mapping`` and ``filtering`` also take their names."""

    mapping: Dependence = attrs.field(default=Dependence.ENDPOINT_INDEPENDENT, converter=Dependence)
    """RFC 4787 section 4.1."""

    filtering: Dependence = attrs.field(default=Dependence.ADDRESS_AND_PORT_DEPENDENT, converter=Dependence)
    """RFC 4787 section 5."""

    port_preservation: bool = False
    """Use the inside port as the outside port unless another mapping has it (section 4.2.1)."""

    port_step: int | None = attrs.field(default=None, validator=attrs.validators.optional(_is_positive))
    """A new outside port is the last one plus this; None draws it at random from 1024 to 65535."""

    lifetime: float = attrs.field(default=120.0, validator=_is_positive)
    """Seconds without an outbound packet after which a mapping, or one remote's leave to get in,
    ends.

    120 s is the RFC's minimum (REQ-5); many routers forget after 30 s.
    """

    inbound_refresh: bool = False
    """Whether a packet that gets in prolongs the mapping, too (REQ-6 lets a NAT choose)."""

    hairpin: bool = False
    """Whether one host behind the NAT reaches another by its outside address (section 6)."""

    translates: bool = True
    """False makes it a firewall: addresses stay what they are, and only the filter works."""

    mapping_limit: int = attrs.field(default=65_536, validator=_is_positive)
    """Mappings at once, at most; beyond, new ones are refused and counted."""


FULL_CONE: Final = NatBehavior(filtering=Dependence.ENDPOINT_INDEPENDENT)
"""One outside port a socket, open to everybody."""

ADDRESS_RESTRICTED: Final = NatBehavior(filtering=Dependence.ADDRESS_DEPENDENT)
"""One outside port a socket, open to the addresses that it has sent to."""

PORT_RESTRICTED: Final = NatBehavior()
"""One outside port a socket, open to the addresses and ports that it has sent to."""

PORT_PRESERVING: Final = NatBehavior(port_preservation=True)
"""As most home routers do: port-restricted, with the inside port kept unless taken."""

SYMMETRIC: Final = NatBehavior(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT)
"""A new, random outside port for each destination, open to that destination only."""

SYMMETRIC_STEP: Final = NatBehavior(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, port_step=1)
"""As SYMMETRIC, with the next port each time."""

FIREWALL: Final = NatBehavior(translates=False)
"""Public addresses; only replies get in."""

KINDS: Final[Mapping[str, tuple[NatBehavior, ...]]] = MappingProxyType(
    {
        "none": (),
        "full-cone": (FULL_CONE,),
        "address-restricted": (ADDRESS_RESTRICTED,),
        "port-restricted": (PORT_RESTRICTED,),
        "port-preserving": (PORT_PRESERVING,),
        "symmetric": (SYMMETRIC,),
        "symmetric-step": (SYMMETRIC_STEP,),
        "firewall": (FIREWALL,),
        "double": (PORT_PRESERVING, PORT_RESTRICTED),
        "double-symmetric": (PORT_PRESERVING, SYMMETRIC),
    }
)
"""What may stand between a host and the internet, by name: the boxes from the host outward.

``double`` is a home router behind a carrier's NAT.
"""


def as_chain(place: str | NatBehavior | Sequence[NatBehavior] | None) -> tuple[NatBehavior, ...]:
    """The boxes from the host outward that ``place`` means: a name in :data:`KINDS`, one box,
    several, none.

    :raises ValueError: for a name that is not in :data:`KINDS`.
    """
    if place is None:
        return ()
    if isinstance(place, NatBehavior):
        return (place,)
    if isinstance(place, str):
        try:
            return KINDS[place]
        except KeyError:
            raise ValueError(f"no kind of NAT is called {place!r}: use one of {', '.join(KINDS)}") from None
    return tuple(place)
