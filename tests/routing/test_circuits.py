from __future__ import annotations

import contextlib
import random
from collections import Counter
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netmesh_trio.identity import PeerId
from netmesh_trio.routing import (
    MAX_FIRST_PACKET,
    CircuitRefused,
    CloseCircuit,
    OpenCircuit,
    Opened,
    RefusalReason,
    RelayLimits,
    RelayPolicy,
    RelayTable,
    decode_circuit_message_untrusted,
)
from netmesh_trio.wire.errors import DecodeError
from netmesh_trio.wire.frames import CONTROL_MAX_PAYLOAD


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


A, B, C, D = peer(1), peer(2), peer(3), peer(4)
ID = b"circuit1"
INIT = bytes(640)


def request(circuit_id: bytes = ID, target: PeerId = B, hops_left: int = 8, packet: bytes = INIT) -> OpenCircuit:
    return OpenCircuit(circuit_id, target, hops_left, packet)


class Relay:
    """A table with a seeded source of randomness."""

    def __init__(
        self,
        limits: RelayLimits | None = None,
        policy: RelayPolicy = "any",
        members: tuple[PeerId, ...] = (),
    ) -> None:
        self.table = RelayTable(policy=policy, is_member=members.__contains__, limits=limits)
        self.random_bytes = random.Random(7).randbytes

    def open(
        self, message: OpenCircuit, asker: PeerId = A, next_hop: PeerId | None = B, now: float = 0.0
    ) -> Opened | CircuitRefused:
        return self.table.open(message, asker, lambda: next_hop, self.random_bytes, now)

    def opened(self, message: OpenCircuit, asker: PeerId = A, next_hop: PeerId | None = B, now: float = 0.0) -> Opened:
        result = self.open(message, asker, next_hop, now)
        assert isinstance(result, Opened)
        return result

    def reason(self, message: OpenCircuit, asker: PeerId = A, next_hop: PeerId | None = B, now: float = 0.0) -> str:
        result = self.open(message, asker, next_hop, now)
        assert isinstance(result, CircuitRefused)
        assert result.circuit_id == message.circuit_id
        return result.reason.value


# Messages


@given(
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=32, max_size=32),
    st.integers(1, 8),
    st.binary(min_size=1, max_size=MAX_FIRST_PACKET),
)
def test_open_round_trip(circuit_id: bytes, target: bytes, hops_left: int, packet: bytes) -> None:
    message = OpenCircuit(circuit_id, PeerId(target), hops_left, packet)
    assert decode_circuit_message_untrusted(message.encode()) == message


@pytest.mark.parametrize("reason", RefusalReason)
def test_refused_round_trip(reason: RefusalReason) -> None:
    message = CircuitRefused(ID, reason)
    assert decode_circuit_message_untrusted(message.encode()) == message


def test_bytes_on_the_wire() -> None:
    assert CloseCircuit(ID).encode() == b"\x82\x03\x48circuit1"
    assert CircuitRefused(ID, RefusalReason.LOOP).encode() == b"\x83\x02\x48circuit1\x64loop"
    assert request(packet=b"p").encode() == (b"\x85\x01\x48circuit1\x58\x20" + bytes(B) + b"\x08\x41p")
    assert decode_circuit_message_untrusted(b"\x82\x03\x48circuit1") == CloseCircuit(ID)


def test_the_largest_request_fits_a_control_frame() -> None:
    assert len(request(packet=bytes(MAX_FIRST_PACKET)).encode()) <= CONTROL_MAX_PAYLOAD


@pytest.mark.parametrize(
    "bad",
    [
        request(circuit_id=b"short"),
        request(hops_left=0),
        request(hops_left=9),
        request(packet=b""),
        request(packet=bytes(MAX_FIRST_PACKET + 1)),
        CloseCircuit(b""),
        CircuitRefused(b"123456789", RefusalReason.POLICY),
    ],
)
def test_what_cannot_be_encoded(bad: OpenCircuit | CloseCircuit | CircuitRefused) -> None:
    with pytest.raises(ValueError):
        bad.encode()


