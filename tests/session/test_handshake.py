"""handshake.py: two packets, everything that can go wrong with them, and another implementation at
the other end.
"""

from __future__ import annotations

import hashlib
import random
import struct
import warnings
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base

from netmesh_trio.errors import AddressError
from netmesh_trio.identity import Identity, PeerId
from netmesh_trio.session.cookies import cookie_key, mac, mac1_key, seal_cookie
from netmesh_trio.session.handshake import (
    INIT_SIZE,
    MAX_HELLO,
    MAX_RESPONSE,
    MIN_RESPONSE,
    PROLOGUE,
    CookieReply,
    Drop,
    Established,
    HandshakeLimits,
    HandshakeRejected,
    Indices,
    Initiator,
    Reply,
    Responder,
    peek_indices_untrusted,
)
from netmesh_trio.session.noise import HandshakeState

ALICE = Identity(b"a" * 32)
BOB = Identity(b"b" * 32)
CAROL = Identity(b"c" * 32)
PUBLIC = bytes(32)
SOURCE = bytes([4, 203, 0, 113, 1]) + bytes(12) + b"\x12\x2a"
OTHER = bytes([4, 203, 0, 113, 2]) + bytes(12) + b"\x12\x2a"
LOADED = HandshakeLimits(open_rate=0.0, open_burst=0.0)


def initiator(
    to: PeerId = BOB.peer_id,
    *,
    identity: Identity = ALICE,
    network_key: bytes = PUBLIC,
    index: int = 0xA11CE,
    hello: bytes = b"I am Alice",
    seed: int = 1,
) -> Initiator:
    return Initiator(
        identity,
        to,
        network_key=network_key,
        local_index=index,
        hello=hello,
        random_bytes=random.Random(seed).randbytes,
    )


def responder(
    identity: Identity = BOB,
    *,
    network_key: bytes = PUBLIC,
    hello: bytes = b"I am Bob",
    limits: HandshakeLimits | None = None,
    allocate: Callable[[], int | None] | None = None,
    seed: int = 2,
) -> Responder:
    source = random.Random(seed)
    return Responder(
        identity,
        network_key=network_key,
        hello=lambda: hello,
        allocate_index=allocate or (lambda: source.getrandbits(32)),
        random_bytes=source.randbytes,
        limits=limits,
    )


def reply(answer: object) -> Reply:
    assert isinstance(answer, Reply)
    return answer


def assert_pair(one: Established, other: Established) -> None:
    assert one.initiator
    assert not other.initiator
    assert one.send_key == other.receive_key
    assert one.receive_key == other.send_key
    assert one.rekey_secret == other.rekey_secret
    assert one.handshake_hash == other.handshake_hash
    assert len({one.send_key, one.receive_key, one.rekey_secret, one.handshake_hash}) == 4
    assert (one.local_index, one.remote_index) == (other.remote_index, other.local_index)


# --- the handshake as it should go ---


@pytest.mark.parametrize("network_key", [PUBLIC, b"k" * 32], ids=["public", "private"])
@pytest.mark.parametrize("size", [0, 1, MAX_HELLO])
@pytest.mark.parametrize("source", [SOURCE, None], ids=["direct", "circuit"])
def test_handshake(network_key: bytes, size: int, source: bytes | None) -> None:
    hello = b"\0" + b"x" * (size - 1) if size else b""
    alice = initiator(network_key=network_key, hello=hello)
    bob = responder(network_key=network_key, hello=hello)
    assert len(alice.packet) == INIT_SIZE
    assert alice.packet is alice.packet
    answer = reply(bob.receive_init(alice.packet, source, 0.0))
    assert answer.fresh
    assert len(answer.packet) == MIN_RESPONSE + size
    established = alice.receive_response(answer.packet)
    assert_pair(established, answer.established)
    assert established.peer_id == BOB.peer_id
    assert answer.established.peer_id == ALICE.peer_id
    assert established.hello == answer.established.hello == hello
    assert bob.stats().replies == 1


