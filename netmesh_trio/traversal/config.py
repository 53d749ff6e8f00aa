"""How a node looks for shorter paths."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs

from ..addresses import Address
from ..errors import AddressError, ConfigError
from ..reprs import show_changed

__all__ = ["TraversalConfig", "parse_reflex_override"]

_MAX_KEEP_ALIVES = 32


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _between(low: float, high: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not _is_number(value) or not low <= value <= high:
            raise ConfigError(
                f"traversal {attribute.name} is {value!r}; give a number of seconds from {low:g} to {high:g}"
            )

    return check


def _bool(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not True and value is not False:
        raise ConfigError(f"traversal {attribute.name} is {value!r}; give True or False")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _keep_alives(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if (
        not isinstance(value, tuple)
        or not 1 <= len(value) <= _MAX_KEEP_ALIVES
        or not all(_is_number(v) and 0 <= v <= 60 for v in value)
        or any(a >= b for a, b in pairwise(value))
    ):
        raise ConfigError(
            f"traversal {attribute.name} is {value!r}; give 1 to {_MAX_KEEP_ALIVES} times in seconds from 0 to 60, "
            "each later than the one before"
        )


def _backoff(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if (
        not isinstance(value, tuple)
        or len(value) != 2
        or not all(_is_number(v) for v in value)
        or not 0.1 <= value[0] <= value[1] <= 86400
    ):
        raise ConfigError(
            f"traversal {attribute.name} is {value!r}; give (first, longest) in seconds from 0.1 to 86400, "
            "such as (30, 600)"
        )


def parse_reflex_override(value: Any) -> Address | None:
    """An address as :attr:`TraversalConfig.reflex_override` takes it, or None; else ConfigError."""
    if value is None:
        return None
    address: Address | None = None
    try:
        if isinstance(value, str):
            address = Address.parse(value)
        elif isinstance(value, tuple) and len(value) == 2:
            address = Address.parse(str(Address(*value)))
    except (AddressError, TypeError) as error:
        raise ConfigError(f"traversal reflex_override is {value!r}: {error}") from None
    if address is None or not address.is_unicast or address.port == 0:
        raise ConfigError(
            f"traversal reflex_override is {value!r}; give the address and port that others reach this node at, "
            "such as Address('203.0.113.7', 4650), or None"
        )
    return address


@attrs.frozen(kw_only=True, repr=False)
class TraversalConfig:
    """Settings of the search for shorter paths.  None of them is needed to communicate: the relay always carries.

    Times are in seconds.
    """

    #: Whether this node takes part at all.  Without, it does not carry the tag ``nat-traversal`` and its sessions
    #: stay on the paths that dialing gave them.
    enabled: bool = attrs.field(default=True, validator=_bool)
    #: How long to wait until a peer says which address it sees.
    reflex_timeout: float = attrs.field(default=3.0, validator=_between(0.05, 60))
    #: How long one classification of the own NAT may take; it is made from what has been answered by then.
    classify_deadline: float = attrs.field(default=5.0, validator=_between(0.05, 60))
    #: Time between two classifications when nothing calls for one earlier.
    classify_interval: float = attrs.field(default=300.0, validator=_between(1, 86400))
    #: The most that a coordinator lets both ends wait so that they fire together.
    punch_fire_lead: float = attrs.field(default=0.5, validator=_between(0, 1))
    #: How long one punch attempt may take, from the introduction on.
    punch_deadline: float = attrs.field(default=5.0, validator=_between(0.1, 60))
    #: When the packets of a keep-alive train leave, from the moment of fire, until one is answered.
    keep_alives: tuple[float, ...] = attrs.field(
        default=(0.0, 0.025, 0.075, 0.175, 0.375, 0.775, 1.575, 3.175), converter=_as_tuple, validator=_keep_alives
    )
    #: Whether to ask the router for a port mapping (UPnP, NAT-PMP, PCP).
    try_port_mapping: bool = attrs.field(default=False, validator=_bool)
    #: Time between two renewals of a port mapping.
    port_mapping_renewal: float = attrs.field(default=1800.0, validator=_between(1, 86400))
    #: Time for which a port mapping is asked for; longer than the time between renewals.
    port_mapping_lease: float = attrs.field(default=3600.0, validator=_between(2, 604800))
    #: Whether relayed sessions move to direct paths by themselves.
    auto_direct_upgrade: bool = attrs.field(default=True, validator=_bool)
    #: After a failed upgrade, how long to wait before the next one: at first, and at most; doubled each time.
    upgrade_backoff: tuple[float, float] = attrs.field(default=(30.0, 600.0), converter=_as_tuple, validator=_backoff)
    #: The address that others reach this node at, if the program knows it (a forwarded port).  It is announced in
    #: place of what peers observe, and makes the node ``open``.  Also takes text such as ``"203.0.113.7:4650"``.
    reflex_override: Address | None = attrs.field(default=None, converter=parse_reflex_override)

    def __attrs_post_init__(self) -> None:
        if self.port_mapping_renewal >= self.port_mapping_lease:
            raise ConfigError(
                f"traversal port_mapping_renewal is {self.port_mapping_renewal:g}, but port_mapping_lease is "
                f"{self.port_mapping_lease:g}; renew well before the lease ends, at half of it for example"
            )

    def __repr__(self) -> str:
        return show_changed(self)
