from __future__ import annotations

import itertools

import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.identity import PeerId
from netmesh_trio.traversal.classify import Classifier, LocalAddresses, NatState, NatType, Observation, classify

OPEN, CONE, SYMMETRIC, UNKNOWN = NatType.OPEN, NatType.CONE, NatType.SYMMETRIC, NatType.UNKNOWN

LAN = LocalAddresses((Address("0.0.0.0", 4650),), frozenset({"192.168.1.5", "127.0.0.1"}))
PUBLIC = LocalAddresses((Address("0.0.0.0", 4650),), frozenset({"203.0.113.7", "127.0.0.1"}))
BOUND = LocalAddresses((Address("203.0.113.7", 4650),), frozenset({"203.0.113.7", "203.0.113.8"}))
LOOPBACK = LocalAddresses((Address("127.0.0.1", 4650),))


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def seen(*views: str, at: float = 0.0, socket: int = 0) -> list[Observation]:
    """Each "observer's address > the address it sees"; the n-th view is of observer n unless "n:" stands in front."""
    observations = []
    for number, view in enumerate(views, 1):
        observer, _, reflex = view.partition(" > ")
        observations.append(
            Observation(peer(number), Address.parse(observer), Address.parse(reflex), at + number / 1000, socket)
        )
    return observations


@pytest.mark.parametrize(
    ("views", "local", "expected"),
    [
        ((), LAN, UNKNOWN),
        (("198.51.100.1:1 > 203.0.113.7:9",), LAN, UNKNOWN),
        (("198.51.100.1:1 > 203.0.113.7:4650",), PUBLIC, UNKNOWN),  # one voice is not enough for anything
        # two voices from one address are one
        (("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.1:1 > 203.0.113.7:9"), LAN, UNKNOWN),
        (("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.2:1 > 203.0.113.7:9"), LAN, CONE),
        (("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.1:2 > 203.0.113.7:9"), LAN, CONE),
        (("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.1:2 > 203.0.113.7:8"), LAN, SYMMETRIC),
        (("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.2:1 > 203.0.113.8:9"), LAN, SYMMETRIC),
        # the port is kept, but the address is not ours
        (("198.51.100.1:1 > 203.0.113.7:4650", "198.51.100.2:1 > 203.0.113.7:4650"), LAN, CONE),
        (("198.51.100.1:1 > 203.0.113.7:4650", "198.51.100.2:1 > 203.0.113.7:4650"), PUBLIC, OPEN),
        (("198.51.100.1:1 > 203.0.113.7:4650", "198.51.100.2:1 > 203.0.113.9:77"), PUBLIC, OPEN),  # any
        (("198.51.100.1:1 > 203.0.113.7:4651", "198.51.100.2:1 > 203.0.113.7:4651"), PUBLIC, CONE),  # not the port
        (("198.51.100.1:1 > 203.0.113.7:4650", "198.51.100.2:1 > 203.0.113.7:4650"), BOUND, OPEN),
        # bound to one address: another interface's is not where packets arrive
        (("198.51.100.1:1 > 203.0.113.8:4650", "198.51.100.2:1 > 203.0.113.8:4650"), BOUND, CONE),
        # a neighbor on our side of the NAT sees our own address, which proves nothing
        (
            (
                "192.168.1.9:1 > 192.168.1.5:4650",
                "198.51.100.1:1 > 203.0.113.7:9",
                "198.51.100.2:1 > 203.0.113.7:9",
            ),
            LAN,
            CONE,
        ),
        (("192.168.1.9:1 > 192.168.1.5:4650", "198.51.100.1:1 > 203.0.113.7:9"), LAN, UNKNOWN),
        # a mesh that is all in one network is judged there
        (("192.168.1.9:1 > 192.168.1.5:4650", "192.168.1.8:1 > 192.168.1.5:4650"), LAN, OPEN),
        (("127.0.0.1:1 > 127.0.0.1:4650", "127.0.0.1:2 > 127.0.0.1:4650"), LOOPBACK, OPEN),
        (("127.0.0.1:1 > 127.0.0.1:4650", "127.0.0.1:2 > 127.0.0.1:4650"), LAN, OPEN),
        # each family by itself
        (("[2001:db8::1]:1 > [2001:db8::7]:9", "198.51.100.2:1 > 203.0.113.7:9"), LAN, UNKNOWN),
    ],
)
def test_classify(views: tuple[str, ...], local: LocalAddresses, expected: NatType) -> None:
    observations = seen(*views)
    for order in itertools.permutations(observations):
        assert classify(order, local) is expected


