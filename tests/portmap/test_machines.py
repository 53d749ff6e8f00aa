from __future__ import annotations

import math
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.traversal.portmap import Gateway, PortMapCause, PortMapError, PortMapping
from netmesh_trio.traversal.portmap.decisions import choose_protocol, renew_after, retry_after
from netmesh_trio.traversal.portmap.epoch import EpochClock
from netmesh_trio.traversal.portmap.exchange import Exchange
from netmesh_trio.traversal.portmap.mapping import PortMapProtocol
from netmesh_trio.wire.errors import DecodeError

ROUTER = Address("192.168.1.1", 5351)


def read(data: bytes) -> str:
    if data == b"no":
        raise PortMapError(PortMapCause.REFUSED, "pcp")
    if data != b"yes":
        raise DecodeError("?")
    return "answer"


def times(exchange: Exchange[str]) -> tuple[list[float], PortMapError]:
    """When it sends if nothing ever comes, and how it ends."""
    now = 100.0
    sent: list[float] = []
    while True:
        try:
            packet = exchange.next_packet(now)
        except PortMapError as error:
            return [*sent, now - 100.0], error
        assert packet == b"request"
        sent.append(now - 100.0)
        assert exchange.next_packet(now) is None
        assert exchange.next_packet((now + exchange.deadline) / 2) is None
        now = exchange.deadline


def test_a_request_is_repeated_from_a_quarter_of_a_second_on_and_ends() -> None:
    sent, error = times(Exchange(b"request", read, ROUTER, "pcp"))
    assert sent == [0.0, 0.25, 0.75, 1.75, 3.75]
    assert error.cause is PortMapCause.TIMEOUT
    chance = random.Random(1)
    for _ in range(20):
        spread, _ = times(Exchange(b"request", read, ROUTER, "pcp", chance.random))
        assert all(0.9 * b <= a <= 1.1 * b for a, b in zip(spread, sent, strict=True))


def test_only_the_router_answers_and_only_sense() -> None:
    exchange = Exchange(b"request", read, ROUTER, "pcp")
    exchange.next_packet(0.0)
    for wrong in (Address("192.168.1.2", 5351), Address("192.168.1.1", 5352)):
        assert exchange.on_datagram_untrusted(b"yes", wrong) is None
    assert exchange.noise == 0
    assert exchange.on_datagram_untrusted(b"?", ROUTER) is None
    assert exchange.noise == 1
    assert exchange.on_datagram_untrusted(b"yes", ROUTER) == "answer"
    with pytest.raises(PortMapError, match="refused"):
        exchange.on_datagram_untrusted(b"no", ROUTER)


def test_nonsense_is_told_from_silence() -> None:
    exchange = Exchange(b"request", read, ROUTER, "nat-pmp")
    exchange.on_datagram_untrusted(b"?", ROUTER)
    _, error = times(exchange)
    assert (error.cause, error.protocol) == (PortMapCause.MALFORMED, "nat-pmp")


def test_a_router_that_sends_nonsense_without_end_is_left() -> None:
    exchange = Exchange(b"request", read, ROUTER, "pcp")
    for _ in range(64):
        exchange.on_datagram_untrusted(b"?", ROUTER)
    with pytest.raises(PortMapError, match="malformed") as caught:
        exchange.on_datagram_untrusted(b"?", ROUTER)
    assert caught.value.cause is PortMapCause.MALFORMED
    assert exchange.noise == 65


@pytest.mark.parametrize(
    ("epoch", "now", "strict", "natpmp"),
    [
        (1010, 10, False, False),
        (1009, 10, False, False),
        (1012, 10, False, False),
        (1004, 10, True, True),
        (0, 10, True, True),
        (1007, 10, True, False),  # 7/8 of 10 s, and 2 s
        (1016, 10, True, False),  # ahead: RFC 6886 does not mind
        (1600, 640, False, False),  # a sixteenth slow
        (1590, 640, True, False),
        (1680, 640, False, False),  # a sixteenth fast
        (1690, 640, True, False),
        (999, 0.5, False, False),
        (997, 0.5, True, True),
        (None, 10, False, False),
    ],
)
def test_the_routers_clock(epoch: float | None, now: float, strict: bool, natpmp: bool) -> None:
    for wanted, rule in ((strict, True), (natpmp, False)):
        clock = EpochClock(strict=rule)
        assert not clock.observe(1000, 0.0)
        assert clock.observe(epoch, now) is wanted
        # what it said then is the new measure
        assert not clock.observe((1000 + now if epoch is None else epoch) + 100, now + 100)


