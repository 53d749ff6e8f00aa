"""What netcheck says of the router."""

from __future__ import annotations

import math

import attrs
import pytest

from netmesh_trio import Address
from netmesh_trio.cli.routers import router_fields, router_in_words
from netmesh_trio.traversal import Gateway, PortMapCause, PortMapError, PortMapping, RouterReport, RouterStatus

GATEWAY = Gateway("192.168.1.1", "192.168.1.7")
SEEN = Address("203.0.113.7", 40000)
PCP = RouterStatus(protocol="pcp", epoch=3)
NATPMP = RouterStatus(protocol="nat-pmp", external="203.0.113.7")
NO_PCP, NO_NATPMP, NO_UPNP = (PortMapError(PortMapCause.TIMEOUT, p) for p in ("pcp", "nat-pmp", "upnp"))
MAPPING = PortMapping(
    protocol="pcp",
    gateway=GATEWAY,
    internal=Address("192.168.1.7", 4650),
    external=Address("203.0.113.7", 4650),
    lifetime=3600.0,
)


def report(*answers: RouterStatus | PortMapError, mapping: PortMapping | None = None) -> RouterReport:
    return RouterReport(family=4, gateway=GATEWAY, answers=answers, mapping=mapping)


CASES = {
    "no router": (
        RouterReport(family=4),
        None,
        "no default router sees this node's IPv4 address, so there is none to ask for a port mapping",
    ),
    "silent": (
        report(NO_PCP, NO_NATPMP, NO_UPNP),
        None,
        "the router 192.168.1.1 grants no port mappings (asked by PCP, NAT-PMP, UPnP); peers reach this node all the "
        "same",
    ),
    "speaks": (
        report(PCP, NATPMP, NO_UPNP),
        False,
        "the router 192.168.1.1 speaks PCP and NAT-PMP; its outside address is 203.0.113.7. This node has no mapping "
        "there (--port-mapping asks for one)",
    ),
    "mapped": (
        report(PCP, mapping=MAPPING),
        False,
        "the router 192.168.1.1 speaks PCP; its outside address is 203.0.113.7. By PCP it passes on what comes to "
        "203.0.113.7:4650, for 60 min at a time",
    ),
    "permanent": (
        report(PCP, mapping=attrs.evolve(MAPPING, lifetime=math.inf)),
        False,
        "the router 192.168.1.1 speaks PCP; its outside address is 203.0.113.7. By PCP it passes on what comes to "
        "203.0.113.7:4650, until it is removed",
    ),
    "private": (
        report(NO_PCP, attrs.evolve(NATPMP, external="10.0.0.9")),
        True,
        "the router 192.168.1.1 speaks NAT-PMP; its outside address is 10.0.0.9, which is not public: another NAT "
        "stands in front of it, where it maps nothing. This node has no mapping there (--port-mapping asks for one)",
    ),
    "seen elsewhere": (
        report(NO_PCP, attrs.evolve(NATPMP, external="198.51.100.9")),
        True,
        "the router 192.168.1.1 speaks NAT-PMP; its outside address is 198.51.100.9, but peers see 203.0.113.7: "
        "another NAT stands in front of it, where it maps nothing. This node has no mapping there (--port-mapping asks "
        "for one)",
    ),
}


@pytest.mark.parametrize(("report", "double", "words"), CASES.values(), ids=list(CASES))
def test_in_words_and_for_programs(report: RouterReport, double: bool | None, words: str) -> None:
    assert router_in_words(report, SEEN) == words
    fields = router_fields(report, SEEN)
    assert (fields["double_nat"], fields["meaning"]) == (double, words)
    assert fields["protocols"].keys() == {a.protocol for a in report.answers}


def test_fields() -> None:
    assert router_fields(report(PCP, NO_NATPMP, mapping=MAPPING), None) == {
        "family": 4,
        "gateway": "192.168.1.1",
        "name": None,
        "external": "203.0.113.7",
        "protocols": {"pcp": "spoken", "nat-pmp": "timeout"},
        "double_nat": None,
        "mapping": {"protocol": "pcp", "external": "203.0.113.7:4650", "lifetime": 3600.0},
        "meaning": router_in_words(report(PCP, NO_NATPMP, mapping=MAPPING), None),
    }
