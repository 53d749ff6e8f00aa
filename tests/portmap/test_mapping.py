from __future__ import annotations

import copy
import math
import pickle

import attrs
import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.traversal import PortMapUnavailableError
from netmesh_trio.traversal.portmap import Gateway, PortMapCause, PortMapError, PortMapping, is_public

GATEWAY = Gateway("192.168.1.1", "192.168.1.7")
MAPPING = PortMapping(
    protocol="pcp",
    gateway=GATEWAY,
    internal=Address("192.168.1.7", 4650),
    external=Address("203.0.113.7", 4650),
    lifetime=3600.0,
)


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("203.0.113.7", True),
        ("8.8.8.8", True),
        ("10.1.2.3", False),
        ("172.31.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),  # a carrier's NAT
        ("100.128.0.1", True),
        ("192.0.0.2", False),  # DS-Lite
        ("198.18.0.1", False),
        ("169.254.1.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("2001:db8::1", True),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::", False),
        ("::1", False),
        ("ff02::1", False),
    ],
)
def test_what_is_public(host: str, public: bool) -> None:
    assert is_public(host) is public


def test_the_error_has_a_cause_for_machines_and_a_text_for_people() -> None:
    error = PortMapError(PortMapCause.REFUSED, "nat-pmp", "result 2", 30.0)
    assert isinstance(error, PortMapUnavailableError)
    assert (error.kind, error.cause.value, error.protocol) == ("port-map-unavailable", "refused", "nat-pmp")
    assert str(error) == (
        "no router granted a port mapping (nat-pmp: refused, result 2); "
        "peers reach this node as before, over the relay where need be"
    )
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(twin) == str(error)
        assert twin.__dict__ == error.__dict__


def test_every_cause_is_spelled_as_the_kinds_are() -> None:
    for cause in PortMapCause:
        assert cause.value == cause.name.lower().replace("_", "-")


def test_a_mapping() -> None:
    assert not MAPPING.is_permanent
    assert attrs.evolve(MAPPING, lifetime=math.inf).is_permanent
    assert attrs.evolve(MAPPING, handle=object()) == MAPPING
    for lifetime in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="lifetime above zero"):
            attrs.evolve(MAPPING, lifetime=lifetime)
    assert (GATEWAY.family, Gateway("fe80::1%eth0", "2001:db8::7").family) == (4, 6)
