from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.addresses import Address
from netmesh_trio.identity import PeerId
from netmesh_trio.traversal.reflex import (
    CanaryOrder,
    Help,
    HelpAnswer,
    HelperBudgets,
    HelpRequest,
    ReflexAnswer,
    ReflexMessage,
    ReflexProbes,
    ReflexRequest,
    decode_reflex_message_untrusted,
    read_canary_untrusted,
)
from netmesh_trio.wire.errors import DecodeError
from netmesh_trio.wire.packets import canary

A, B = PeerId(b"\1" * 32), PeerId(b"\2" * 32)
TOKEN = bytes(range(8))
T = "0001020304050607"
V4 = Address("203.0.113.7", 4650)
V4_HEX = "04 cb007107" + "00" * 12 + "122a"
V6 = Address("2001:db8::7", 4650)
V6_HEX = "06 20010db8000000000000000000000007 122a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", ReflexRequest()),
        (T, ReflexRequest(TOKEN)),
        (V4_HEX, ReflexAnswer(V4)),
        (V6_HEX, ReflexAnswer(V6)),
        (T + V4_HEX, ReflexAnswer(V4, TOKEN)),
        (T + "01", HelpRequest(TOKEN, Help.OTHER_PORT)),
        (T + "02", HelpRequest(TOKEN, Help.OTHER_PEER)),
        (T + "0000", HelpAnswer(TOKEN, Help.REFLEX, False)),
        (T + "0201", HelpAnswer(TOKEN, Help.OTHER_PEER, True)),
        (T + "0301", HelpAnswer(TOKEN, Help.ORDER, True)),
        (T + "03" + V4_HEX, CanaryOrder(TOKEN, V4)),
    ],
)
def test_vectors(data: str, message: ReflexMessage) -> None:
    raw = bytes.fromhex(data)
    assert message.encode() == raw
    assert decode_reflex_message_untrusted(raw) == message


@pytest.mark.parametrize("size", [n for n in range(64) if n not in (0, 8, 9, 10, 19, 27, 28)])
def test_other_lengths_are_refused(size: int) -> None:
    with pytest.raises(DecodeError, match=f"{size} bytes"):
        decode_reflex_message_untrusted(bytes(size))


@pytest.mark.parametrize(
    "data",
    [
        T + "00",
        T + "03",
        T + "0600",
        T + "0102",
        T + "02" + V4_HEX,
        "05" + V4_HEX[2:],
        "04 00000000" + "00" * 12 + "122a",  # wildcard
        "04 e0000001" + "00" * 12 + "122a",  # multicast
        "04 ffffffff" + "00" * 12 + "122a",  # broadcast
        "04 cb007107" + "00" * 12 + "0000",  # port 0
        "04 cb007107" + "00" * 11 + "01122a",  # padding
        T + "04 00000000" + "00" * 12 + "122a",
    ],
)
def test_refused(data: str) -> None:
    with pytest.raises(DecodeError):
        decode_reflex_message_untrusted(bytes.fromhex(data))


@given(st.one_of(*(st.binary(min_size=n, max_size=n) for n in (0, 8, 9, 10, 19, 27, 28)), st.binary(max_size=40)))
def test_any_bytes_give_a_message_or_a_decode_error(data: bytes) -> None:
    try:
        message = decode_reflex_message_untrusted(data)
    except DecodeError:
        return
    assert message.encode() == data  # one message, one spelling


def test_encoding_checks_its_fields() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        ReflexRequest(b"short").encode()
    with pytest.raises(ValueError, match="another"):
        HelpRequest(TOKEN, Help.ORDER).encode()


def test_canaries() -> None:
    assert read_canary_untrusted(canary(TOKEN)) == TOKEN
    assert len(canary(TOKEN)) == 12
    for bad in (b"", canary(TOKEN)[:-1], canary(TOKEN) + b"0", b"\6" + canary(TOKEN)[1:], b"\7\1" + canary(TOKEN)[2:]):
        with pytest.raises(DecodeError):
            read_canary_untrusted(bad)