def test_ipv6_is_judged_by_itself() -> None:
    local = LocalAddresses((Address("0.0.0.0", 4650), Address("::", 4650)), frozenset({"192.168.1.5", "2001:db8::7"}))
    four = seen("198.51.100.1:1 > 203.0.113.7:1", "198.51.100.2:1 > 203.0.113.7:2")
    six = seen("[2001:db8::1]:1 > [2001:db8::7]:4650", "[2001:db8::2]:1 > [2001:db8::7]:4650", socket=1)
    assert classify(four + six, local, 4) is SYMMETRIC
    assert classify(four + six, local, 6) is OPEN


def test_sockets_do_not_mix() -> None:
    local = LocalAddresses((Address("0.0.0.0", 1), Address("0.0.0.0", 2)))
    one = seen("198.51.100.1:1 > 203.0.113.7:1", "198.51.100.2:1 > 203.0.113.7:1")
    two = seen("198.51.100.1:1 > 203.0.113.7:2", socket=1)
    assert classify(one + two, local) is CONE


def test_the_last_word_of_an_observer_counts() -> None:
    old = seen("198.51.100.1:1 > 203.0.113.7:1", "198.51.100.2:1 > 203.0.113.7:2")
    new = seen("198.51.100.1:1 > 203.0.113.7:2", at=1.0)
    assert classify(old, LAN) is SYMMETRIC
    assert classify(new + old, LAN) is CONE


def test_tags() -> None:
    for kind in NatType:
        assert NatType.of_tags(["relay-capable", kind.tag]) is kind
        assert str(kind) == kind.value == kind.tag[4:]
    assert NatType.of_tags([]) is UNKNOWN
    assert NatType.of_tags(["nat:weird", "nat:cone", "nat:open"]) is CONE


CONE_VIEWS = ("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.2:1 > 203.0.113.7:9")


def fed(classifier: Classifier, *views: str, at: float = 0.0) -> list[NatState | None]:
    return [classifier.observe(o) for o in seen(*views, at=at)]


def test_a_classifier_tells_changes_only() -> None:
    classifier = Classifier(LAN)
    assert classifier.state == NatState()
    first, second = fed(classifier, *CONE_VIEWS)
    assert first == NatState(reflex=Address("203.0.113.7", 9))
    assert second == NatState(nat_type=CONE, reflex=Address("203.0.113.7", 9))
    assert classifier.state == second
    assert fed(classifier, *CONE_VIEWS, at=5.0) == [None, None]
    assert len(classifier.observations) == 2


def test_an_override_hides_what_is_observed_and_clearing_brings_it_back() -> None:
    mapped, mapped6 = Address("203.0.113.9", 4650), Address("2001:db8::9", 4650)
    classifier = Classifier(LAN, override=mapped)
    assert classifier.state == NatState(nat_type=OPEN, reflex=mapped, overridden=True)
    assert fed(classifier, *CONE_VIEWS) == [None, None]
    assert classifier.observed == NatState(nat_type=CONE, reflex=Address("203.0.113.7", 9))
    assert classifier.set_override(None) == classifier.observed
    assert classifier.set_override(None) is None
    six = classifier.set_override(mapped6)
    assert six == NatState(
        nat_type=OPEN, nat_type6=OPEN, reflex=Address("203.0.113.7", 9), reflex6=mapped6, overridden=True
    )
    assert classifier.override == mapped6


def test_a_router_that_restarts_does_not_look_symmetric() -> None:
    classifier = Classifier(LAN)
    fed(classifier, *CONE_VIEWS)
    [moved] = fed(classifier, "198.51.100.1:1 > 203.0.113.99:9", at=300.0)
    assert moved == NatState(nat_type=CONE, reflex=Address("203.0.113.99", 9))
    assert len(classifier.observations) == 1
    [_, after] = fed(classifier, "198.51.100.1:1 > 203.0.113.99:9", "198.51.100.2:1 > 203.0.113.99:9", at=300.1)
    assert after is None
    assert classifier.state.nat_type is CONE