def test_layout() -> None:
    alice = initiator()
    packet = alice.packet
    assert packet[:8] == struct.pack("<BBHI", 1, 1, 0, 0xA11CE)
    key = hashlib.blake2s(b"netmesh mac1" + bytes(BOB.peer_id) + PUBLIC).digest()
    assert packet[608:624] == hashlib.blake2s(packet[:608], key=key, digest_size=16).digest()
    assert packet[624:] == bytes(16)
    response = reply(responder(allocate=lambda: 0xB0B).receive_init(packet, SOURCE, 0.0)).packet
    assert response[:12] == struct.pack("<BBHII", 2, 1, 0, 0xB0B, 0xA11CE)
    key = hashlib.blake2s(b"netmesh mac1" + bytes(ALICE.peer_id) + PUBLIC).digest()
    assert response[-16:] == hashlib.blake2s(response[:-16], key=key, digest_size=16).digest()
    assert MAX_RESPONSE <= INIT_SIZE
    for view in (bytearray(packet), memoryview(packet)):
        assert isinstance(responder().receive_init(view, SOURCE, 0.0), Reply)


def test_peek() -> None:
    alice = initiator()
    answer = reply(responder(allocate=lambda: 0xB0B).receive_init(alice.packet, SOURCE, 0.0))
    cookie = responder(limits=LOADED).receive_init(alice.packet, SOURCE, 0.0)
    assert isinstance(cookie, CookieReply)
    assert peek_indices_untrusted(alice.packet) == Indices(0xA11CE, None)
    assert peek_indices_untrusted(answer.packet) == Indices(0xB0B, 0xA11CE)
    assert peek_indices_untrusted(memoryview(cookie.packet)) == Indices(None, 0xA11CE)
    for packet in (alice.packet, cookie.packet):
        assert peek_indices_untrusted(packet[:-1]) == Indices(None, None)


@given(st.binary(max_size=2 * INIT_SIZE) | st.integers(0, 5).map(lambda t: bytes([t]) + bytes(639)))
def test_peek_is_total(data: bytes) -> None:
    sender, receiver = peek_indices_untrusted(data)
    for index in (sender, receiver):
        assert index is None or 0 <= index < 2**32


def test_independent_handshakes_interleave() -> None:
    bob = responder()
    attempts = [
        initiator(identity=identity, index=index, seed=index)
        for index, identity in enumerate([ALICE, CAROL, ALICE, CAROL])
    ]
    answers = [reply(bob.receive_init(attempt.packet, SOURCE, 0.0)) for attempt in attempts]
    for attempt, answer in reversed(list(zip(attempts, answers, strict=True))):
        for foreign in answers:
            if foreign is not answer:
                with pytest.raises(HandshakeRejected):
                    attempt.receive_response(foreign.packet)
        assert_pair(attempt.receive_response(answer.packet), answer.established)
    keys = {key for a in answers for key in (a.established.send_key, a.established.receive_key)}
    assert len(keys) == 8


def test_both_may_dial_at_once() -> None:
    there, back = initiator(), initiator(ALICE.peer_id, identity=BOB, index=7, seed=9)
    bob, alice = responder(), responder(ALICE)
    to_alice = reply(bob.receive_init(there.packet, SOURCE, 0.0))
    to_bob = reply(alice.receive_init(back.packet, SOURCE, 0.0))
    assert_pair(there.receive_response(to_alice.packet), to_alice.established)
    assert_pair(back.receive_response(to_bob.packet), to_bob.established)


def test_no_secret_in_any_repr() -> None:
    alice, bob = initiator(), responder()
    answer = reply(bob.receive_init(alice.packet, SOURCE, 0.0))
    established = alice.receive_response(answer.packet)
    shown = " ".join(map(repr, (alice, bob, answer, established)))
    for secret in (established.send_key, established.receive_key, established.rekey_secret):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert "key" not in repr(established)


# --- repeats ---


