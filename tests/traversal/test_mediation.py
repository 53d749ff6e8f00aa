from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.identity import PeerId
from netmesh_trio.traversal.mediation import Coordinator, Introduction, Seen, firing_delays
from netmesh_trio.traversal.rendezvous import PunchIntroduce, PunchReject, PunchRequest, RejectReason

A, B, C = (PeerId(bytes([n]) * 32) for n in (1, 2, 3))
ID = b"\7" * 8
A_SEEN, B_SEEN = Address("203.0.113.7", 1000), Address("198.51.100.9", 2000)
KNOWN = {A: Seen(A_SEEN, rtt=0.02), B: Seen(B_SEEN, rtt=0.1)}


@pytest.mark.parametrize(
    ("rtt_a", "rtt_b", "delays"),
    [
        (0.02, 0.1, (0.05, 0.01)),
        (0.1, 0.02, (0.01, 0.05)),
        (0.04, 0.04, (0.01, 0.01)),
        (0.0, 0.0, (0.01, 0.01)),
        (None, None, (0.01, 0.01)),
        (None, 0.2, (0.06, 0.01)),
        (0.02, 2.0, (0.49, 0.0)),  # the slower end is beyond the longest lead
        (2.0, 2.0, (0.0, 0.0)),
    ],
)
def test_delays(rtt_a: float | None, rtt_b: float | None, delays: tuple[float, float]) -> None:
    assert firing_delays(rtt_a, rtt_b) == pytest.approx(delays)


@given(st.floats(0, 0.9), st.floats(0, 0.9))
def test_both_fire_at_the_same_moment_and_soon(rtt_a: float, rtt_b: float) -> None:
    wait_a, wait_b = firing_delays(rtt_a, rtt_b)
    fire_a, fire_b = rtt_a / 2 + wait_a, rtt_b / 2 + wait_b
    assert fire_a == pytest.approx(fire_b)
    assert fire_a == pytest.approx(max(rtt_a, rtt_b) / 2 + 0.01)
    assert 0 <= wait_a <= 0.5
    assert 0 <= wait_b <= 0.5


def test_an_introduction() -> None:
    coordinator = Coordinator()
    assert coordinator.on_request(PunchRequest(ID, B, A_SEEN), A, KNOWN.get, 0.0) == Introduction(
        PunchIntroduce(ID, B, B_SEEN, 50_000, True), PunchIntroduce(ID, A, A_SEEN, 10_000, False)
    )
    assert coordinator.introduced == 1


def test_a_claimed_port_counts_at_the_observed_host() -> None:
    mapped, announced = Address(A_SEEN.host, 4650), Address(B_SEEN.host, 4651)
    known = {A: Seen(A_SEEN), B: Seen(B_SEEN, announced)}
    introduction = Coordinator().on_request(PunchRequest(ID, B, mapped), A, known.get, 0.0)
    assert isinstance(introduction, Introduction)
    assert introduction.to_target.reflex == mapped
    assert introduction.to_requester.reflex == announced


def test_an_announced_address_at_another_host_is_not_vouched_for() -> None:
    known = {A: Seen(A_SEEN), B: Seen(B_SEEN, Address("192.0.2.1", 53))}
    introduction = Coordinator().on_request(PunchRequest(ID, B, A_SEEN), A, known.get, 0.0)
    assert isinstance(introduction, Introduction)
    assert introduction.to_requester.reflex == B_SEEN


PRIVATE = Address("192.168.1.5", 2000)


@pytest.mark.parametrize(
    ("target", "reflex", "known", "reason"),
    [
        (C, A_SEEN, KNOWN, RejectReason.NO_SESSION),
        (A, A_SEEN, KNOWN, RejectReason.NO_SESSION),
        (B, Address("192.0.2.1", 1000), KNOWN, RejectReason.ADDRESS_MISMATCH),
        (B, Address("2001:db8::1", 1000), KNOWN, RejectReason.ADDRESS_MISMATCH),
        (B, A_SEEN, {B: KNOWN[B]}, RejectReason.UNKNOWN_REFLEX),
        (B, A_SEEN, {A: Seen(None), B: KNOWN[B]}, RejectReason.UNKNOWN_REFLEX),
        (B, A_SEEN, {A: KNOWN[A], B: Seen(None)}, RejectReason.UNKNOWN_REFLEX),
        (B, A_SEEN, {A: KNOWN[A], B: Seen(B_SEEN, takes_part=False)}, RejectReason.UNKNOWN_REFLEX),
        # each is seen in another family: neither sends from where the other would send to
        (B, A_SEEN, {A: KNOWN[A], B: Seen(Address("2001:db8::9", 2000))}, RejectReason.UNKNOWN_REFLEX),
        # the target is in the coordinator's own network, and the requester is not
        (B, A_SEEN, {A: KNOWN[A], B: Seen(PRIVATE)}, RejectReason.UNKNOWN_REFLEX),
        (B, PRIVATE, {A: Seen(PRIVATE), B: KNOWN[B]}, RejectReason.UNKNOWN_REFLEX),
    ],
)
def test_rejections(target: PeerId, reflex: Address, known: dict[PeerId, Seen], reason: RejectReason) -> None:
    coordinator = Coordinator()
    assert coordinator.on_request(PunchRequest(ID, target, reflex), A, known.get, 0.0) == PunchReject(ID, reason)
    assert coordinator.rejected[reason] == 1
    assert sum(coordinator.rejected.values()) == 1
    assert coordinator.introduced == 0


def test_two_in_one_private_network_are_introduced_there() -> None:
    known = {A: Seen(Address("10.0.0.1", 5)), B: Seen(Address("10.0.0.2", 5))}
    request = PunchRequest(ID, B, Address("10.0.0.1", 5))
    assert isinstance(Coordinator().on_request(request, A, known.get, 0.0), Introduction)


def test_a_flood_costs_a_look_up_each() -> None:
    coordinator = Coordinator()
    looked_up = 0

    def lookup(peer: PeerId) -> Seen | None:
        nonlocal looked_up
        looked_up += 1
        return KNOWN.get(peer)

    answers = [coordinator.on_request(PunchRequest(ID, B, A_SEEN), A, lookup, 0.001 * n) for n in range(1000)]
    assert [type(a) for a in answers[:4]] == [Introduction] * 4
    assert set(answers[4:]) == {PunchReject(ID, RejectReason.RATE_LIMITED)}
    assert looked_up == 8
    assert isinstance(coordinator.on_request(PunchRequest(ID, A, B_SEEN), B, lookup, 1.0), Introduction)
    assert isinstance(coordinator.on_request(PunchRequest(ID, B, A_SEEN), A, lookup, 10.0), Introduction)
