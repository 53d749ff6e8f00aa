"""What the default routers of this host say about port mappings, for programs and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netmesh_trio.traversal.portmap import PortMapError, is_public

if TYPE_CHECKING:
    from netmesh_trio import Address
    from netmesh_trio.traversal import RouterReport

__all__ = ["router_fields", "router_in_words"]

_NAMES = {"pcp": "PCP", "nat-pmp": "NAT-PMP", "upnp": "UPnP"}


def _spoken(report: RouterReport) -> list[str]:
    return [_NAMES[a.protocol] for a in report.answers if not isinstance(a, PortMapError)]


def _external(report: RouterReport) -> str | None:
    """The router's outside address: as it says without being asked for a mapping, else as in the mapping."""
    for answer in report.answers:
        if not isinstance(answer, PortMapError) and answer.external is not None:
            return answer.external
    return None if report.mapping is None or report.family == 6 else report.mapping.external.host


def _name(report: RouterReport) -> str | None:
    names = (answer.description for answer in report.answers if not isinstance(answer, PortMapError))
    return next(filter(None, names), None)


def router_fields(report: RouterReport, seen: Address | None) -> dict[str, Any]:
    """All that is known of one router; ``seen`` is where peers see this node, by that family."""
    mapping = report.mapping
    return {
        "family": report.family,
        "gateway": None if report.gateway is None else report.gateway.host,
        "name": next(
            (a.description for a in report.answers if not isinstance(a, PortMapError) and a.description), None
        ),
        "external": _external(report),
        "protocols": {
            a.protocol or "": a.cause.value if isinstance(a, PortMapError) else "spoken" for a in report.answers
        },
        "double_nat": _is_behind_another(report, seen),
        "mapping": None
        if mapping is None
        else {
            "protocol": mapping.protocol,
            "external": str(mapping.external),
            "lifetime": None if math.isinf(mapping.lifetime) else mapping.lifetime,
        },
        "meaning": router_in_words(report, seen),
    }


def _is_behind_another(report: RouterReport, seen: Address | None) -> bool | None:
    """Whether another NAT stands between the router and the internet; None if nothing tells."""
    external = _external(report)
    if report.family == 6 or external is None:
        return None
    if not is_public(external):
        return True
    if seen is None or not is_public(seen.host):
        return None
    return seen.host != external


def router_in_words(report: RouterReport, seen: Address | None) -> str:
    """What a router says, and what follows from it, in a few sentences."""
    if report.gateway is None:
        return (
            f"no default router sees this node's IPv{report.family} address, so there is none to ask for a port mapping"
        )
    router = f"the router {report.gateway.host}"
    spoken = _spoken(report)
    if not spoken:
        asked = ", ".join(_NAMES[a.protocol] for a in report.answers if a.protocol is not None)
        return f"{router} grants no port mappings (asked by {asked}); peers reach this node all the same"
    text = f"{router} speaks {_join(spoken)}"
    external = _external(report)
    if external is not None:
        text += f"; its outside address is {external}"
        if _is_behind_another(report, seen):
            if is_public(external) and seen is not None:
                text += f", but peers see {seen.host}"
            else:
                text += ", which is not public"
            text += ": another NAT stands in front of it, where it maps nothing"
    if report.mapping is None:
        return f"{text}. This node has no mapping there (--port-mapping asks for one)"
    mapping = report.mapping
    lease = "until it is removed" if math.isinf(mapping.lifetime) else f"for {mapping.lifetime / 60:.0f} min at a time"
    return f"{text}. By {_NAMES[mapping.protocol]} it passes on what comes to {mapping.external}, {lease}"


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