@pytest.mark.parametrize(
    "fields",
    [
        5,
        [],
        [3],
        [4, ID],
        [0, ID],
        [True, ID],
        [3, ID, 1],
        [3, b"short"],
        [2, ID],
        [2, ID, "no such reason"],
        [2, ID, 5],
        [1, ID, bytes(B), 8],
        [1, ID, bytes(31), 8, INIT],
        [1, ID, bytes(B), 0, INIT],
        [1, ID, bytes(B), 9, INIT],
        [1, ID, bytes(B), 8, b""],
        [1, ID, bytes(B), 8, bytes(MAX_FIRST_PACKET + 1)],
        [1, ID, bytes(B), 8, "text"],
        [1, ID, bytes(B), 8, INIT, 0],
        {1: ID},
    ],
)
def test_refused_bytes(fields: object) -> None:
    with pytest.raises(DecodeError):
        decode_circuit_message_untrusted(cbor2.dumps(fields))


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\x85\x01\x48" + tail))
def test_any_bytes_give_a_message_or_a_decode_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert decode_circuit_message_untrusted(data).encode() == data


# The table


def test_both_directions_of_a_circuit() -> None:
    relay = Relay()
    opened = relay.opened(request())
    assert opened.fresh
    assert opened.next_hop == B
    onward = opened.onward
    assert (onward.target, onward.hops_left, onward.packet) == (B, 7, INIT)
    assert onward.circuit_id != ID
    assert len(relay.table) == 1
    assert ID in relay.table
    assert onward.circuit_id in relay.table

    there = relay.table.forward(ID, 100, 1, 1.0)
    assert there is not None
    assert (there.peer, there.id) == (B, onward.circuit_id)
    back = relay.table.forward(onward.circuit_id, 300, 3, 2.0)
    assert back is not None
    assert (back.peer, back.id) == (A, ID)
    stats = relay.table.stats()
    assert (stats.circuits, stats.forwarded_packets, stats.forwarded_bytes) == (1, 4, 400)


def test_an_unknown_id_is_dropped_and_counted() -> None:
    relay = Relay()
    assert relay.table.forward(b"nobody's", 100, 3, 0.0) is None
    assert relay.table.stats().dropped_unknown == 3


def test_a_repeated_request_sends_the_packet_again() -> None:
    relay = Relay()
    first = relay.opened(request())
    again = relay.opened(request(packet=b"cookie"), next_hop=C)
    assert not again.fresh
    assert again.next_hop == B  # as the first time
    assert again.onward.circuit_id == first.onward.circuit_id
    assert again.onward.packet == b"cookie"
    assert again.leg is first.leg
    assert len(relay.table) == 1
    assert relay.table.stats().reopened == 1


def test_collisions() -> None:
    relay = Relay()
    opened = relay.opened(request())
    assert relay.reason(request(), asker=C) == "collision"
    assert relay.reason(request(target=D)) == "collision"
    # The far side may not take its own leg's id for a request either.
    assert relay.reason(request(opened.onward.circuit_id), asker=B, next_hop=A) == "collision"
    table = relay.table
    result = table.open(request(b"another1"), A, lambda: B, lambda _size: ID, 0.0)
    assert result == CircuitRefused(b"another1", RefusalReason.COLLISION)
    result = table.open(request(b"another1"), A, lambda: B, lambda _size: b"another1", 0.0)
    assert result == CircuitRefused(b"another1", RefusalReason.COLLISION)
    assert table.stats().refused["collision"] == 5
    assert len(table) == 1


def test_loops_and_no_route() -> None:
    relay = Relay()
    assert relay.reason(request(hops_left=1)) == "loop"
    assert relay.reason(request(target=A)) == "loop"
    assert relay.reason(request(target=C), next_hop=A) == "loop"
    assert relay.reason(request(target=C), next_hop=None) == "not-here"
    assert relay.opened(request(hops_left=2)).onward.hops_left == 1
    assert relay.table.stats().refused == {
        "not-here": 1,
        "policy": 0,
        "budget": 0,
        "loop": 3,
        "unknown-session": 0,
        "collision": 0,
    }


@pytest.mark.parametrize(
    ("policy", "asker", "next_hop", "allowed"),
    [
        ("off", A, B, False),
        ("members", A, B, True),
        ("members", A, C, False),
        ("members", C, A, False),
        ("members", C, D, False),
        ("any", C, D, True),
    ],
)
def test_policy(policy: RelayPolicy, asker: PeerId, next_hop: PeerId, allowed: bool) -> None:
    relay = Relay(policy=policy, members=(A, B))
    result = relay.open(request(target=next_hop), asker, next_hop)
    if allowed:
        assert isinstance(result, Opened)
    else:
        assert result == CircuitRefused(ID, RefusalReason.POLICY)
        assert len(relay.table) == 0


def test_a_stranger_does_not_learn_who_is_here() -> None:
    relay = Relay(policy="members", members=(A,))
    assert relay.reason(request(target=D), asker=C, next_hop=None) == "policy"
    assert relay.reason(request(target=A), asker=C, next_hop=A) == "policy"


