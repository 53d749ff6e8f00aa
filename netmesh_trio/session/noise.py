"""The Noise Protocol Framework (revision 34), as much of it as a 25519/ChaChaPoly/BLAKE2s handshake
needs.

Production runs one pattern only, ``IKpsk2``.  The others of the small table below cost nothing and
let the same code be checked against published test vectors.  Section numbers are those of
https://noiseprotocol.org/noise.html.

Sans-IO: ephemeral keys come from the ``random_bytes`` argument.  Keys and Diffie-Hellman by PyNaCl,
AEAD by ``cryptography`` (a third of the time per packet), HMAC and hash by the standard library.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from netmesh_trio.wire.errors import DecodeError

__all__ = [
    "KEY_SIZE",
    "MAX_MESSAGE",
    "TAG_SIZE",
    "CipherState",
    "HandshakeState",
    "NoiseError",
    "Pattern",
    "SymmetricState",
    "dh",
    "hkdf",
    "parse_pattern",
]

KEY_SIZE = 32
"""Bytes in a public, private, symmetric or pre-shared key, and in a hash (DHLEN = HASHLEN = 32)."""

TAG_SIZE = 16
"""Bytes that the AEAD adds."""

MAX_MESSAGE = 65535
"""Longest Noise message in bytes (section 3)."""

_MAX_NONCE = 2**64 - 1  # reserved by section 5.1: never used to encrypt
_SUITE = "25519_ChaChaPoly_BLAKE2s"


class NoiseError(DecodeError):
    """A handshake message that is too short, too long, not authentic, or carries a degenerate
    public key.
    """


class Pattern(NamedTuple):
    """A handshake pattern: static keys known beforehand, then the tokens of each message in turn
    (section 7).
    """

    initiator_known: bool
    responder_known: bool
    messages: tuple[tuple[str, ...], ...]


_PATTERNS = {
    "NN": Pattern(False, False, (("e",), ("e", "ee"))),
    "NK": Pattern(False, True, (("e", "es"), ("e", "ee"))),
    "KK": Pattern(True, True, (("e", "es", "ss"), ("e", "ee", "se"))),
    "IK": Pattern(False, True, (("e", "es", "s", "ss"), ("e", "ee", "se"))),
    "XX": Pattern(False, False, (("e",), ("e", "ee", "s", "es"), ("s", "se"))),
}


def parse_pattern(name: str) -> Pattern:
    """The pattern called *name*: a fundamental one, optionally with one ``pskN`` modifier, like
    ``IKpsk2``.

    ``psk0`` stands before the first message's tokens, ``pskN`` after the N-th message's (section
    9.4).
    :raises ValueError: a pattern that is not in the table.
    """
    base, modifier, position = name.partition("psk")
    if base not in _PATTERNS:
        raise ValueError(f"unknown Noise pattern {name!r}")
    pattern = _PATTERNS[base]
    if not modifier:
        return pattern
    if len(position) != 1 or not "0" <= position <= str(len(pattern.messages)):
        raise ValueError(f"unknown Noise pattern {name!r}")
    messages = list(pattern.messages)
    if position == "0":
        messages[0] = ("psk", *messages[0])
    else:
        index = int(position) - 1
        messages[index] = (*messages[index], "psk")
    return pattern._replace(messages=tuple(messages))


def dh(private: bytes, public: bytes) -> bytes:
    """X25519 of two 32-byte keys.

    :raises NoiseError: the result is all zero, that is, *public* is a point of small order (RFC
        7748, section 6.1).
    """
    try:
        return crypto_scalarmult(private, public)
    except CryptoError:
        raise NoiseError("degenerate public key") from None


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> list[bytes]:
    """*outputs* (2 or 3) keys of 32 bytes: HKDF of section 4.3, which is RFC 5869 with HMAC-BLAKE2s
    and an empty info.
    """
    temporary = hmac.digest(chaining_key, material, "blake2s")
    keys: list[bytes] = []
    previous = b""
    for number in range(1, outputs + 1):
        previous = hmac.digest(temporary, previous + bytes([number]), "blake2s")
        keys.append(previous)
    return keys


class CipherState:
    """One key and its nonce counter (section 5.1).  Without a key, encryption is the identity
    function.
    """

    __slots__ = ("_aead", "key", "nonce")

    def __init__(self, key: bytes | None = None) -> None:
        self.key: bytes | None = key
        self.nonce: int = 0
        self._aead = None if key is None else ChaCha20Poly1305(key)

    def __repr__(self) -> str:
        return f"<CipherState keyed={self.key is not None} nonce={self.nonce}>"

    def _next_nonce(self) -> bytes:
        if self.nonce >= _MAX_NONCE:
            raise NoiseError("nonce exhausted")
        return bytes(4) + self.nonce.to_bytes(8, "little")

    def encrypt(self, associated: bytes, plaintext: bytes) -> bytes:
        """*plaintext* sealed, 16 bytes longer; *associated* is authenticated with it."""
        if self._aead is None:
            return plaintext
        sealed = self._aead.encrypt(self._next_nonce(), plaintext, associated)
        self.nonce += 1
        return sealed

    def decrypt(self, associated: bytes, sealed: bytes) -> bytes:
        """The plaintext of *sealed*.  A failure does not advance the nonce.

        :raises NoiseError: not authentic.
        """
        if self._aead is None:
            return sealed
        try:
            plaintext = self._aead.decrypt(self._next_nonce(), sealed, associated)
        except InvalidTag:
            raise NoiseError("not authentic") from None
        self.nonce += 1
        return plaintext


class SymmetricState:
    """Chaining key and transcript hash (section 5.2)."""

    __slots__ = ("_chaining_key", "_cipher", "hash")

    def __init__(self, protocol_name: bytes) -> None:
        if len(protocol_name) <= KEY_SIZE:
            self.hash: bytes = protocol_name.ljust(KEY_SIZE, b"\0")
        else:
            self.hash = hashlib.blake2s(protocol_name).digest()
        self._chaining_key = self.hash
        self._cipher = CipherState()

    @property
    def keyed(self) -> bool:
        """Whether what is encrypted now is really encrypted, and so 16 bytes longer."""
        return self._cipher.key is not None

    def fork(self) -> SymmetricState:
        """An independent copy."""
        twin = copy.copy(self)
        twin._cipher = copy.copy(self._cipher)  # the AEAD object under it is immutable and shared
        return twin

    def mix_hash(self, data: bytes) -> None:
        """Bind *data* into the transcript."""
        self.hash = hashlib.blake2s(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        """Stir *material* into the chaining key and take a new encryption key."""
        self._chaining_key, key = hkdf(self._chaining_key, material, 2)
        self._cipher = CipherState(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        """:meth:`mix_key` for a pre-shared key, which is bound into the transcript too."""
        self._chaining_key, hashed, key = hkdf(self._chaining_key, material, 3)
        self.mix_hash(hashed)
        self._cipher = CipherState(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Seal *plaintext* under the transcript, and bind the result into it."""
        sealed = self._cipher.encrypt(self.hash, plaintext)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Open what :meth:`encrypt_and_hash` made.

        :raises NoiseError: not authentic.
        """
        plaintext = self._cipher.decrypt(self.hash, sealed)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The two transport keys: initiator to responder, then responder to initiator."""
        first, second = hkdf(self._chaining_key, b"", 2)
        return first, second

    def export(self, label: bytes) -> bytes:
        """A 32-byte secret independent of the transport keys: HMAC-BLAKE2s(chaining key, *label* ||
        transcript hash).

        *label* must not be empty: :meth:`split` starts from the HMAC of the empty string.
        """
        return hmac.digest(self._chaining_key, label + self.hash, "blake2s")