def test_a_repeat_gets_the_same_bytes_until_it_expires() -> None:
    alice, bob = initiator(), responder()
    first = reply(bob.receive_init(alice.packet, SOURCE, 100.0))
    again = reply(bob.receive_init(alice.packet, OTHER, 109.9))
    assert again == attrs.evolve(first, fresh=False)
    later = reply(bob.receive_init(alice.packet, SOURCE, 110.0))
    assert later.fresh
    assert later.packet != first.packet
    assert later.established.handshake_hash != first.established.handshake_hash
    stats = bob.stats()
    assert (stats.replies, stats.repeats) == (2, 1)
    # The initiator takes the first that it sees, and no other after that.
    assert_pair(alice.receive_response(later.packet), later.established)
    with pytest.raises(HandshakeRejected, match="late"):
        alice.receive_response(first.packet)


def test_a_repeat_costs_no_budget() -> None:
    bob = responder(limits=HandshakeLimits(open_rate=0.0, open_burst=1.0))
    packet = initiator().packet
    for _ in range(5):
        assert isinstance(bob.receive_init(packet, SOURCE, 0.0), Reply)
    assert isinstance(bob.receive_init(initiator(seed=5).packet, SOURCE, 0.0), CookieReply)


def test_the_table_of_repeats_is_bounded() -> None:
    bob = responder(limits=HandshakeLimits(max_repeats=3))
    attempts = [initiator(index=index, seed=index) for index in range(5)]
    for attempt in attempts:
        assert reply(bob.receive_init(attempt.packet, SOURCE, 0.0)).fresh
    assert bob.stats().repeats_evicted == 2
    fresh = [reply(bob.receive_init(attempt.packet, SOURCE, 0.0)).fresh for attempt in attempts[2:]]
    assert fresh == [False, False, False]
    assert reply(bob.receive_init(attempts[0].packet, SOURCE, 0.0)).fresh
    none = responder(limits=HandshakeLimits(max_repeats=0))
    for _ in range(2):
        assert reply(none.receive_init(attempts[0].packet, SOURCE, 0.0)).fresh


def test_a_closed_session_is_not_answered_for() -> None:
    alice, bob = initiator(), responder()
    first = reply(bob.receive_init(alice.packet, SOURCE, 0.0))
    bob.forget(12345 ^ first.established.local_index)
    assert not reply(bob.receive_init(alice.packet, SOURCE, 0.0)).fresh
    bob.forget(first.established.local_index)
    assert reply(bob.receive_init(alice.packet, SOURCE, 0.0)).fresh


def test_an_index_in_use_again_replaces_the_old_answer() -> None:
    bob = responder(allocate=lambda: 5)
    one, two = initiator(seed=3), initiator(seed=4)
    bob.receive_init(one.packet, SOURCE, 0.0)
    bob.receive_init(two.packet, SOURCE, 0.0)
    assert reply(bob.receive_init(one.packet, SOURCE, 0.0)).fresh
    bob.expire(100.0)
    assert reply(bob.receive_init(one.packet, SOURCE, 100.0)).fresh


# --- bad packets ---


def test_wrong_network_or_target_is_dropped_before_any_key_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bob = responder(network_key=b"k" * 32)
    outsiders = [
        initiator().packet,
        initiator(network_key=b"j" * 32).packet,
        initiator(CAROL.peer_id, network_key=b"k" * 32).packet,
    ]

    def no_keys(*_: object) -> bytes:
        raise AssertionError("a key operation")

    monkeypatch.setattr("netmesh_trio.session.noise.crypto_scalarmult", no_keys)
    monkeypatch.setattr("netmesh_trio.session.noise.hkdf", no_keys)
    for packet in outsiders:
        assert bob.receive_init(packet, SOURCE, 0.0) == Drop("mac1")
    assert bob.stats().drops == {"mac1": 3}


def resign(packet: bytes, peer: PeerId, network_key: bytes = PUBLIC) -> bytes:
    """The INIT or RESPONSE with a mac1 that fits: what anybody can do in a public mesh."""
    trailer = 32 if packet[0] == 1 else 16
    body = packet[:-trailer]
    signed = body + mac(mac1_key(bytes(peer), network_key), body)
    return signed + packet[-16:] if packet[0] == 1 else signed


