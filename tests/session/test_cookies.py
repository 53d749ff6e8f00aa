"""cookies.py: cookies, and the budgets that decide when they are asked for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.session.cookies import (
    COOKIE_PACKET,
    CookieSecrets,
    SourceLimiter,
    cookie_key,
    mac,
    mac1_key,
    open_cookie_untrusted,
    seal_cookie,
    source_prefix,
)
from netmesh_trio.wire.errors import DecodeError

KEY = cookie_key(b"p" * 32, bytes(32))
MAC1 = b"m" * 16


def v4(host: int = 1, port: int = 7) -> bytes:
    return bytes([4, 203, 0, 113, host]) + bytes(12) + port.to_bytes(2, "big")


def test_keys_differ_by_use_peer_and_network() -> None:
    keys = {
        function(peer, network)
        for function in (mac1_key, cookie_key)
        for peer in (b"p" * 32, b"q" * 32)
        for network in (bytes(32), b"n" * 32)
    }
    assert len(keys) == 8
    assert all(len(key) == 32 for key in keys)


def test_a_cookie_packet_round_trips() -> None:
    packet = seal_cookie(KEY, b"c" * 16, MAC1, 0x01020304, b"n" * 24)
    assert len(packet) == COOKIE_PACKET
    assert packet[:8].hex() == "0301000004030201"
    assert open_cookie_untrusted(KEY, MAC1, 0x01020304, packet) == b"c" * 16


@pytest.mark.parametrize(
    ("key", "mac1", "index"),
    [(cookie_key(b"q" * 32, bytes(32)), MAC1, 5), (KEY, b"x" * 16, 5), (KEY, MAC1, 6)],
    ids=["other peer", "other INIT", "other index"],
)
def test_a_cookie_counts_only_where_it_belongs(key: bytes, mac1: bytes, index: int) -> None:
    packet = seal_cookie(KEY, b"c" * 16, MAC1, 5, b"n" * 24)
    with pytest.raises(DecodeError):
        open_cookie_untrusted(key, mac1, index, packet)


@given(st.binary(max_size=80))
def test_any_bytes_are_no_cookie(data: bytes) -> None:
    with pytest.raises(DecodeError):
        open_cookie_untrusted(KEY, MAC1, 5, data)


@given(st.integers(0, COOKIE_PACKET * 8 - 1))
def test_a_flipped_bit_spoils_it(bit: int) -> None:
    packet = bytearray(seal_cookie(KEY, b"c" * 16, MAC1, 5, b"n" * 24))
    packet[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecodeError):
        open_cookie_untrusted(KEY, MAC1, 5, bytes(packet))


def proof(secrets: CookieSecrets, source: bytes, now: float) -> bytes:
    return mac(secrets.make(source, now), b"covered")


def test_a_cookie_lives_one_to_two_lifetimes() -> None:
    secrets = CookieSecrets(random.Random(1).randbytes, lifetime=120.0)

    def good(mac2: bytes, now: float) -> bool:
        return secrets.check_untrusted(mac2, b"covered", v4(), now)

    # The secret changes at multiples of the lifetime, whenever it is asked for.
    early = proof(secrets, v4(), 1210.0)
    assert early == proof(secrets, v4(), 1319.0)
    assert good(early, 1439.9)
    newer = proof(secrets, v4(), 1439.9)
    assert newer != early
    assert not good(early, 1440.1)
    assert good(newer, 1440.1)
    # Nothing came for long: no secret of before may still count.
    assert not good(newer, 2000.0)


def test_a_cookie_proves_one_address_and_one_packet() -> None:
    secrets = CookieSecrets(random.Random(1).randbytes)
    mac2 = proof(secrets, v4(), 0.0)
    assert secrets.check_untrusted(mac2, b"covered", v4(), 0.0)
    assert not secrets.check_untrusted(mac2, b"covered", v4(host=2), 0.0)
    assert not secrets.check_untrusted(mac2, b"covered", v4(port=8), 0.0)
    assert not secrets.check_untrusted(mac2, b"Covered", v4(), 0.0)
    assert not secrets.check_untrusted(bytes(16), b"covered", v4(), 0.0)


def test_sources_do_not_disturb_each_other_and_the_table_is_bounded() -> None:
    limiter = SourceLimiter(rate=1.0, burst=2.0, capacity=3)
    assert [limiter.take(b"a", 0.0) for _ in range(3)] == [True, True, False]
    assert limiter.take(b"b", 0.0)
    for number in range(100):
        assert limiter.take(b"%d" % number, 0.0)
        assert len(limiter) <= 3
        limiter.take(b"b", 0.0)  # seen all the time, so it stays
    assert not limiter.take(b"b", 0.0)
    assert limiter.evicted == 100 + 2 - 3


def test_source_prefix() -> None:
    assert source_prefix(v4(port=1)) == source_prefix(v4(port=2))
    assert source_prefix(v4(host=1)) != source_prefix(v4(host=2))

    def v6(subnet: int, interface: int) -> bytes:
        return b"\x06" + subnet.to_bytes(8, "big") + interface.to_bytes(8, "big") + b"\0\1"

    assert source_prefix(v6(1, 1)) == source_prefix(v6(1, 2))
    assert source_prefix(v6(1, 1)) != source_prefix(v6(2, 1))
