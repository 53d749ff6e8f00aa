"""Packet keys and their renewal."""

from __future__ import annotations

import random
import struct

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.session import keys
from netmesh_trio.session.keys import KeyRing, pack_nonce
from netmesh_trio.wire.errors import DecodeError


def rings(seed: int = 0, *, aes: bool = False) -> tuple[KeyRing, KeyRing]:
    rng = random.Random(seed)
    one, two, secret = (rng.randbytes(32) for _ in range(3))
    return KeyRing(one, two, secret, True, rng.randbytes, aes), KeyRing(two, one, secret, False, rng.randbytes, aes)


class Counter:
    number = 0


def say(sender: KeyRing, receiver: KeyRing) -> None:
    """One packet gets across."""
    Counter.number += 1
    nonce = pack_nonce(Counter.number)
    epoch = sender.sent_generation & 0xFF
    sealed = sender.sealer.encrypt(nonce, b"hello", None)
    opener = receiver.opener(epoch)
    assert opener is not None
    assert opener.decrypt(nonce, sealed, None) == b"hello"
    receiver.on_received(epoch)


def renew(a: KeyRing, b: KeyRing) -> tuple[bytes, bytes]:
    request = a.start_renewal()
    assert request is not None
    answer = b.receive_rekey(request)
    assert answer is not None
    assert a.receive_rekey(answer) is None
    return request, answer


@pytest.mark.parametrize("aes", [False, True])
@pytest.mark.parametrize("old", [False, True], ids=["into", "copying"])
def test_either_cipher_for_every_generation_and_into_memory(
    aes: bool, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cipher = AESGCM if aes else ChaCha20Poly1305
    if old:  # as before cryptography 47

        class Old:
            def __init__(self, key: bytes) -> None:
                real = cipher(key)
                self.encrypt, self.decrypt = real.encrypt, real.decrypt

        monkeypatch.setattr(keys, cipher.__name__, Old)
    a, b = rings(aes=aes)
    for _ in range(3):
        nonce = pack_nonce(7)
        opener = b.opener(a.sent_generation & 0xFF)
        assert opener is not None
        packet, plain = memoryview(bytearray(40 + 16)), memoryview(bytearray(40))
        a.sealer.encrypt_into(nonce, b"x" * 40, None, packet)
        assert packet == a.sealer.encrypt(nonce, b"x" * 40, None)
        opener.decrypt_into(nonce, packet, None, plain)
        assert plain == b"x" * 40
        packet[5] ^= 1
        with pytest.raises(InvalidTag):
            opener.decrypt_into(nonce, packet, None, plain)
        renew(a, b)
        say(a, b)


def test_the_cipher_is_the_one_that_was_agreed() -> None:
    (a, _), (c, _) = rings(), rings(aes=True)
    assert a.sealer.encrypt(bytes(12), b"x", None) != c.sealer.encrypt(bytes(12), b"x", None)
    assert c.max_packets < 1 << 23 < a.max_packets  # RFC 9001, section 6.6


def test_the_nonce_is_that_of_noise() -> None:
    assert pack_nonce(0x0102030405060708) == bytes(4) + bytes((8, 7, 6, 5, 4, 3, 2, 1))


def test_generations_wrap_and_always_match() -> None:
    a, b = rings()
    for generation in range(1, 600):
        renew(a, b)
        assert a.sent_generation == generation
        assert b.sent_generation == generation - 1
        say(b, a)  # still with the old one: it does not know yet that we have its answer
        say(a, b)
        assert b.sent_generation == generation
        say(b, a)
        assert a.generation == b.generation == a.renewals == generation


def test_each_generation_has_keys_of_its_own_and_old_ones_are_forgotten() -> None:
    a, b = rings()
    old = a.sealer.encrypt(pack_nonce(1), b"x", None)
    first = b.opener(0)
    assert first is not None
    renew(a, b)
    assert b.opener(0) is first  # what is under way still opens
    new = a.sealer.encrypt(pack_nonce(1), b"x", None)
    assert new != old
    with pytest.raises(InvalidTag):
        first.decrypt(pack_nonce(1), new, None)
    say(a, b)
    renew(a, b)
    assert b.opener(0) is None
    assert b.opener(1) is not None
    assert b.opener(2) is not None
    assert b.opener(3) is None


def test_both_directions_differ() -> None:
    a, b = rings()
    renew(a, b)
    say(a, b)
    assert a.sealer.encrypt(pack_nonce(1), b"x", None) != b.sealer.encrypt(pack_nonce(1), b"x", None)


def test_one_renewal_at_a_time() -> None:
    a, b = rings()
    request = a.start_renewal()
    assert request is not None
    assert a.start_renewal() is None
    answer = b.receive_rekey(request)
    assert answer is not None
    a.receive_rekey(answer)
    assert a.start_renewal() is not None


def test_repeats_do_nothing() -> None:
    a, b = rings()
    request, answer = renew(a, b)
    assert b.receive_rekey(request) is None
    assert a.receive_rekey(answer) is None
    say(a, b)
    assert b.receive_rekey(request) is None
    second = renew(a, b)
    for message in (request, second[0]):
        assert b.receive_rekey(message) is None
    for message in (answer, second[1]):
        assert a.receive_rekey(message) is None
    say(a, b)
    say(b, a)
    assert a.generation == b.generation == 2


def rekey(generation: int, key: bytes = bytes(31) + b"\x01") -> bytes:
    return struct.pack(">I32s", generation, key)


@pytest.mark.parametrize("message", [b"", bytes(35), bytes(37), rekey(2), rekey(0xFFFF_FFFF), rekey(1, bytes(32))])
def test_the_answering_side_refuses(message: bytes) -> None:
    _, b = rings()
    with pytest.raises(DecodeError):
        b.receive_rekey(message)
    assert b.generation == 0


def test_the_answering_side_refuses_a_renewal_before_the_last_was_used() -> None:
    a, b = rings()
    renew(a, b)
    with pytest.raises(DecodeError, match="before"):
        b.receive_rekey(rekey(2))


def test_the_opening_side_refuses_what_it_did_not_ask_for() -> None:
    a, _ = rings()
    for message in (rekey(1), rekey(2), b""):
        with pytest.raises(DecodeError):
            a.receive_rekey(message)
    assert a.receive_rekey(rekey(0)) is None
    a.start_renewal()
    with pytest.raises(DecodeError):
        a.receive_rekey(rekey(1, bytes(32)))


@given(st.lists(st.binary(max_size=40) | st.builds(rekey, st.integers(0, 5), st.binary(min_size=32, max_size=32))))
def test_any_messages(messages: list[bytes]) -> None:
    for ring in rings():
        ring.start_renewal()
        for message in messages:
            try:
                ring.receive_rekey(message)
            except DecodeError:
                break
        assert len(ring._openers) <= 2