class HandshakeState:
    """One side of one handshake (section 5.3).

    After a :class:`NoiseError` the state is spent; whoever may meet forged messages first takes a
    :meth:`fork`. Calling out of turn is a :class:`RuntimeError`: a mistake of the caller, not of
    the other side.
    """

    __slots__ = (
        "_e",
        "_initiator",
        "_messages",
        "_psk_mode",
        "_psks",
        "_random_bytes",
        "_re",
        "_s",
        "_s_public",
        "_symmetric",
        "_turn",
        "remote_static",
    )

    def __init__(
        self,
        pattern: str,
        *,
        initiator: bool,
        random_bytes: Callable[[int], bytes],
        prologue: bytes = b"",
        static_private: bytes | None = None,
        static_public: bytes | None = None,
        remote_static: bytes | None = None,
        psks: Sequence[bytes] = (),
    ) -> None:
        """
        :param pattern: as :func:`parse_pattern` takes it.
        :param static_public: saves computing it from *static_private*.
        :param psks: the pre-shared keys, 32 bytes each, in the order in which the pattern uses
            them.
        :raises ValueError: a key that the pattern needs is missing, or has another length than 32
            bytes.
        """
        parsed = parse_pattern(pattern)
        self._initiator = initiator
        self._random_bytes = random_bytes
        self._messages = parsed.messages
        self._turn = 0
        self._psks = tuple(psks)
        self._psk_mode = "psk" in pattern
        if sum(message.count("psk") for message in self._messages) != len(self._psks):
            raise ValueError(f"{pattern} needs another number of pre-shared keys")
        if any(len(psk) != KEY_SIZE for psk in self._psks):
            raise ValueError("a pre-shared key is 32 bytes")
        if static_private is not None and static_public is None:
            static_public = crypto_scalarmult_base(static_private)
        self._s = static_private
        self._s_public = static_public
        self.remote_static = remote_static
        self._e = b""
        self._re = b""

        self._symmetric = SymmetricState(f"Noise_{pattern}_{_SUITE}".encode())
        self._symmetric.mix_hash(prologue)
        for known, ours in (
            (parsed.initiator_known, initiator),
            (parsed.responder_known, not initiator),
        ):
            if known:
                public = static_public if ours else remote_static
                if public is None or len(public) != KEY_SIZE:
                    raise ValueError(f"{pattern} needs a static key of 32 bytes that is missing")
                self._symmetric.mix_hash(public)

    def __repr__(self) -> str:
        return f"<HandshakeState initiator={self._initiator} turn={self._turn}>"

    @property
    def finished(self) -> bool:
        """Whether all messages went through."""
        return self._turn == len(self._messages)

    @property
    def handshake_hash(self) -> bytes:
        """The transcript hash: both sides have the same 32 bytes once finished (channel binding,
        section 11.2).
        """
        return self._symmetric.hash

    def fork(self) -> HandshakeState:
        """An independent copy, to read a message that may be forged."""
        twin = copy.copy(self)
        twin._symmetric = self._symmetric.fork()
        return twin

    def _begin(self, writing: bool) -> tuple[str, ...]:
        if not 0 <= self._turn < len(self._messages):
            raise RuntimeError("the handshake is over")
        if writing != (self._initiator == (self._turn % 2 == 0)):
            raise RuntimeError("the other side's turn")
        tokens = self._messages[self._turn]
        # Spent unless the message goes through; _end undoes it.
        self._turn = -1 - self._turn
        return tokens

    def _end(self) -> None:
        self._turn = -self._turn

    def write_message(self, payload: bytes = b"") -> bytes:
        """The next message, carrying *payload*."""
        tokens = self._begin(writing=True)
        symmetric = self._symmetric
        message = b""
        for token in tokens:
            if token == "e":
                self._e = self._random_bytes(KEY_SIZE)
                public = crypto_scalarmult_base(self._e)
                message += public
                self._mix_ephemeral(public)
            elif token == "s":
                if self._s_public is None:
                    raise RuntimeError("the pattern sends a static key and none was given")
                message += symmetric.encrypt_and_hash(self._s_public)
            else:
                self._mix_token(token)
        message += symmetric.encrypt_and_hash(payload)
        if len(message) > MAX_MESSAGE:
            raise ValueError("payload too long for one Noise message")
        self._end()
        return message

    def read_message(self, message: bytes) -> bytes:
        """The payload of the other side's next message.

        :raises NoiseError: it is not what it should be; the state is spent.
        """
        tokens = self._begin(writing=False)
        if len(message) > MAX_MESSAGE:
            raise NoiseError("too long")
        symmetric = self._symmetric
        offset = 0
        for token in tokens:
            if token == "e":
                self._re = _take(message, offset, KEY_SIZE)
                offset += KEY_SIZE
                self._mix_ephemeral(self._re)
            elif token == "s":
                size = KEY_SIZE + TAG_SIZE if symmetric.keyed else KEY_SIZE
                self.remote_static = symmetric.decrypt_and_hash(_take(message, offset, size))
                offset += size
            else:
                self._mix_token(token)
        payload = symmetric.decrypt_and_hash(message[offset:])
        self._end()
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """The keys for (sending, receiving) on this side; :class:`RuntimeError` before the end."""
        self._require_finished()
        first, second = self._symmetric.split()
        return (first, second) if self._initiator else (second, first)

    def export(self, label: bytes) -> bytes:
        """32 secret bytes that both sides have, independent of the transport keys; *label* names
        the use.
        """
        self._require_finished()
        return self._symmetric.export(label)

    def _require_finished(self) -> None:
        if not self.finished:
            raise RuntimeError("the handshake is not over")

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self._psk_mode:  # section 9.2: else messages after a psk could repeat a key
            self._symmetric.mix_key(public)

    def _mix_token(self, token: str) -> None:
        if token == "psk":
            self._symmetric.mix_key_and_hash(self._psks[0])
            self._psks = self._psks[1:]
            return
        # The first letter is the initiator's key, the second the responder's.
        mine, theirs = (token[0], token[1]) if self._initiator else (token[1], token[0])
        private = self._e if mine == "e" else self._s
        public = self._re if theirs == "e" else self.remote_static
        if private is None or public is None:
            raise RuntimeError("the pattern uses a static key and none was given")
        self._symmetric.mix_key(dh(private, public))


def _take(message: bytes, offset: int, size: int) -> bytes:
    if len(message) < offset + size:
        raise NoiseError("truncated")
    return message[offset : offset + size]
