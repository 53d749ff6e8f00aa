from __future__ import annotations

import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.identity import PeerId
from netmesh_trio.traversal import Dependence, NatReport, NatType
from netmesh_trio.traversal.classify import Classifier, LocalAddresses, Observation
from netmesh_trio.traversal.report import (
    FilterEvidence,
    judge_filtering,
    judge_mapping,
    judge_port_preservation,
    judge_port_step,
    report_of,
)

EI, AD, APD = Dependence
LOCAL = LocalAddresses((Address("0.0.0.0", 4650),), frozenset({"192.168.1.5"}))


def seen(*views: str) -> list[Observation]:
    """Each "last number of the observer's address:its port > the port it sees"."""
    observations = []
    for number, view in enumerate(views, 1):
        host, port, _, reflex = view.replace(":", " ").split()
        observations.append(
            Observation(
                PeerId(bytes([number]) * 32),
                Address(f"198.51.100.{host}", int(port)),
                Address("203.0.113.7", int(reflex)),
                float(number),
            )
        )
    return observations


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ((), None),
        (("1:1 > 9",), None),
        (("1:1 > 9", "2:1 > 9"), EI),
        (("1:1 > 9", "1:2 > 9"), None),  # of the address we know nothing
        (("1:1 > 9", "1:2 > 8"), APD),
        (("1:1 > 9", "2:1 > 8"), None),  # by address alone, or by port too?
        (("1:1 > 9", "1:2 > 9", "2:1 > 8"), AD),
        (("1:1 > 9", "1:2 > 7", "2:1 > 8"), APD),
        (("1:1 > 9", "1:2 > 9", "2:1 > 9"), EI),
        (("1:1 > 9", "2:1 > 9", "3:1 > 8"), None),
    ],
)
def test_mapping(views: tuple[str, ...], expected: Dependence | None) -> None:
    assert judge_mapping(seen(*views)) is expected


@pytest.mark.parametrize(
    ("other_port", "other_address", "expected"),
    [
        (None, None, None),
        (None, True, EI),
        (None, False, None),
        (True, None, None),
        (True, True, EI),
        (True, False, AD),
        (False, None, APD),
        (False, False, APD),
        (False, True, EI),  # what got in got in; the other one was lost
    ],
)
def test_filtering(other_port: bool | None, other_address: bool | None, expected: Dependence | None) -> None:
    assert judge_filtering(FilterEvidence(other_port=other_port, other_address=other_address)) is expected


@pytest.mark.parametrize(
    ("views", "expected"),
    [((), None), (("1:1 > 4650",), True), (("1:1 > 9",), False), (("1:1 > 4650", "2:1 > 9"), False)],
)
def test_port_preservation(views: tuple[str, ...], expected: bool | None) -> None:
    assert judge_port_preservation(seen(*views), LOCAL) is expected


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((), None),
        ((100, 101), None),
        ((100, 101, 102), 1),
        ((102, 100, 101), 1),
        ((100, 102, 104, 106), 2),
        ((9, 9, 9), None),
        ((9, 10, 9), None),
        ((100, 101, 103), None),  # another host behind the same NAT got one, perhaps
        ((100, 200, 300), None),
        ((2000, 30000, 61000), 0),
        ((2000, 2001, 61000), 0),
    ],
)
def test_port_step(ports: tuple[int, ...], expected: int | None) -> None:
    assert judge_port_step(seen(*(f"{n}:1 > {port}" for n, port in enumerate(ports, 1)))) == expected


def test_a_report_without_knowledge_claims_nothing() -> None:
    assert report_of(Classifier(LOCAL)) == NatReport()


def test_a_report() -> None:
    classifier = Classifier(LOCAL)
    observations = seen("1:1 > 4650", "2:1 > 4650")
    for observation in observations:
        classifier.observe(observation)
    assert report_of(
        classifier,
        evidence=FilterEvidence(other_port=True, other_address=False),
        hairpin=False,
        binding_lifetime=30.0,
    ) == NatReport(
        nat_type=NatType.CONE,
        reflex=Address("203.0.113.7", 4650),
        mapping=EI,
        filtering=AD,
        port_preservation=True,
        hairpin=False,
        binding_lifetime=30.0,
        observations=tuple(observations),
    )


def test_a_report_under_an_override_still_tells_what_is_observed() -> None:
    classifier = Classifier(LOCAL, override=Address("203.0.113.9", 1))
    for observation in seen("1:1 > 5", "2:1 > 5"):
        classifier.observe(observation)
    report = report_of(classifier)
    assert (report.nat_type, report.overridden, report.mapping) == (NatType.OPEN, True, EI)
    assert report.reflex == Address("203.0.113.9", 1)
