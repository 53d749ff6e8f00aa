"""noise.py against published vectors, against another implementation, and against bad bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base

from netmesh_trio.session.noise import (
    CipherState,
    HandshakeState,
    NoiseError,
    dh,
    hkdf,
    parse_pattern,
)

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "noise-25519-blake2s.json"


def chacha_vectors() -> list[dict[str, Any]]:
    if not VECTORS.exists():
        return []
    vectors: list[dict[str, Any]] = json.loads(VECTORS.read_text())["vectors"]
    return [vector for vector in vectors if "ChaChaPoly" in vector["protocol_name"]]


def counted(seed: int = 0) -> Callable[[int], bytes]:
    """Distinct, reproducible bytes at each call."""
    return random.Random(seed).randbytes


def side_of(vector: dict[str, Any], side: str) -> HandshakeState:
    def key(name: str) -> bytes | None:
        value = vector.get(f"{side}_{name}")
        return None if value is None else bytes.fromhex(value)

    remote = key("remote_static")
    ephemeral = key("ephemeral") or b""
    return HandshakeState(
        vector["protocol_name"].split("_")[1],
        initiator=side == "init",
        random_bytes=lambda size: ephemeral[:size],
        prologue=key("prologue") or b"",
        static_private=key("static"),
        remote_static=remote,
        psks=[bytes.fromhex(psk) for psk in vector.get(f"{side}_psks", [])],
    )


@pytest.mark.skipif(not VECTORS.exists(), reason=f"no Noise test vectors at {VECTORS}")
def test_the_vectors_are_there() -> None:
    names = {vector["protocol_name"] for vector in chacha_vectors()}
    assert "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s" in names
    assert len(names) >= 10


@pytest.mark.parametrize("vector", chacha_vectors(), ids=lambda vector: vector["protocol_name"])
def test_vector(vector: dict[str, Any]) -> None:
    writer, reader = side_of(vector, "init"), side_of(vector, "resp")
    ciphers: list[tuple[CipherState, CipherState]] = []
    for message in vector["messages"]:
        payload, expected = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        if not writer.finished:
            assert writer.write_message(payload) == expected
            assert reader.read_message(expected) == payload
            if writer.finished:
                assert writer.handshake_hash == reader.handshake_hash
                assert writer.handshake_hash.hex() == vector["handshake_hash"]
                for sender, receiver in ((writer, reader), (reader, writer)):
                    assert sender.split()[0] == receiver.split()[1]
                    pair = CipherState(sender.split()[0]), CipherState(receiver.split()[1])
                    ciphers.append(pair)
                # The next to write is the reader of the last handshake message.
                ciphers.reverse()
        else:
            sending, receiving = ciphers[0]
            assert sending.encrypt(b"", payload) == expected
            assert receiving.decrypt(b"", expected) == payload
            ciphers.reverse()
        writer, reader = reader, writer


def ikpsk2(psk: bytes = bytes(32), prologue: bytes = b"p") -> tuple[HandshakeState, HandshakeState]:
    ours, theirs = counted(1)(32), counted(2)(32)
    initiator = HandshakeState(
        "IKpsk2",
        initiator=True,
        random_bytes=counted(3),
        prologue=prologue,
        static_private=ours,
        remote_static=crypto_scalarmult_base(theirs),
        psks=[bytes(32)],
    )
    responder = HandshakeState(
        "IKpsk2",
        initiator=False,
        random_bytes=counted(4),
        prologue=b"p",
        static_private=theirs,
        psks=[psk],
    )
    return initiator, responder


def test_the_responder_learns_the_initiators_static_key() -> None:
    initiator, responder = ikpsk2()
    assert responder.read_message(initiator.write_message(b"hello")) == b"hello"
    assert responder.remote_static == crypto_scalarmult_base(counted(1)(32))
    assert initiator.read_message(responder.write_message(b"there")) == b"there"
    assert initiator.split() == responder.split()[::-1]
    assert initiator.export(b"a") == responder.export(b"a")
    secrets = {*initiator.split(), initiator.export(b"a"), initiator.export(b"b")}
    assert len(secrets) == 4


def test_another_prologue_fails_at_the_first_message() -> None:
    initiator, responder = ikpsk2(prologue=b"q")
    with pytest.raises(NoiseError):
        responder.read_message(initiator.write_message())


def test_another_psk_fails_at_the_second_message() -> None:
    initiator, responder = ikpsk2(psk=b"\1" * 32)
    responder.read_message(initiator.write_message())
    with pytest.raises(NoiseError):
        initiator.read_message(responder.write_message())


def test_a_fork_takes_the_forgery_and_the_original_goes_on() -> None:
    initiator, responder = ikpsk2()
    message = initiator.write_message(b"x")
    with pytest.raises(NoiseError):
        responder.fork().read_message(bytes(100))
    spent = responder.fork()
    with pytest.raises(NoiseError):
        spent.read_message(message[:-1])
    with pytest.raises(RuntimeError):
        spent.read_message(message)
    assert responder.read_message(message) == b"x"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_payload_or_a_noise_error(data: bytes) -> None:
    initiator, responder = ikpsk2()
    with pytest.raises(NoiseError):
        responder.fork().read_message(data)
    responder.read_message(initiator.write_message())
    with pytest.raises(NoiseError):
        initiator.read_message(data)


@given(st.integers(0, 8 * 101 - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    initiator, responder = ikpsk2()
    message = bytearray(initiator.write_message(b"hello"))
    assert len(message) == 101
    message[bit // 8] ^= 1 << bit % 8
    # X25519 ignores the top bit of a public key, but the transcript does not.
    with pytest.raises(NoiseError):
        responder.read_message(bytes(message))


LOW_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("public", LOW_ORDER, ids=lambda public: public[:4].hex())
def test_points_of_small_order_are_refused(public: bytes) -> None:
    with pytest.raises(NoiseError, match="degenerate"):
        dh(counted()(32), public)
    _, responder = ikpsk2()
    with pytest.raises(NoiseError, match="degenerate"):
        responder.read_message(public + bytes(80))


def test_out_of_turn_is_the_callers_mistake() -> None:
    initiator, responder = ikpsk2()
    with pytest.raises(RuntimeError, match="turn"):
        responder.write_message()
    with pytest.raises(RuntimeError, match="not over"):
        initiator.split()
    with pytest.raises(RuntimeError, match="not over"):
        initiator.export(b"x")
    responder.read_message(initiator.write_message())
    initiator.read_message(responder.write_message())
    with pytest.raises(RuntimeError, match="over"):
        initiator.write_message()


@pytest.mark.parametrize("name", ["", "ZZ", "IKpsk", "IKpsk3", "IKpsk4", "IKpsk22", "psk2", "IKpskx"])
def test_unknown_patterns(name: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        parse_pattern(name)


def test_missing_keys() -> None:
    def build(**arguments: Any) -> HandshakeState:
        return HandshakeState("IKpsk2", random_bytes=counted(), **arguments)

    with pytest.raises(ValueError, match="static key"):
        build(initiator=True, static_private=bytes(32), psks=[bytes(32)])
    with pytest.raises(ValueError, match="pre-shared"):
        build(initiator=False, static_private=counted()(32))
    with pytest.raises(ValueError, match="32 bytes"):
        build(initiator=False, static_private=counted()(32), psks=[b"short"])


def test_secrets_stay_out_of_repr() -> None:
    initiator, responder = ikpsk2()
    responder.read_message(initiator.write_message())
    shown = repr(initiator) + repr(responder) + repr(CipherState(b"k" * 32))
    assert "kkk" not in shown
    assert counted(1)(32).hex() not in shown


def test_a_failed_decrypt_keeps_the_nonce_and_the_last_nonce_is_never_used() -> None:
    cipher = CipherState(bytes(32))
    with pytest.raises(NoiseError):
        cipher.decrypt(b"", bytes(20))
    assert cipher.nonce == 0
    cipher.nonce = 2**64 - 1
    with pytest.raises(NoiseError, match="exhausted"):
        cipher.encrypt(b"", b"")


def test_hkdf_is_rfc_5869_with_blake2s() -> None:
    from cryptography.hazmat.primitives.hashes import BLAKE2s
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    reference = HKDF(algorithm=BLAKE2s(32), length=96, salt=b"c" * 32, info=b"")
    assert b"".join(hkdf(b"c" * 32, b"material", 3)) == reference.derive(b"material")