def test_limits_on_circuits() -> None:
    relay = Relay(RelayLimits(max_circuits=3, max_circuits_per_peer=2))
    for number in range(2):
        relay.opened(request(b"from-A-%d" % number))
    assert relay.reason(request(b"from-A-2")) == "budget"
    assert relay.opened(request(b"from-A-1")).fresh is False  # a repeat is no new circuit
    relay.opened(request(b"from-C-0"), asker=C)  # circuits that end at B do not count for B
    assert relay.table.close(b"from-A-0", A) is not None
    relay.opened(request(b"from-A-2"))


def test_in_a_full_table_who_has_most_makes_room() -> None:
    relay = Relay(RelayLimits(max_circuits=4))
    table = relay.table
    onward = [relay.opened(request(b"from-A-%d" % number), now=number).onward.circuit_id for number in range(3)]
    relay.opened(request(b"from-C-0"), asker=C, now=3.0)
    # what counts is the last packet in either direction
    table.forward(onward[0], 10, 1, 10.0)
    table.forward(b"from-A-1", 10, 1, 5.0)
    table.forward(onward[1], 10, 1, 5.0)
    table.forward(b"from-A-2", 10, 1, 9.0)
    assert relay.reason(request(b"from-A-3"), now=11.0) == "budget"
    opened = relay.opened(request(b"from-C-1"), asker=C, now=11.0)
    assert [(leg.peer, leg.id) for leg in opened.ended] == [(A, b"from-A-1"), (B, onward[1])]
    assert (len(table), table.stats().displaced) == (4, 1)
    # as many each now, so neither of them takes from the other, and somebody else takes from either
    assert relay.reason(request(b"from-C-2"), asker=C, now=11.0) == "budget"
    assert relay.reason(request(b"from-A-4"), now=11.0) == "budget"
    assert {leg.peer for leg in relay.opened(request(b"from-D-0"), asker=D, now=11.0).ended} in ({A, B}, {B, C})


def test_askers_that_may_be_one_share() -> None:
    relay = Relay(RelayLimits(max_circuits=4))
    table = relay.table

    def ask(number: int, asker: PeerId, share: str) -> Opened | CircuitRefused:
        return table.open(request(b"circ-%03d" % number), asker, lambda: B, relay.random_bytes, 0.0, share)

    for number in range(4):
        assert isinstance(ask(number, peer(100 + number), "there"), Opened)
    assert isinstance(ask(4, peer(200), "there"), CircuitRefused)
    outcome = ask(5, A, "here")
    assert isinstance(outcome, Opened)
    assert outcome.ended
    assert len(table) == 4


def test_few_are_looked_at_to_find_one_that_is_idle() -> None:
    relay = Relay(RelayLimits(max_circuits=1000, max_circuits_per_peer=1000, burst_opens=1e4))
    table = relay.table
    for number in range(1000):
        relay.opened(request(b"%08d" % number), now=float(number))
    ended: list[int] = []
    for number in range(100):
        opened = relay.opened(request(b"new-%04d" % number), asker=peer(500 + number), now=2000.0)
        assert opened.leg.peer != A
        assert opened.ended[0].peer == A
        ended.append(int(opened.ended[0].id))
    # each time the idlest of the next 32
    assert ended[:31] == list(range(0, 992, 32))
    assert (len(table), table._places.holders) == (1000, 101)
    table.close_for_peer(B)
    assert table._places.holders == 0
    assert not table._places._places


def test_limit_on_requests() -> None:
    relay = Relay(RelayLimits(opens_per_second=2.0, burst_opens=3.0))
    for number in range(3):
        relay.opened(request(b"from-A-%d" % number))
    assert relay.reason(request(b"from-A-3")) == "budget"
    assert relay.reason(request(b"from-A-0")) == "budget"  # repeats count
    relay.opened(request(b"from-C-0"), asker=C)
    relay.opened(request(b"from-A-3"), now=0.5)
    assert relay.reason(request(b"from-A-4"), now=0.5) == "budget"


