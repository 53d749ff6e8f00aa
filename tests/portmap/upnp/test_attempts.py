from __future__ import annotations

import math
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.traversal.portmap import PortMapCause
from netmesh_trio.traversal.portmap.upnp.attempts import (
    Attempt,
    Entry,
    Owner,
    after_fault,
    cause_of,
    first_attempt,
    granted_lifetime,
    lease_of,
    number,
    owner_of,
)
from netmesh_trio.traversal.portmap.upnp.soap import Fault

INSIDE = 4650
CODES = [0, 401, 402, 501, 600, 602, 603, 606, 701, 702, 714, 715, 716, 718, 724, 725, 726, 727, 728, 729, 732, 99999]


def exact(
    port: int = INSIDE,
    lease: int = 600,
    others: tuple[int, ...] = (4651, 50000),
    *,
    any_port: bool = False,
    may_ask_any: bool = False,
) -> Attempt:
    return Attempt(port, lease, others=others, any_port=any_port, may_ask_any=may_ask_any)


@pytest.mark.parametrize(
    ("version", "only_permanent", "expected"),
    [
        (1, False, Attempt(4650, 600)),
        (2, False, Attempt(4650, 600, may_ask_any=True)),
        (1, True, Attempt(4650, 0)),
        (2, True, Attempt(4650, 0, may_ask_any=True)),
    ],
)
def test_first(version: int, only_permanent: bool, expected: Attempt) -> None:
    first = first_attempt(4650, 600.0, version=version, only_permanent=only_permanent, chance=random.Random(1))
    assert attrs.evolve(first, others=()) == expected
    assert first.others[:3] == (4651, 4652, 4653)
    assert len(first.others) == 5
    assert all(49152 <= port < 65536 for port in first.others[3:])


@pytest.mark.parametrize("port", [1, 65533, 65534, 65535])
def test_ports_to_try_are_ports(port: int) -> None:
    others = first_attempt(port, 1, version=1, only_permanent=False, chance=random.Random(2)).others
    assert len(others) == 5
    assert all(0 < other < 65536 for other in others)


NEXT = exact(4651, others=(50000,))
# Attempt, code, what follows but for the ports that were tried.
CASES = [
    # Taken: the next port; or any that the router likes, if it can.
    *((exact(), code, NEXT) for code in (718, 729, 501, 606)),
    *((exact(may_ask_any=True), code, exact(any_port=True)) for code in (718, 729)),
    *((exact(may_ask_any=True), code, NEXT) for code in (501, 606)),
    *((exact(others=()), code, None) for code in (718, 729, 501, 606)),
    # Only for ever.  402 may mean the same.
    *((exact(), code, exact(lease=0)) for code in (725, 402)),
    *((exact(may_ask_any=True), code, exact(lease=0)) for code in (725, 402)),
    *((exact(lease=0), code, None) for code in (725, 402)),
    (exact(lease=0), 718, exact(4651, lease=0, others=(50000,))),
    # The same port inside and outside, or none.
    (exact(), 724, None),
    (exact(5000), 724, exact(others=())),
    (exact(4651, others=(50000,)), 724, exact(others=())),
    # AddAnyPortMapping is not there, or does not work.
    *((exact(any_port=True), code, NEXT) for code in CODES if code != 728),
    (exact(any_port=True), 728, None),
    # Nothing helps.
    *((exact(may_ask_any=True), code, None) for code in (0, 401, 602, 603, 714, 715, 716, 726, 727, 728, 732, 99999)),
]


@pytest.mark.parametrize(("attempt", "code", "expected"), CASES)
def test_after_a_fault(attempt: Attempt, code: int, expected: Attempt | None) -> None:
    following = after_fault(attempt, code, INSIDE)
    if expected is None or following is None:
        assert following is expected
    else:
        assert attrs.evolve(following, tried=frozenset()) == expected
        assert following.external_port == attempt.external_port or attempt.external_port in following.tried


def test_the_same_port_is_not_tried_again() -> None:
    following = after_fault(exact(), 718, INSIDE)
    assert following is not None
    assert following.external_port == 4651
    assert after_fault(following, 724, INSIDE) is None