def test_a_wrong_network_key_fails_even_with_a_forged_mac1() -> None:
    outsider, bob = initiator(network_key=PUBLIC), responder(network_key=b"k" * 32)
    forged = resign(outsider.packet, BOB.peer_id, b"k" * 32)
    # IKpsk2 mixes the key in at the end of message 2, so the responder answers and the initiator
    # cannot read it.
    answer = reply(bob.receive_init(forged, SOURCE, 0.0))
    with pytest.raises(HandshakeRejected, match="mac1"):
        outsider.receive_response(answer.packet)
    with pytest.raises(HandshakeRejected, match="noise"):
        outsider.receive_response(resign(answer.packet, ALICE.peer_id, PUBLIC))


@given(st.integers(0, INIT_SIZE * 8 - 1), st.booleans())
def test_a_flipped_bit_in_init(bit: int, repair: bool) -> None:
    packet = bytearray(initiator().packet)
    packet[bit // 8] ^= 1 << bit % 8
    mutated = bytes(packet)
    if repair:
        mutated = resign(mutated, BOB.peer_id)
    bob, loaded = responder(), responder(limits=LOADED)
    answer = bob.receive_init(mutated, SOURCE, 0.0)
    under_load = loaded.receive_init(mutated, SOURCE, 0.0)
    if bit >= 624 * 8 or (repair and bit >= 608 * 8):
        # mac2 is looked at under load only, and then a wrong one is as good as none; mac1 was
        # repaired.
        assert isinstance(answer, Reply)
        assert isinstance(under_load, CookieReply)
    else:
        assert isinstance(answer, Drop)
        assert not isinstance(under_load, Reply)


@given(st.data(), st.booleans())
def test_a_flipped_bit_in_response(data: st.DataObject, repair: bool) -> None:
    alice = initiator()
    answer = reply(responder().receive_init(alice.packet, SOURCE, 0.0))
    packet = bytearray(answer.packet)
    bit = data.draw(st.integers(0, (len(packet) - 16 * repair) * 8 - 1))
    packet[bit // 8] ^= 1 << bit % 8
    mutated = resign(bytes(packet), ALICE.peer_id) if repair else bytes(packet)
    with pytest.raises(HandshakeRejected):
        alice.receive_response(mutated)
    # And the attempt is as good as before.
    assert_pair(alice.receive_response(answer.packet), answer.established)


@given(st.integers(0, INIT_SIZE - 1), st.binary(max_size=3))
def test_cut_and_lengthened_packets(cut: int, more: bytes) -> None:
    alice, bob = initiator(), responder()
    assert bob.receive_init(alice.packet[:cut], SOURCE, 0.0) == Drop("length")
    answer = reply(bob.receive_init(alice.packet, SOURCE, 0.0))
    assert more == b"" or bob.receive_init(alice.packet + more, SOURCE, 0.0) == Drop("length")
    cookie = responder(limits=LOADED).receive_init(alice.packet, SOURCE, 0.0)
    assert isinstance(cookie, CookieReply)
    before = alice.packet
    for packet in (answer.packet[: cut % len(answer.packet)], answer.packet + more + b"x"):
        with pytest.raises(HandshakeRejected):
            alice.receive_response(packet)
    shorter = answer.packet[: cut % (len(answer.packet) - 16)]
    for packet in (shorter, answer.packet + more):
        repaired = resign(b"\2" + packet[1:] + bytes(16), ALICE.peer_id)
        with pytest.raises(HandshakeRejected):
            alice.receive_response(repaired)
    for packet in (cookie.packet[: cut % 64], cookie.packet + more + b"x"):
        with pytest.raises(HandshakeRejected, match="length"):
            alice.receive_cookie(packet)
    assert alice.packet == before


@given(st.binary(max_size=800) | st.binary(min_size=604, max_size=604).map(lambda rest: b"\1\1\0\0" + rest + bytes(32)))
def test_any_bytes_to_a_responder(data: bytes) -> None:
    bob = responder()
    assert isinstance(bob.receive_init(data, SOURCE, 0.0), Drop)
    if len(data) == INIT_SIZE:
        answer = bob.receive_init(resign(b"\1" + data[1:], BOB.peer_id), None, 0.0)
        assert isinstance(answer, Drop)


@given(st.binary(max_size=600))
def test_any_bytes_to_an_initiator(data: bytes) -> None:
    alice = initiator()
    own = struct.pack("<BBHII", 2, 1, 0, 9, alice.local_index)
    for packet in (data, resign(own + data + bytes(16), ALICE.peer_id)):
        with pytest.raises(HandshakeRejected):
            alice.receive_response(packet)
        with pytest.raises(HandshakeRejected):
            alice.receive_cookie(packet)


def test_reflected_and_misplaced_packets() -> None:
    alice, bob = initiator(), responder()
    answer = reply(bob.receive_init(alice.packet, SOURCE, 0.0))
    assert responder(ALICE).receive_init(alice.packet, SOURCE, 0.0) == Drop("mac1")
    assert bob.receive_init(answer.packet, SOURCE, 0.0) == Drop("length")
    with pytest.raises(HandshakeRejected):
        alice.receive_response(alice.packet)
    with pytest.raises(HandshakeRejected):
        alice.receive_cookie(answer.packet)


def test_a_changed_index_does_not_pass_a_relay() -> None:
    """Also when the relay repairs mac1, and puts the index back in the RESPONSE."""
    alice, bob = initiator(), responder()
    changed = alice.packet[:4] + b"\1\2\3\4" + alice.packet[8:]
    assert bob.receive_init(resign(changed, BOB.peer_id), None, 0.0) == Drop("payload")
    answer = reply(bob.receive_init(alice.packet, None, 0.0))
    changed = answer.packet[:4] + b"\1\2\3\4" + answer.packet[8:]
    with pytest.raises(HandshakeRejected, match="header"):
        alice.receive_response(resign(changed, ALICE.peer_id))
    alice.receive_response(answer.packet)


# --- identity binding ---


def forged_init(
    claimed: bytes,
    *,
    private: bytes = ALICE.x25519_private,
    target: bytes = bytes(BOB.peer_id),
    tail: bytes = b"",
    length: int | None = None,
) -> bytes:
    """An INIT whose payload says what it likes, otherwise in order."""
    noise = HandshakeState(
        "IKpsk2",
        initiator=True,
        random_bytes=random.Random(5).randbytes,
        prologue=PROLOGUE,
        static_private=private,
        remote_static=BOB.peer_id.x25519,
        psks=[PUBLIC],
    )
    header = struct.pack("<BBHI", 1, 1, 0, 77)
    size = len(tail) if length is None else length
    payload = header + claimed + target + size.to_bytes(2, "little") + tail
    body = header + noise.write_message(payload.ljust(504, b"\0"))
    assert len(body) == 608
    return resign(body + bytes(32), BOB.peer_id)


def flipped(peer: PeerId) -> bytes:
    """The other Ed25519 key with the same X25519 key: the sign bit is lost in the conversion."""
    raw = bytearray(bytes(peer))
    raw[31] ^= 0x80
    return bytes(raw)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (forged_init(bytes(CAROL.peer_id)), "identity"),
        (forged_init(bytes(ALICE.peer_id), private=CAROL.x25519_private), "identity"),
        (forged_init(bytes(BOB.peer_id)), "identity"),
        (forged_init(bytes(BOB.peer_id), private=BOB.x25519_private), "identity"),
        (forged_init(bytes(32)), "identity"),
        (forged_init(b"\xff" * 32), "identity"),
        (forged_init(b"\2" + bytes(31)), "identity"),
        (forged_init(bytes(ALICE.peer_id), target=bytes(CAROL.peer_id)), "payload"),
        (forged_init(bytes(ALICE.peer_id), target=flipped(BOB.peer_id)), "payload"),
        (forged_init(bytes(ALICE.peer_id), tail=b"x", length=0), "payload"),
        (forged_init(bytes(ALICE.peer_id), tail=b"x" * 430, length=400), "payload"),
        (forged_init(bytes(ALICE.peer_id), length=401), "payload"),
        (forged_init(bytes(ALICE.peer_id), length=65535), "payload"),
    ],
)
def test_a_peer_must_be_who_it_says(packet: bytes, reason: str) -> None:
    indices = iter([5])
    bob = responder(allocate=lambda: next(indices))
    assert bob.receive_init(packet, SOURCE, 0.0) == Drop(reason)
    # No index was taken for it.
    assert isinstance(bob.receive_init(forged_init(bytes(ALICE.peer_id)), SOURCE, 0.0), Reply)