def test_a_nat_that_becomes_symmetric_is_found_in_one_round() -> None:
    classifier = Classifier(LAN)
    fed(classifier, *CONE_VIEWS)
    changes = fed(classifier, "198.51.100.1:1 > 203.0.113.7:9", "198.51.100.2:1 > 203.0.113.7:10", at=300.0)
    assert changes[0] is None
    assert changes[1] == NatState(nat_type=SYMMETRIC, reflex=Address("203.0.113.7", 10))


def test_asking_the_observers_of_a_symmetric_nat_again_changes_nothing() -> None:
    classifier = Classifier(LAN)
    views = ("198.51.100.1:1 > 203.0.113.7:9", "198.51.100.2:1 > 203.0.113.7:10", "198.51.100.3:1 > 203.0.113.7:11")
    fed(classifier, *views)
    announced = classifier.state
    assert fed(classifier, *views, at=50.0) == [None] * 3
    assert fed(classifier, *views, "198.51.100.4:1 > 203.0.113.7:12", at=60.0) == [None] * 4
    assert classifier.state == announced


def test_a_verdict_holds_while_observations_are_few_and_ends_with_the_last() -> None:
    classifier = Classifier(LAN, lifetime=100.0)
    fed(classifier, *CONE_VIEWS)
    fed(classifier, CONE_VIEWS[0], at=50.0)
    assert classifier.expire(120.0) is None
    assert len(classifier.observations) == 1
    assert classifier.state.nat_type is CONE
    assert classifier.expire(151.0) == NatState()


def test_losing_an_observer_keeps_the_verdict() -> None:
    classifier = Classifier(LAN)
    fed(classifier, *CONE_VIEWS)
    assert classifier.forget(peer(2)) is None
    assert classifier.state.nat_type is CONE
    assert classifier.forget(peer(1)) == NatState(nat_type=CONE)
    assert classifier.expire(0.0) == NatState()


def test_another_network_begins_anew() -> None:
    classifier = Classifier(LAN)
    fed(classifier, *CONE_VIEWS)
    assert classifier.set_local(LAN) is None
    assert classifier.set_local(PUBLIC) == NatState()
    assert classifier.observations == ()
    fed(classifier, *CONE_VIEWS)
    assert classifier.reset() == NatState()
    assert classifier.reset() is None


def test_observers_are_bounded_and_nonsense_is_ignored() -> None:
    classifier = Classifier(LAN, max_observers=3)
    fed(classifier, *(f"198.51.100.{n}:1 > 203.0.113.7:9" for n in range(1, 20)))
    assert [o.observer for o in classifier.observations] == [peer(17), peer(18), peer(19)]
    assert fed(classifier, "198.51.100.1:1 > 0.0.0.0:9") == [None]
    assert len(classifier.observations) == 3


def test_a_port_mapping_is_announced_unless_the_program_knows_better() -> None:
    mapped, mapped6, override = Address("203.0.113.50", 9), Address("2001:db8::7", 9), Address("198.51.100.7", 8)
    classifier = Classifier(LocalAddresses((Address("0.0.0.0", 9), Address("::", 9))))
    classifier.set_mapped(4, mapped)
    state = classifier.state
    assert (state.nat_type, state.reflex, state.nat_type6, state.overridden) == (OPEN, mapped, UNKNOWN, True)
    # a pinhole says nothing about IPv4, which the tag is about
    classifier.set_mapped(4, None)
    classifier.set_mapped(6, mapped6)
    state = classifier.state
    assert (state.nat_type, state.reflex, state.nat_type6, state.reflex6) == (UNKNOWN, None, OPEN, mapped6)
    classifier.set_mapped(4, mapped)
    assert classifier.forwarded == (mapped, mapped6)
    classifier.set_override(override)
    assert (classifier.state.reflex, classifier.state.reflex6) == (override, mapped6)
    assert classifier.forwarded == (override, mapped6)
    classifier.set_override(None)
    assert classifier.state.reflex == mapped
    classifier.set_mapped(4, None)
    classifier.set_mapped(6, None)
    assert classifier.state == NatState()
    assert not classifier.forwarded


def test_with_nothing_but_ipv6_a_pinhole_makes_open() -> None:
    classifier = Classifier(LocalAddresses((Address("::", 9),)))
    classifier.set_mapped(6, Address("2001:db8::7", 9))
    assert classifier.state.nat_type is OPEN