def test_whatever_comes_of_a_request_is_charged_before_a_way_is_sought() -> None:
    relay = Relay(RelayLimits(opens_per_second=2.0, burst_opens=4.0))
    sought: list[float] = []

    def seek() -> PeerId | None:
        sought.append(1.0)
        return None

    def ask(number: int, **fields: Any) -> str:
        result = relay.table.open(request(b"from-A-%d" % number, **fields), A, seek, relay.random_bytes, 0.0)
        assert isinstance(result, CircuitRefused)
        return result.reason.value

    assert ask(0, target=C) == "not-here"
    assert ask(1, hops_left=1) == "loop"
    assert ask(2, target=A) == "loop"
    assert ask(3, target=C) == "not-here"
    assert len(sought) == 2
    assert ask(4, target=C) == ask(5, hops_left=1) == "budget"
    assert len(sought) == 2
    off = Relay(policy="off")
    off.table.open(request(), A, seek, off.random_bytes, 0.0)
    again = Relay()
    again.opened(request())
    again.table.open(request(), A, seek, again.random_bytes, 0.0)
    assert len(sought) == 2


def test_budget_of_a_circuit() -> None:
    limits = RelayLimits(bytes_per_second=1000.0, burst_bytes=65536.0, packets_per_second=10.0, burst_packets=128.0)
    relay = Relay(limits)
    opened = relay.opened(request())
    table = relay.table
    assert table.forward(ID, 65536, 64, 0.0) is not None
    assert table.forward(ID, 1, 1, 0.0) is None
    assert table.forward(ID, 1000, 1, 0.9) is None
    assert table.forward(ID, 1000, 1, 1.0) is not None
    assert table.forward(opened.onward.circuit_id, 65536, 64, 1.0) is not None  # its own budget
    assert table.forward(ID, 1, 200, 1000.0) is None
    assert table.forward(ID, 1, 128, 1000.0) is not None
    assert table.forward(ID, 0, 1, 1000.0) is None
    assert table.stats().dropped_over_budget == 203
    assert opened.leg.dropped == 203
    with pytest.raises(ValueError):
        RelayLimits(burst_bytes=1000.0)
    with pytest.raises(ValueError, match="max_circuits"):
        RelayLimits(max_circuits=0)


def test_only_a_side_of_a_circuit_closes_it() -> None:
    relay = Relay()
    onward = relay.opened(request()).onward
    table = relay.table
    assert table.close(ID, C) is None
    assert table.close(ID, B) is None  # B's leg has another id
    assert table.close(b"nobody's", A) is None
    other = table.close(onward.circuit_id, B)
    assert other is not None
    assert (other.peer, other.id) == (A, ID)
    assert len(table) == 0
    assert table.forward(ID, 1, 1, 0.0) is None
    assert table.close(ID, A) is None
    assert table.stats().closed == 1


def test_close_for_peer() -> None:
    relay = Relay()
    relay.opened(request(b"A-to-B.."))
    relay.opened(request(b"B-to-C..", target=C), asker=B, next_hop=C)
    relay.opened(request(b"A-to-C..", target=C), asker=A, next_hop=C)
    others = relay.table.close_for_peer(B)
    assert {(leg.peer, leg.target) for leg in others} == {(A, B), (C, C)}
    assert len(relay.table) == 1
    assert b"A-to-C.." in relay.table
    assert relay.table.close_for_peer(B) == []
    assert relay.table.stats().closed == 2


def test_coming_back_buys_no_new_budget() -> None:
    relay = Relay(RelayLimits(opens_per_second=2.0, burst_opens=4.0))
    table = relay.table
    for number in range(4):
        relay.opened(request(b"circuit%d" % number))
    refused = relay.open(request(b"circuit4"))
    assert isinstance(refused, CircuitRefused)
    table.close_for_peer(A)
    refused = relay.open(request(b"circuit5"))
    assert isinstance(refused, CircuitRefused)
    assert refused.reason is RefusalReason.BUDGET
    table.close_for_peer(A)
    table.expire(1.0)
    assert A in table._neighbors
    assert isinstance(relay.open(request(b"circuit6"), now=1.0), Opened)
    table.close_for_peer(A)
    table.expire(10.0)
    assert A not in table._neighbors
    assert not table._gone


def test_those_who_are_gone_are_bounded() -> None:
    relay = Relay()
    relay.table.close_for_peer(B)
    relay.opened(request())
    relay.table.close_for_peer(A)
    relay.opened(request())  # A is here again
    for number in range(10, 5010):
        relay.opened(request(b"x%07d" % number), asker=peer(number))
        relay.table.close_for_peer(peer(number))
        if number == 4000:
            relay.table.close_for_peer(peer(10))
    assert len(relay.table._gone) == 4096
    assert len(relay.table._neighbors) <= 4096 + 2
    assert peer(10) in relay.table._gone  # it left twice, and lately
    assert [leg.peer for leg in relay.table.close_for_peer(A)] == [B]