def test_only_the_peer_dialed_can_answer() -> None:
    """Carol has no key of Bob's: whatever she makes of Alice's INIT, Alice waits on."""
    alice = initiator()
    carol = HandshakeState(
        "IKpsk2",
        initiator=False,
        random_bytes=random.Random(6).randbytes,
        prologue=PROLOGUE,
        static_private=CAROL.x25519_private,
        psks=[PUBLIC],
    )
    redirected = resign(alice.packet, CAROL.peer_id)
    assert responder(CAROL).receive_init(redirected, SOURCE, 0.0) == Drop("noise")
    # A handshake of Carol's own with Alice's key, dressed up as the answer to this one.
    own = initiator(CAROL.peer_id)
    carol.read_message(own.packet[8:608])
    start = struct.pack("<BBHII", 2, 1, 0, 9, alice.local_index)
    packet = start + carol.write_message(start + b"I am Bob") + bytes(16)
    with pytest.raises(HandshakeRejected, match="noise"):
        alice.receive_response(resign(packet, ALICE.peer_id))
    assert own.receive_response(resign(packet, ALICE.peer_id)).peer_id == CAROL.peer_id


def test_callers_mistakes() -> None:
    with pytest.raises(ValueError, match="itself"):
        initiator(ALICE.peer_id)
    with pytest.raises(ValueError, match="401"):
        initiator(hello=bytes(401))
    with pytest.raises(AddressError):
        initiator(PeerId(bytes(32)))
    with pytest.raises(ValueError, match="32 bytes"):
        initiator(network_key=b"short")
    indices = iter([5])
    bob = responder(hello=bytes(401), allocate=lambda: next(indices))
    with pytest.raises(ValueError, match="401"):
        bob.receive_init(initiator().packet, SOURCE, 0.0)
    assert next(indices) == 5
    with pytest.raises(ValueError, match="open_rate"):
        HandshakeLimits(open_rate=-1.0)