CHOICES: list[tuple[set[PortMapProtocol], set[PortMapProtocol], float, PortMapProtocol | None, float]] = [
    (set(), {"pcp", "nat-pmp", "upnp"}, 0.0, None, 2.0),
    ({"pcp"}, {"nat-pmp", "upnp"}, 0.0, "pcp", 0.0),
    ({"upnp"}, {"pcp", "nat-pmp"}, 0.1, None, 0.2),
    ({"upnp"}, {"pcp", "nat-pmp"}, 0.3 - 1e-12, None, 0.001),
    ({"upnp"}, {"pcp", "nat-pmp"}, 0.3, "upnp", 0.0),
    ({"nat-pmp"}, {"upnp"}, 0.0, "nat-pmp", 0.0),
    ({"nat-pmp", "upnp"}, {"pcp"}, 0.3, "nat-pmp", 0.0),
    ({"upnp"}, set(), 0.0, "upnp", 0.0),
    (set(), {"upnp"}, 5.0, None, 2.0),  # the one that answered did not map
    (set(), set(), 0.0, None, 0.0),
]


@pytest.mark.parametrize(("answered", "pending", "since", "chosen", "wait"), CHOICES)
def test_the_choice_of_a_protocol(
    answered: set[PortMapProtocol],
    pending: set[PortMapProtocol],
    since: float,
    chosen: PortMapProtocol | None,
    wait: float,
) -> None:
    protocol, seconds = choose_protocol(answered, pending, since)
    assert protocol == chosen
    assert seconds == pytest.approx(wait)


MAPPING = PortMapping(
    protocol="pcp",
    gateway=Gateway("192.168.1.1", "192.168.1.7"),
    internal=Address("192.168.1.7", 1),
    external=Address("203.0.113.7", 1),
    lifetime=3600.0,
)


@pytest.mark.parametrize(
    ("lifetime", "renewal", "attempts"),
    [
        (3600.0, 1800.0, [1800.0, 2700.0, 3150.0]),
        (120.0, 1800.0, [60.0, 90.0, 105.0]),  # the router gave less than was asked for
        (3600.0, 600.0, [600.0, 900.0, 1050.0]),
        (math.inf, 1800.0, [1800.0, 2700.0, 3150.0]),
        (2.0, 1.0, [1.0, 2.0, 3.0]),  # never faster than one in a second
    ],
)
def test_renewal_fits_three_attempts_into_the_lease(lifetime: float, renewal: float, attempts: list[float]) -> None:
    mapping = attrs.evolve(MAPPING, lifetime=lifetime)
    assert [renew_after(mapping, renewal, failures) for failures in range(3)] == attempts


def test_fruitless_rounds_get_rarer() -> None:
    assert [retry_after([None] * n) for n in (1, 2, 3, 4, 5, 6, 9)] == [10, 20, 40, 80, 160, 300, 300]
    assert retry_after([None, 100.0]) == 100.0
    assert retry_after([None, 1.0]) == 20.0
    assert retry_after([1800.0]) == 300.0


@given(st.lists(st.tuples(st.binary(max_size=4), st.booleans()), max_size=100), st.floats(0, 1))
def test_whatever_comes_in_an_exchange_ends(incoming: list[tuple[bytes, bool]], chance: float) -> None:
    exchange = Exchange(b"request", read, ROUTER, "pcp", lambda: chance)
    now = 0.0
    try:
        for data, right in incoming:
            if exchange.on_datagram_untrusted(data, ROUTER if right else Address("10.0.0.1", 1)) is not None:
                return
        while True:
            exchange.next_packet(now)
            assert exchange.deadline > now
            now = exchange.deadline
    except PortMapError:
        assert now <= 3.75 * 1.1 + 0.01