@given(st.lists(st.sampled_from(CODES), min_size=20, max_size=20), st.booleans(), st.integers(1, 65535))
def test_attempts_come_to_an_end_and_none_is_made_twice(codes: list[int], newer: bool, port: int) -> None:
    attempt: Attempt | None = first_attempt(
        port, 600, version=1 + newer, only_permanent=False, chance=random.Random(port)
    )
    seen = []
    for code in codes:
        if attempt is None:
            break
        seen.append((attempt.external_port, attempt.lease, attempt.any_port))
        assert 0 < attempt.external_port < 65536
        attempt = after_fault(attempt, code, INSIDE)
    assert attempt is None
    assert len(set(seen)) == len(seen) <= 10


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (718, PortMapCause.CONFLICT),
        (724, PortMapCause.CONFLICT),
        (729, PortMapCause.CONFLICT),
        (728, PortMapCause.OUT_OF_RESOURCES),
        (701, PortMapCause.OUT_OF_RESOURCES),
        (401, PortMapCause.UNSUPPORTED),
        (402, PortMapCause.UNSUPPORTED),
        (702, PortMapCause.UNSUPPORTED),
        (725, PortMapCause.UNSUPPORTED),
        (727, PortMapCause.UNSUPPORTED),
        (732, PortMapCause.UNSUPPORTED),
        (501, PortMapCause.REFUSED),
        (606, PortMapCause.REFUSED),
        (703, PortMapCause.REFUSED),
        (0, PortMapCause.REFUSED),
        (99999, PortMapCause.REFUSED),
    ],
)
def test_causes(code: int, cause: PortMapCause) -> None:
    assert cause_of(code) is cause


@pytest.mark.parametrize(
    ("lifetime", "longest", "lease"),
    [(600, 604800, 600), (0.1, 604800, 1), (599.5, 604800, 600), (1e9, 604800, 604800), (math.inf, 86400, 86400)],
)
def test_leases(lifetime: float, longest: int, lease: int) -> None:
    assert lease_of(lifetime, longest) == lease


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("65536", 65536), ("", None), ("-1", None), ("1" * 11, None), ("\u0661", None)]
)
def test_numbers(text: str, value: int | None) -> None:
    assert number(text) == value


def entry(client: str = "192.168.1.2", port: str = "4650", **rest: str) -> Entry:
    return Entry.of({"NewInternalClient": client, "NewInternalPort": port, **rest})


@pytest.mark.parametrize(
    ("found", "owner"),
    [
        (entry(), Owner.OURS),
        (entry(port="4651"), Owner.ANOTHER),
        (entry(client="192.168.1.3"), Owner.ANOTHER),
        (entry(client="desktop"), Owner.UNKNOWN),
        (entry(client=""), Owner.UNKNOWN),
        (entry(port=""), Owner.UNKNOWN),
        (Fault(714), Owner.NOBODY),
        *((Fault(code), Owner.UNKNOWN) for code in (0, 401, 402, 501, 606, 713)),
    ],
)
def test_owners(found: Entry | Fault, owner: Owner) -> None:
    assert owner_of(found, "192.168.1.2", INSIDE) is owner


@pytest.mark.parametrize(("said", "enabled"), [("1", True), ("0", False), ("false", False), ("True", True), ("", True)])
def test_enabled(said: str, enabled: bool) -> None:
    assert entry(NewEnabled=said).enabled is enabled
    assert entry().enabled


@pytest.mark.parametrize(
    ("asked", "told", "lifetime"),
    [
        (600, "600", 600),
        (600, "120", 120),
        (600, "86400", 86400),
        (600, "0", 600),
        (600, "", 600),
        (600, "nonsense", 600),
        (600, "9999999999", 604800),
        (0, "0", math.inf),
        (0, "604800", 604800),
    ],
)
def test_lifetimes(asked: int, told: str, lifetime: float) -> None:
    assert granted_lifetime(asked, entry(NewLeaseDuration=told)) == lifetime


def test_a_lifetime_that_the_router_does_not_tell() -> None:
    assert granted_lifetime(600, Fault(401)) == 600
    assert granted_lifetime(0, Fault(714)) == math.inf