def test_no_room_for_a_session() -> None:
    bob = responder(allocate=lambda: None)
    assert bob.receive_init(initiator().packet, SOURCE, 0.0) == Drop("full")


# --- load ---


def test_cookie_under_load() -> None:
    alice, bob = initiator(), responder(limits=LOADED)
    first = alice.packet
    answer = bob.receive_init(first, SOURCE, 0.0)
    assert isinstance(answer, CookieReply)
    assert len(answer.packet) == 64
    alice.receive_cookie(answer.packet)
    proven = alice.packet
    assert proven[:624] == first[:624]
    assert proven[624:] != bytes(16)
    # From elsewhere the proof is worth nothing.
    assert isinstance(bob.receive_init(proven, OTHER, 0.1), CookieReply)
    established = reply(bob.receive_init(proven, SOURCE, 0.1))
    assert_pair(alice.receive_response(established.packet), established.established)
    # A repeat without the proof is the same INIT still.
    assert not reply(bob.receive_init(first, SOURCE, 0.2)).fresh
    assert bob.stats().cookies == 2


def test_a_cookie_from_anyone_else_is_refused() -> None:
    alice = initiator()
    before = alice.packet
    mac1 = before[608:624]
    bobs = cookie_key(bytes(BOB.peer_id), PUBLIC)
    for packet in (
        seal_cookie(cookie_key(bytes(CAROL.peer_id), PUBLIC), b"c" * 16, mac1, 0xA11CE, bytes(24)),
        seal_cookie(bobs, b"c" * 16, bytes(16), 0xA11CE, bytes(24)),
        seal_cookie(bobs, b"c" * 16, mac1, 0xA11CF, bytes(24)),
    ):
        with pytest.raises(HandshakeRejected, match="cookie"):
            alice.receive_cookie(packet)
    assert alice.packet == before