def probes(timeout: float = 3.0, limit: int = 256) -> tuple[ReflexProbes, list[bytes]]:
    return ReflexProbes(timeout, limit), [bytes([n]) * 8 for n in range(10)]


def test_answers_are_matched_to_their_probes_in_any_order() -> None:
    table, tokens = probes()
    draw = iter(tokens)
    first = table.start(A, V4, 0.0, lambda n: next(draw))
    second = table.start(A, V4, 1.0, lambda n: next(draw))
    other = table.start(B, None, 1.0, lambda n: next(draw))
    assert first is not None
    assert second is not None
    assert other is not None
    assert table.match(A, second.token, 1.5) == second
    assert table.match(A, second.token, 1.5) is None  # repeated
    assert table.match(A, other.token, 1.5) is None  # not theirs
    assert table.match(B, other.token, 1.5) == other  # and still good
    assert table.match(A, None, 1.5) is None  # we asked for no plain one
    assert table.match(A, first.token, 2.9) == first
    assert (table.unmatched, table.expired, len(table)) == (3, 0, 0)


def test_a_late_answer_is_not_taken_for_a_later_probes() -> None:
    table, tokens = probes()
    draw = iter(tokens)
    first = table.start(A, V4, 0.0, lambda n: next(draw))
    assert first is not None
    second = table.start(A, V4, 3.0, lambda n: next(draw))
    assert table.expired == 1
    assert table.match(A, first.token, 3.1) is None
    assert second is not None
    assert table.match(A, second.token, 3.2) == second


def test_expiry_cancelling_and_the_limit() -> None:
    table, tokens = probes(limit=2)
    draw = iter(tokens)
    first = table.start(A, V4, 0.0, lambda n: next(draw))
    second = table.start(B, V4, 1.0, lambda n: next(draw))
    assert first is not None
    assert second is not None
    assert table.start(A, V4, 2.0, lambda n: next(draw)) is None
    assert table.expire(3.0) == [first]
    table.cancel(second.token)
    table.cancel(second.token)
    assert len(table) == 0
    assert table.start(A, V4, 3.0, lambda n: tokens[0]) is not None
    assert table.start(A, V4, 3.0, lambda n: tokens[0]) is None  # a token drawn twice


def test_a_canary_may_come_before_or_after_the_answer() -> None:
    table, tokens = probes()
    asked = table.start(A, V4, 0.0, lambda n: tokens[0])
    assert asked is not None
    assert table.match_canary(tokens[0], 0.1) == asked
    assert table.match(A, tokens[0], 0.2, keep=True) == asked
    assert table.match_canary(tokens[0], 0.3) == asked
    assert table.match_canary(tokens[1], 0.3) is None
    assert table.match_canary(tokens[0], 3.0) is None
    assert table.unmatched == 2


def test_helper_budgets() -> None:
    budgets = HelperBudgets()
    assert sum(budgets.may_answer(A, 0.0) for _ in range(50)) == 32
    assert sum(budgets.may_help(A, 0.0) for _ in range(50)) == 8
    assert budgets.may_answer(B, 0.0)
    orders = [CanaryOrder(TOKEN, Address(f"198.51.100.{n}", 9)) for n in range(50)]
    assert sum(budgets.may_follow(A, order, 0.0) for order in orders) == 4
    victim = CanaryOrder(TOKEN, Address("192.0.2.1", 9))
    peers = [PeerId(bytes([n]) * 32) for n in range(100, 150)]
    assert sum(budgets.may_follow(peer, victim, 0.0) for peer in peers) == 4
    assert budgets.refused == 18 + 42 + 46 + 46
    assert budgets.may_follow(A, victim, 10.0)
    for host in ("127.0.0.1", "169.254.1.1", "::1", "fe80::1"):
        assert not budgets.may_follow(B, CanaryOrder(TOKEN, Address(host, 9)), 10.0)
