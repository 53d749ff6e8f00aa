"""Which cipher the packets of two nodes are in."""

from __future__ import annotations

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from netmesh_trio import Identity, open_node
from netmesh_trio.node import ciphers, handshakes
from netmesh_trio.node.ciphers import aes_is_faster

from .mesh import echoing, engine, round_trip


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("first", [False, True])
async def test_aes_if_both_would_rather(first: bool, second: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    prefers = iter((first, second))
    monkeypatch.setattr(handshakes, "aes_is_faster", lambda: next(prefers))
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as a,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as b,
        echoing(b),
    ):
        await round_trip(await a.connect(b.addresses[0]))
        for node in (a, b):
            (live,) = engine(node).all_live()
            seal = live.session.keys.sealer.encrypt
            assert type(getattr(seal, "__self__")) is (AESGCM if first and second else ChaCha20Poly1305)  # noqa: B009


def test_a_library_without_it_has_no_faster_aes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: bytes) -> AESGCM:
        raise UnsupportedAlgorithm("said the test")

    monkeypatch.setattr(ciphers, "AESGCM", refuse)
    assert not aes_is_faster()


def test_the_faster_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self, key: bytes) -> None:
            self._real = AESGCM(key)

        def encrypt(self, nonce: bytes, data: bytes, associated: None) -> bytes:
            for _ in range(100):
                self._real.encrypt(nonce, data, associated)
            return b""

    monkeypatch.setattr(ciphers, "AESGCM", Slow)
    assert not aes_is_faster()
    monkeypatch.setattr(ciphers, "AESGCM", ChaCha20Poly1305)
    monkeypatch.setattr(ciphers, "ChaCha20Poly1305", Slow)
    assert aes_is_faster()