def test_budgets() -> None:
    limits = HandshakeLimits(
        open_rate=1.0,
        open_burst=2.0,
        source_rate=1.0,
        source_burst=2.0,
        proven_rate=1.0,
        proven_burst=3.0,
        circuit_rate=1.0,
        circuit_burst=1.0,
    )
    bob = responder(limits=limits)
    seeds = iter(range(10, 1000))

    def attempt(source: bytes | None, now: float) -> str:
        alice = initiator(seed=next(seeds))
        answer = bob.receive_init(alice.packet, source, now)
        if isinstance(answer, CookieReply):
            alice.receive_cookie(answer.packet)
            answer = bob.receive_init(alice.packet, source, now)
            assert not isinstance(answer, CookieReply)
            return "proven" if isinstance(answer, Reply) else answer.reason
        return "open" if isinstance(answer, Reply) else answer.reason

    assert [attempt(SOURCE, 0.0) for _ in range(5)] == [
        "open",
        "open",
        "proven",
        "proven",
        "rate-limited",
    ]
    assert [attempt(OTHER, 0.0) for _ in range(2)] == ["proven", "busy"]
    # What came directly does not touch what comes over circuits.
    assert [attempt(None, 0.0) for _ in range(2)] == ["open", "busy"]
    assert [attempt(SOURCE, 10.0) for _ in range(3)] == ["open", "open", "proven"]
    drops = bob.stats().drops
    assert drops == {"rate-limited": 1, "busy": 2}


def test_each_relay_and_each_circuit_has_a_limit() -> None:
    limits = HandshakeLimits(circuit_burst=10.0, relay_burst=5.0, one_circuit_rate=1.0, one_circuit_burst=2.0)
    bob = responder(limits=limits)
    seeds = iter(range(10, 1000))

    def attempt(relay: bytes, circuit: bytes, now: float = 0.0) -> str:
        answer = bob.receive_init(initiator(seed=next(seeds)).packet, None, now, relay=relay, circuit=circuit)
        return answer.reason if isinstance(answer, Drop) else type(answer).__name__

    # what a circuit or relay is refused costs the others nothing
    assert [attempt(b"relay", b"one") for _ in range(9)] == ["Reply"] * 2 + ["rate-limited"] * 7
    assert [attempt(b"relay", b"two") for _ in range(3)] == ["Reply"] * 2 + ["rate-limited"]
    assert [attempt(b"relay", b"three") for _ in range(3)] == ["Reply"] + ["rate-limited"] * 2
    assert [attempt(b"other", b"%d" % n) for n in range(7)] == ["Reply"] * 5 + ["rate-limited"] * 2
    assert attempt(b"third", b"four") == "busy"
    assert attempt(b"relay", b"one", 1.0) == "Reply"
    assert attempt(b"relay", b"one", 1.0) == "rate-limited"


def test_a_forged_source_uses_up_nobodys_limit() -> None:
    bob = responder(limits=attrs.evolve(LOADED, source_rate=0.0, source_burst=1.0))
    for seed in range(20):
        flood = bob.receive_init(initiator(seed=seed).packet, SOURCE, 0.0)
        assert isinstance(flood, CookieReply)
    alice = initiator()
    cookie = bob.receive_init(alice.packet, SOURCE, 0.0)
    assert isinstance(cookie, CookieReply)
    alice.receive_cookie(cookie.packet)
    assert isinstance(bob.receive_init(alice.packet, SOURCE, 0.0), Reply)


