"""How a node looks for shorter paths."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs

from ..addresses import Address
from ..checks import boolean, is_number, number
from ..errors import AddressError, ConfigError
from ..reprs import show_changed

__all__ = ["TraversalConfig", "parse_reflex_override"]

_MAX_KEEP_ALIVES = 32


def _seconds(low: float, high: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    return number(low, high, "seconds", of="traversal ")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _keep_alives(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if (
        not isinstance(value, tuple)
        or not 1 <= len(value) <= _MAX_KEEP_ALIVES
        or not all(is_number(v) and 0 <= v <= 60 for v in value)
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
        or not all(is_number(v) for v in value)
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

    Attributes:
        enabled: Whether this node takes part at all.  Without, it does not carry the tag ``nat-traversal`` and its
            sessions stay on the paths that dialing gave them.  Default: ``True``.
        reflex_timeout: Seconds to wait until a peer says which address it sees, 0.05 to 60.  Default: ``3.0``.
        classify_deadline: Seconds that one classification of the own NAT may take, 0.05 to 60; it is made from what
            has been answered by then.  Default: ``5.0``.
        classify_interval: Seconds between two classifications when nothing calls for one earlier, 1 to 86400.
            Default: ``300.0``.
        punch_fire_lead: The most seconds that a coordinator lets both ends wait so that they fire together, 0 to 1.
            Default: ``0.5``.
        punch_deadline: Seconds that one punch attempt may take, from the introduction on, 0.1 to 60.
            Default: ``5.0``.
        keep_alives: When the packets of a keep-alive train leave, in seconds from the moment of fire, until one is
            answered: up to 32 times from 0 to 60, each later than the one before.
            Default: ``(0.0, 0.025, 0.075, 0.175, 0.375, 0.775, 1.575, 3.175)``.
        try_port_mapping: Whether to ask the router for a port mapping (UPnP, NAT-PMP, PCP).  Default: ``False``.
        port_mapping_renewal: Seconds between two renewals of a port mapping, 1 to 86400.  Default: ``1800.0``.
        port_mapping_lease: Seconds for which a port mapping is asked for, 2 to 604800; more than between renewals.
            Default: ``3600.0``.
        auto_direct_upgrade: Whether relayed sessions move to direct paths by themselves.  Default: ``True``.
        upgrade_backoff: Seconds to wait after a failed upgrade before the next one: at first, and at most; doubled
            each time, and chance takes up to half of it, 0.1 to 86400.  Default: ``(30.0, 600.0)``.
        reflex_override: The address that others reach this node at, if the program knows it (a forwarded port).  It is
            announced in place of what peers observe, and makes the node ``open``.  Also takes text such as
            ``"203.0.113.7:4650"``.  Default: ``None``.
    """

    enabled: bool = attrs.field(default=True, validator=boolean("traversal "))
    reflex_timeout: float = attrs.field(default=3.0, validator=_seconds(0.05, 60))
    classify_deadline: float = attrs.field(default=5.0, validator=_seconds(0.05, 60))
    classify_interval: float = attrs.field(default=300.0, validator=_seconds(1, 86400))
    punch_fire_lead: float = attrs.field(default=0.5, validator=_seconds(0, 1))
    punch_deadline: float = attrs.field(default=5.0, validator=_seconds(0.1, 60))
    keep_alives: tuple[float, ...] = attrs.field(
        default=(0.0, 0.025, 0.075, 0.175, 0.375, 0.775, 1.575, 3.175), converter=_as_tuple, validator=_keep_alives
    )
    try_port_mapping: bool = attrs.field(default=False, validator=boolean("traversal "))
    port_mapping_renewal: float = attrs.field(default=1800.0, validator=_seconds(1, 86400))
    port_mapping_lease: float = attrs.field(default=3600.0, validator=_seconds(2, 604800))
    auto_direct_upgrade: bool = attrs.field(default=True, validator=boolean("traversal "))
    upgrade_backoff: tuple[float, float] = attrs.field(default=(30.0, 600.0), converter=_as_tuple, validator=_backoff)
    reflex_override: Address | None = attrs.field(default=None, converter=parse_reflex_override)

    def __attrs_post_init__(self) -> None:
        if self.port_mapping_renewal >= self.port_mapping_lease:
            raise ConfigError(
                f"traversal port_mapping_renewal is {self.port_mapping_renewal:g}, but port_mapping_lease is "
                f"{self.port_mapping_lease:g}; renew well before the lease ends, at half of it for example"
            )

    def __repr__(self) -> str:
        return show_changed(self)
