"""Who is taken for one when somebody has to make room."""

from __future__ import annotations

from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netmesh_trio import Address, Identity, PeerId
from netmesh_trio.node.bindings import BindingHelper
from netmesh_trio.node.households import household
from netmesh_trio.traversal.reflex import Help, HelperBudgets, HelpRequest

A, B, RELAY = (Identity(bytes((n,)) * 32).peer_id for n in (1, 2, 3))


def at(host: str, port: int = 4650) -> Address:
    return Address(host, port)


def home(who: PeerId, address: Address, *, proven: bool = True) -> Hashable:
    return household(who, (0, address), None, None, proven=proven)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("198.51.100.1", "198.51.100.1", True),
        ("198.51.100.1", "198.51.100.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("::1", "::1", False),
    ],
)
def test_by_address(one: str, other: str, same: bool) -> None:
    assert (home(A, at(one, 1)) == home(B, at(other, 2))) is same
    assert home(A, at(one, 1)) == home(A, at(one, 2))


def test_over_a_relay() -> None:
    def over(relay: PeerId, carrier: Address | None = None) -> Hashable:
        return household(A, b"circuit.", relay, carrier)

    assert over(RELAY) == household(B, b"other...", RELAY, None) != over(B)
    assert over(RELAY) != home(RELAY, at("127.0.0.1"))
    # relays at one address are one, and somebody else than those who are there themselves
    assert over(RELAY, at("198.51.100.1", 1)) == over(B, at("198.51.100.1", 2)) != over(B, at("198.51.100.2"))
    assert over(RELAY, at("198.51.100.1")) != home(A, at("198.51.100.1"))
    assert over(RELAY, at("127.0.0.1")) != over(B, at("127.0.0.1"))


def test_addresses_that_may_be_made_up_are_one() -> None:
    one, other = at("198.51.100.1"), at("198.51.100.2")
    assert home(A, one, proven=False) == home(B, other, proven=False) != home(A, one)


def test_the_places_of_a_helper_are_shared_by_address() -> None:
    engine: Any = SimpleNamespace(now=lambda: 0.0, random_bytes=bytes)
    helper = BindingHelper(engine, HelperBudgets())

    def ask(number: int, host: str) -> bool:
        peer_id = PeerId(number.to_bytes(32, "big"))
        address = at(host)
        live = cast(Any, SimpleNamespace(peer=SimpleNamespace(peer_id=peer_id), household=home(peer_id, address)))
        return helper.on_request(live, address, HelpRequest(number.to_bytes(8, "big"), Help.BINDING))

    assert all(ask(number, "198.51.100.66") for number in range(64))
    assert not ask(64, "198.51.100.66")
    for number in range(31):
        assert ask(100 + number, f"203.0.113.{1 + number}")
    assert len(helper._watched) == 64
    # what was watched for longest has gone
    assert (0).to_bytes(8, "big") not in helper._watched
    assert (63).to_bytes(8, "big") in helper._watched
    assert not ask(65, "198.51.100.66")