def test_no_answer_is_larger_than_the_question() -> None:
    for hello in (b"", bytes(MAX_HELLO)):
        for limits in (None, LOADED):
            answer = responder(hello=hello, limits=limits).receive_init(initiator().packet, SOURCE, 0.0)
            assert not isinstance(answer, Drop)
            assert len(answer.packet) <= INIT_SIZE


# --- another implementation at the other end ---


def other_implementation(*, as_initiator: bool, identity: Identity, psk: bytes) -> Any:
    # Its imports and its use of old APIs of cryptography may warn; that is not ours to mend.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection = pytest.importorskip("noise.connection")
    noise = connection.NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
    noise.set_prologue(PROLOGUE)
    noise.set_psks(psk)
    keys = connection.Keypair
    noise.set_keypair_from_private_bytes(keys.STATIC, identity.x25519_private)
    if as_initiator:
        noise.set_as_initiator()
        noise.set_keypair_from_public_bytes(keys.REMOTE_STATIC, BOB.peer_id.x25519)
    else:
        noise.set_as_responder()
    noise.start_handshake()
    return noise


def assert_transport(noise: Any, ours: Established) -> None:
    """Its transport ciphers are ours."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    nonce = bytes(12)
    assert bytes(noise.get_handshake_hash()) == ours.handshake_hash
    sealed = ChaCha20Poly1305(ours.send_key).encrypt(nonce, b"from us", b"")
    assert noise.decrypt(sealed) == b"from us"
    sealed = bytes(noise.encrypt(b"to us"))
    assert ChaCha20Poly1305(ours.receive_key).decrypt(nonce, sealed, b"") == b"to us"


@pytest.mark.parametrize("psk", [PUBLIC, b"k" * 32], ids=["public", "private"])
def test_noiseprotocol_answers_our_initiator(psk: bytes) -> None:
    alice = initiator(network_key=psk)
    noise = other_implementation(as_initiator=False, identity=BOB, psk=psk)
    payload = bytes(noise.read_message(alice.packet[8:608]))
    hello = b"I am Alice"
    assert payload[:8] == alice.packet[:8]
    assert payload[8:40] == bytes(ALICE.peer_id)
    assert payload[40:72] == bytes(BOB.peer_id)
    assert payload[72:] == struct.pack("<H", len(hello)) + hello.ljust(430, b"\0")
    start = struct.pack("<BBHII", 2, 1, 0, 9, alice.local_index)
    packet = start + bytes(noise.write_message(start + b"I am Bob")) + bytes(16)
    established = alice.receive_response(resign(packet, ALICE.peer_id, psk))
    assert established.hello == b"I am Bob"
    assert_transport(noise, established)


@pytest.mark.parametrize("psk", [PUBLIC, b"k" * 32], ids=["public", "private"])
def test_noiseprotocol_dials_our_responder(psk: bytes) -> None:
    noise = other_implementation(as_initiator=True, identity=ALICE, psk=psk)
    header = struct.pack("<BBHI", 1, 1, 0, 77)
    payload = header + bytes(ALICE.peer_id) + bytes(BOB.peer_id) + b"\2\0hi"
    body = header + bytes(noise.write_message(payload.ljust(504, b"\0")))
    bob = responder(network_key=psk)
    answer = reply(bob.receive_init(resign(body + bytes(32), BOB.peer_id, psk), SOURCE, 0.0))
    assert answer.established.hello == b"hi"
    assert answer.established.peer_id == ALICE.peer_id
    payload = bytes(noise.read_message(answer.packet[12:-16]))
    assert payload == answer.packet[:12] + b"I am Bob"
    assert_transport(noise, answer.established)


def test_the_converted_keys_are_a_pair() -> None:
    assert crypto_scalarmult_base(ALICE.x25519_private) == ALICE.peer_id.x25519
