from __future__ import annotations

import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.identity import PeerId
from netmesh_trio.traversal.guard import IntroduceGuard, PunchRequests, Verdict, judge_introduce
from netmesh_trio.traversal.rendezvous import PunchIntroduce

RELAY, OTHER_RELAY, PEER, OTHER = (PeerId(bytes([n]) * 32) for n in (1, 2, 3, 4))
HERE = Address("203.0.113.7", 1000)
HOSTS = {"203.0.113.7", "192.168.1.5"}


def introduce(number: int = 0, *, peer: PeerId = PEER, reflex: Address = HERE, asked: bool = False) -> PunchIntroduce:
    return PunchIntroduce(number.to_bytes(8, "big"), peer, reflex, 0, asked)


@pytest.mark.parametrize(
    ("reflex", "hosts", "verdict"),
    [
        (HERE, HOSTS, Verdict.ACCEPTED),
        (Address("203.0.113.7", 9999), HOSTS, Verdict.ACCEPTED),  # a symmetric NAT shows another port each time
        (Address("192.168.1.5", 1), HOSTS, Verdict.ACCEPTED),
        (Address("192.0.2.1", 1000), HOSTS, Verdict.FOREIGN_ADDRESS),
        (HERE, (), Verdict.FOREIGN_ADDRESS),
        (HERE, None, Verdict.NO_SESSION),
    ],
)
def test_judging_the_address(reflex: Address, hosts: set[str] | None, verdict: Verdict) -> None:
    assert judge_introduce(introduce(reflex=reflex), hosts) is verdict
    guard = IntroduceGuard()
    assert guard.on_introduce(introduce(reflex=reflex), RELAY, hosts, 0.0) is verdict
    assert len(guard) == (verdict is Verdict.ACCEPTED)
    assert sum(guard.dropped.values()) == (verdict is not Verdict.ACCEPTED)


def test_four_trains_per_introducer_in_ten_seconds() -> None:
    guard = IntroduceGuard()
    verdicts = []
    for n in range(100):
        verdicts.append(guard.on_introduce(introduce(n), RELAY, HOSTS, 0.0))
        guard.finished(n.to_bytes(8, "big"))
    assert verdicts == [Verdict.ACCEPTED] * 4 + [Verdict.RATE_LIMITED] * 96
    assert guard.on_introduce(introduce(200), OTHER_RELAY, HOSTS, 0.0) is Verdict.ACCEPTED
    assert guard.on_introduce(introduce(201), RELAY, HOSTS, 10.0) is Verdict.ACCEPTED


def test_wrong_addresses_use_up_the_budget_too() -> None:
    guard = IntroduceGuard()
    wrong = Address("192.0.2.1", 1)
    verdicts = [guard.on_introduce(introduce(n, reflex=wrong), RELAY, HOSTS, 0.0) for n in range(6)]
    assert verdicts == [Verdict.FOREIGN_ADDRESS] * 4 + [Verdict.RATE_LIMITED] * 2


def test_what_the_peer_spoke_of_is_no_charge_on_the_introducer() -> None:
    guard = IntroduceGuard()
    for n in range(100):
        assert guard.on_introduce(introduce(n), RELAY, HOSTS, 0.0, expected=True) is Verdict.ACCEPTED
    wrong = introduce(101, reflex=Address("192.0.2.1", 1))
    assert guard.on_introduce(wrong, RELAY, HOSTS, 0.0, expected=True) is Verdict.FOREIGN_ADDRESS
    assert guard.on_introduce(introduce(102), RELAY, HOSTS, 0.0) is Verdict.ACCEPTED


def test_trains_are_bounded() -> None:
    guard = IntroduceGuard(max_trains=8)
    relays = [PeerId(bytes([n]) * 32) for n in range(10, 20)]
    verdicts = [guard.on_introduce(introduce(n), relay, HOSTS, 0.0) for n, relay in enumerate(relays)]
    assert verdicts == [Verdict.ACCEPTED] * 8 + [Verdict.BUSY] * 2
    assert guard.on_introduce(introduce(49), RELAY, HOSTS, 0.0, expected=True) is Verdict.BUSY
    guard.finished(bytes(8))
    guard.finished(bytes(8))
    assert guard.on_introduce(introduce(50), OTHER_RELAY, HOSTS, 0.0) is Verdict.ACCEPTED
    # what we asked for ourselves is bounded by what we ask for
    guard.requests.expect(b"x" * 8, RELAY, PEER)
    assert guard.on_introduce(PunchIntroduce(b"x" * 8, PEER, HERE, 0, True), RELAY, HOSTS, 0.0) is Verdict.ACCEPTED
    assert len(guard) == 8


def test_a_repeated_introduction_begins_nothing() -> None:
    guard = IntroduceGuard()
    assert guard.on_introduce(introduce(), RELAY, HOSTS, 0.0) is Verdict.ACCEPTED
    for relay in (RELAY, OTHER_RELAY):
        assert guard.on_introduce(introduce(), relay, HOSTS, 0.0) is Verdict.REPEATED
    assert guard.dropped[Verdict.REPEATED] == 2


def test_an_introduction_that_we_asked_for() -> None:
    guard = IntroduceGuard()
    asked = introduce(asked=True)
    assert guard.on_introduce(asked, RELAY, HOSTS, 0.0) is Verdict.UNEXPECTED
    assert guard.requests.expect(asked.punch_id, RELAY, PEER)
    assert guard.on_introduce(asked, OTHER_RELAY, HOSTS, 0.0) is Verdict.UNEXPECTED
    assert guard.on_introduce(introduce(asked=True, peer=OTHER), RELAY, HOSTS, 0.0) is Verdict.UNEXPECTED
    wrong = introduce(asked=True, reflex=Address("192.0.2.1", 1))
    assert guard.on_introduce(wrong, RELAY, HOSTS, 0.0) is Verdict.FOREIGN_ADDRESS
    assert guard.on_introduce(asked, RELAY, HOSTS, 0.0) is Verdict.ACCEPTED
    assert guard.on_introduce(asked, RELAY, HOSTS, 0.0) is Verdict.UNEXPECTED  # answered already
    assert len(guard) == 0


def test_what_we_asked_for_is_no_charge_on_the_introducer() -> None:
    guard = IntroduceGuard()
    for n in range(6):
        guard.requests.expect(n.to_bytes(8, "big"), RELAY, PEER)
        assert guard.on_introduce(introduce(n, asked=True), RELAY, HOSTS, 0.0) is Verdict.ACCEPTED
    assert guard.on_introduce(introduce(99), RELAY, HOSTS, 0.0) is Verdict.ACCEPTED


def test_requests() -> None:
    requests = PunchRequests(limit=2)
    assert requests.expect(b"a", RELAY, PEER)
    assert not requests.expect(b"a", RELAY, OTHER)
    assert requests.expect(b"b", RELAY, OTHER)
    assert not requests.expect(b"c", RELAY, PEER)
    assert requests.take(b"a", OTHER_RELAY) is None
    assert requests.take(b"a", RELAY) == PEER
    assert requests.take(b"a", RELAY) is None
    requests.cancel(b"b")
    requests.cancel(b"b")
    assert len(requests) == 0
    assert requests.unmatched == 2
