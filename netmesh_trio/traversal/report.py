"""What a node knows about its own NAT, in the words of RFC 4787.

Every field has a third value, None, for what is not known: unknown is not false.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from itertools import combinations, pairwise

import attrs

from ..addresses import Address
from ..reprs import show_changed
from .classify import Classifier, LocalAddresses, NatState, NatType, Observation, relevant

__all__ = [
    "Dependence",
    "FilterEvidence",
    "NatReport",
    "build_report",
    "judge_filtering",
    "judge_mapping",
    "judge_port_preservation",
    "judge_port_step",
    "report_of",
]

_LARGEST_STEP = 64


class Dependence(str, enum.Enum):
    """On how much of the remote address a mapping (RFC 4787, section 4.1) or a filter (section 5) depends."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@attrs.frozen(kw_only=True)
class FilterEvidence:
    """What became of the canaries that helpers sent.

    False only if the helper said that it sent them and none came in; None if nobody could help.
    """

    other_port: bool | None = None
    """Of those from an address we had sent to, and a port we had not."""
    other_address: bool | None = None
    """Of those from an address that we had not sent to."""


@attrs.frozen(kw_only=True, repr=False)
class NatReport:
    """All that is known about the NAT in front of this node."""

    nat_type: NatType = NatType.UNKNOWN
    """The kind that is announced."""
    reflex: Address | None = None
    """The IPv4 address that is announced."""
    reflex6: Address | None = None
    """The IPv6 address that is announced."""
    overridden: bool = False
    """Whether the two come from the program or a port mapping, not from what is observed."""
    mapping: Dependence | None = None
    """Whether one socket gets one outside address, or one for each destination."""
    filtering: Dependence | None = None
    """From whom the NAT lets packets in."""
    port_preservation: bool | None = None
    """Whether the outside port is the inside one."""
    port_step: int | None = None
    """By how much the ports of one mapping and the next differ; 0 if they follow no pattern."""
    hairpin: bool | None = None
    """Whether a packet sent to the own outside address comes back in."""
    binding_survives: float | None = None
    """Seconds without traffic that a mapping is known to have survived."""
    binding_lifetime: float | None = None
    """Seconds without traffic after which a mapping is known to be gone."""
    observations: tuple[Observation, ...] = ()
    """Who sees us where."""

    def __repr__(self) -> str:
        return show_changed(self)


def judge_mapping(observations: Iterable[Observation], family: int = 4) -> Dependence | None:
    """What the observers' different views say about the mapping.

    Observers at one address and different ports tell a mapping that depends on the port from one that does not; that
    it does not depend on the address, only observers at different addresses can tell.
    """
    same_host: set[bool] = set()
    other_host: set[bool] = set()
    for a, b in combinations(relevant(observations, family), 2):
        if a.observer_address.host != b.observer_address.host:
            other_host.add(a.reflex == b.reflex)
        elif a.observer_address.port != b.observer_address.port:
            same_host.add(a.reflex == b.reflex)
    if False in same_host:
        return Dependence.ADDRESS_AND_PORT_DEPENDENT
    if False in other_host:
        return Dependence.ADDRESS_DEPENDENT if True in same_host else None
    return Dependence.ENDPOINT_INDEPENDENT if True in other_host else None


def judge_filtering(evidence: FilterEvidence) -> Dependence | None:
    """What the canaries say about the filter.  One that got in proves; one that did not is only as good as the
    helper's word."""
    if evidence.other_address:
        return Dependence.ENDPOINT_INDEPENDENT
    if evidence.other_port is False:
        return Dependence.ADDRESS_AND_PORT_DEPENDENT
    if evidence.other_port and evidence.other_address is False:
        return Dependence.ADDRESS_DEPENDENT
    return None


def judge_port_preservation(observations: Iterable[Observation], local: LocalAddresses, family: int = 4) -> bool | None:
    """Whether every observer sees the port that the socket is bound to."""
    seen = {o.reflex.port == local.port(o.socket) for o in relevant(observations, family)}
    return None if not seen else seen == {True}


def judge_port_step(observations: Iterable[Observation], family: int = 4) -> int | None:
    """The distance of neighboring ports if it is the same everywhere and small, of three different ports at least.

    0 if two neighbors are more than 1024 apart: no sequence then.  None for anything in between.
    """
    ports = sorted({o.reflex.port for o in relevant(observations, family)})
    if len(ports) < 3:
        return None
    steps = {b - a for a, b in pairwise(ports)}
    if len(steps) == 1 and max(steps) <= _LARGEST_STEP:
        return steps.pop()
    return 0 if max(steps) > 1024 else None


def build_report(
    state: NatState,
    observations: Iterable[Observation],
    local: LocalAddresses,
    *,
    evidence: FilterEvidence | None = None,
    hairpin: bool | None = None,
    binding_survives: float | None = None,
    binding_lifetime: float | None = None,
    family: int = 4,
) -> NatReport:
    """The report on one address family."""
    known = tuple(observations)
    return NatReport(
        nat_type=state.nat_type,
        reflex=state.reflex,
        reflex6=state.reflex6,
        overridden=state.overridden,
        mapping=judge_mapping(known, family),
        filtering=judge_filtering(evidence or FilterEvidence()),
        port_preservation=judge_port_preservation(known, local, family),
        port_step=judge_port_step(known, family),
        hairpin=hairpin,
        binding_survives=binding_survives,
        binding_lifetime=binding_lifetime,
        observations=known,
    )


def report_of(
    classifier: Classifier,
    *,
    evidence: FilterEvidence | None = None,
    hairpin: bool | None = None,
    binding_survives: float | None = None,
    binding_lifetime: float | None = None,
) -> NatReport:
    """The report on IPv4 as a classifier has it now."""
    return build_report(
        classifier.state,
        classifier.observations,
        classifier.local,
        evidence=evidence,
        hairpin=hairpin,
        binding_survives=binding_survives,
        binding_lifetime=binding_lifetime,
    )