def test_expiry() -> None:
    relay = Relay(RelayLimits(idle_timeout=120.0, unanswered_timeout=20.0))
    table = relay.table
    answered = relay.opened(request(b"answered"), now=0.0).onward.circuit_id
    relay.opened(request(b"silent.."), now=5.0)
    table.forward(answered, 100, 1, 1.0)
    table.forward(b"silent..", 100, 1, 24.0)  # the asker alone does not keep it
    assert table.expire(20.0) == []
    assert {leg.peer for leg in table.expire(25.0)} == {A, B}
    assert b"silent.." not in table
    table.forward(b"answered", 100, 1, 100.0)
    assert table.expire(121.0) == []
    assert len(table.expire(220.0)) == 2
    assert (len(table), table.stats().expired) == (0, 2)


def test_nothing_is_left_of_peers_that_are_gone() -> None:
    relay = Relay()
    for number in range(100):
        relay.opened(request(), asker=peer(10 + number), now=float(number))
        relay.table.close(ID, peer(10 + number))
    relay.table.expire(1e6)
    assert not relay.table._neighbors
    assert not relay.table._legs


class RelayMachine(RuleBasedStateMachine):
    """The table against sets of circuits kept in the obvious way."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Relay(RelayLimits(max_circuits=6, max_circuits_per_peer=3, burst_opens=1e9))
        self.model: dict[bytes, tuple[PeerId, PeerId, bytes]] = {}  # asker, next hop, out id
        self.now = 0.0

    @rule(number=st.integers(0, 9), asker=st.integers(1, 3), hop=st.integers(1, 3))
    def open(self, number: int, asker: int, hop: int) -> None:
        circuit_id = b"circuit%d" % number
        result = self.relay.open(request(circuit_id, target=D), peer(asker), peer(hop), self.now)
        known = self.model.get(circuit_id)
        asked = sum(1 for owner, _, _ in self.model.values() if owner == peer(asker))
        if known is not None:
            assert isinstance(result, Opened) == (known[0] == peer(asker))
        elif asker == hop:
            assert result == CircuitRefused(circuit_id, RefusalReason.LOOP)
        elif asked >= 3 or (len(self.model) >= 6 and asked + 1 >= self.most()):
            assert result == CircuitRefused(circuit_id, RefusalReason.BUDGET)
        else:
            assert isinstance(result, Opened)
            assert bool(result.ended) == (len(self.model) >= 6)
            if result.ended:
                owner = self.model[result.ended[0].id][0]
                assert sum(1 for sides in self.model.values() if sides[0] == owner) == self.most()
                del self.model[result.ended[0].id]
            self.model[circuit_id] = (peer(asker), peer(hop), result.onward.circuit_id)

    def most(self) -> int:
        return max(Counter(owner for owner, _, _ in self.model.values()).values(), default=0)

    @rule(number=st.integers(0, 9), closer=st.integers(1, 3))
    def close(self, number: int, closer: int) -> None:
        circuit_id = b"circuit%d" % number
        leg = self.relay.table.close(circuit_id, peer(closer))
        known = self.model.get(circuit_id)
        assert (leg is not None) == (known is not None and known[0] == peer(closer))
        if leg is not None and known is not None:
            assert (leg.peer, leg.id) == known[1:]
            del self.model[circuit_id]

    @rule(gone=st.integers(1, 3))
    def close_for_peer(self, gone: int) -> None:
        others = self.relay.table.close_for_peer(peer(gone))
        ended = [circuit_id for circuit_id, sides in self.model.items() if peer(gone) in sides[:2]]
        assert len(others) == len(ended)
        for circuit_id in ended:
            del self.model[circuit_id]

    @rule(number=st.integers(0, 9))
    def forward(self, number: int) -> None:
        circuit_id = b"circuit%d" % number
        leg = self.relay.table.forward(circuit_id, 100, 1, self.now)
        known = self.model.get(circuit_id)
        assert (leg and (leg.peer, leg.id)) == (known and known[1:])

    @invariant()
    def counts_agree(self) -> None:
        table = self.relay.table
        assert len(table) == len(self.model)
        assert len(table._legs) == 2 * len(self.model)
        for owner, neighbor in table._neighbors.items():
            assert neighbor.asked == sum(1 for sides in self.model.values() if sides[0] == owner)
            assert len(neighbor.legs) == sum(1 for sides in self.model.values() if owner in sides[:2])


TestRelayMachine = RelayMachine.TestCase
