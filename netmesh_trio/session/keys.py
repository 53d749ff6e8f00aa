"""The packet keys of a session, and their renewal.

Keys come in generations; a DATA packet names its own by the low eight bits.  Generation 0 is the handshake's.  To
renew, the side that opened the session sends ``REKEY [generation, ephemeral key]`` inside it, the other answers
alike, and both derive the next generation from the old secret and the fresh Diffie-Hellman result: a key that leaks
tomorrow opens nothing of today, and one that leaked yesterday opens nothing after the next renewal.  Packet numbers
go on counting, and the old key still opens what is under way, so no stream notices.

The cipher is ChaCha20-Poly1305, or AES-256-GCM if both sides find it faster, for the whole session.

REKEY messages (subprotocol 0x0E01): generation u32, X25519 public key 32 bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import nacl.bindings
import nacl.exceptions
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ..buckets import TokenBucket
from ..wire.errors import DecodeError
from ..wire.packets import DATA_HEADER_SIZE, unpack_data_header

__all__ = ["KeyRing", "PacketKey", "Seal", "SealInto", "pack_nonce"]

#: The AEAD nonce of a packet number: four zero bytes, then the number, little-endian (Noise, section 12.3).
pack_nonce: Callable[[int], bytes] = struct.Struct("<4xQ").pack

#: Encrypts or decrypts: nonce, data, no associated data.
Seal = Callable[[bytes, bytes | bytearray | memoryview, None], bytes]
#: The same, into memory of the right size.  It must not overlap the data.
SealInto = Callable[[bytes, bytes | bytearray | memoryview, None, memoryview], object]

#: Packets of one key after which it is to be renewed.  AES-GCM must not seal more than 2^23 of our size (RFC 9001,
#: section 6.6): half of that leaves time for the renewal.  For ChaCha20-Poly1305 there is no limit that matters.
_AES_PACKETS = 1 << 22
_CHACHA_PACKETS = 1 << 62

#: Renewals that either side puts up with: so many at once, and then one for each so many seconds or packets.
#: By time, the shortest interval that a node can be given is one second; by count they are due after many more packets.
_RENEWALS = 32
_RENEWAL_SECONDS = 0.5
_RENEWAL_PACKETS = 32

_REKEY = struct.Struct(">I32s")


class PacketKey:
    """The key of one direction and generation."""

    __slots__ = ("decrypt", "decrypt_into", "encrypt", "encrypt_into")

    def __init__(self, key: bytes, aes: bool) -> None:
        # Any: the methods that write into a buffer came with cryptography 47
        aead: Any = AESGCM(key) if aes else ChaCha20Poly1305(key)
        self.encrypt: Seal = aead.encrypt
        self.decrypt: Seal = aead.decrypt
        if hasattr(aead, "encrypt_into"):
            self.encrypt_into: SealInto = aead.encrypt_into
            self.decrypt_into: SealInto = aead.decrypt_into
        else:
            self.encrypt_into = _copying(self.encrypt)
            self.decrypt_into = _copying(self.decrypt)

    def authentic(self, packet: memoryview) -> bool:
        """Whether a DATA packet, header and all, was made with this key."""
        try:
            self.decrypt(pack_nonce(unpack_data_header(packet)[1]), packet[DATA_HEADER_SIZE:], None)
        except InvalidTag:
            return False
        return True


def _copying(operation: Seal) -> SealInto:
    def into(nonce: bytes, data: bytes | bytearray | memoryview, _: None, buffer: memoryview) -> None:
        buffer[:] = operation(nonce, data, None)

    return into


class KeyRing:
    """Keys of both directions."""

    __slots__ = (
        "_aes",
        "_ephemeral",
        "_initiator",
        "_limit",
        "_openers",
        "_pending",
        "_random_bytes",
        "_secret",
        "generation",
        "max_packets",
        "renewals",
        "sealer",
        "sent_generation",
    )

    def __init__(
        self,
        send_key: bytes,
        receive_key: bytes,
        secret: bytes,
        initiator: bool,
        random_bytes: Callable[[int], bytes],
        aes: bool = False,
    ) -> None:
        self._aes = aes
        self.max_packets = _AES_PACKETS if aes else _CHACHA_PACKETS
        self._secret = secret
        self._initiator = initiator
        self._random_bytes = random_bytes
        self._ephemeral: bytes | None = None
        self._limit = TokenBucket(1.0, _RENEWALS)
        self._openers: dict[int, PacketKey] = {0: PacketKey(receive_key, aes)}
        self._pending: PacketKey | None = None
        #: What we send with.
        self.sealer: PacketKey = PacketKey(send_key, aes)
        #: The newest generation that we can receive, and the one that we send with.
        self.generation: int = 0
        self.sent_generation: int = 0
        self.renewals: int = 0

    def opener(self, epoch: int) -> PacketKey | None:
        """The key for a packet's epoch byte, if we still (or already) have it."""
        for generation, key in self._openers.items():
            if generation & 0xFF == epoch:
                return key
        return None

    def start_renewal(self) -> bytes | None:
        """The opener's REKEY message, or None while one is under way."""
        if self._ephemeral is not None:
            return None
        self._ephemeral = self._random_bytes(32)
        public = nacl.bindings.crypto_scalarmult_base(self._ephemeral)
        return _REKEY.pack(self.generation + 1, public)

    def receive_rekey(self, payload: bytes) -> bytes | None:
        """Take in the other side's REKEY; return the answer, if one is due.  Repeats do nothing."""
        if len(payload) != _REKEY.size:
            raise DecodeError("REKEY of a wrong size")
        generation, theirs = _REKEY.unpack(payload)
        if generation != self.generation + 1:
            if generation > self.generation:
                raise DecodeError("REKEY skips a generation")
            return None
        if self._initiator:
            if self._ephemeral is None:
                raise DecodeError("REKEY that nobody asked for")
            mine, self._ephemeral = self._ephemeral, None
            self.sealer = self._derive(mine, theirs, own_first=True)
            self.sent_generation = self.generation
            return None
        if self._pending is not None:
            raise DecodeError("REKEY before the last one was used")
        mine = self._random_bytes(32)
        public = nacl.bindings.crypto_scalarmult_base(mine)
        # we send with the new key once the opener does: only then do we know that it has our answer
        self._pending = self._derive(mine, theirs, own_first=False)
        return _REKEY.pack(self.generation, public)

    def check_rate(self, now: float, packets: int) -> None:
        """Count a renewal that was begun or answered, ``packets`` having come in so far.

        :raises DecodeError: there were too many: each costs either side three scalar multiplications.
        """
        # a clock that goes by seconds and by packets
        if not self._limit.take(now / _RENEWAL_SECONDS + packets / _RENEWAL_PACKETS):
            raise DecodeError("REKEY too often")

    def on_received(self, epoch: int) -> None:
        """A packet of a new epoch was authentic: the other side has the key, so we may send with it."""
        if self._pending is not None and epoch == self.generation & 0xFF:
            self.sealer = self._pending
            self._pending = None
            self.sent_generation = self.generation

    def _derive(self, mine: bytes, theirs: bytes, own_first: bool) -> PacketKey:
        try:
            shared = nacl.bindings.crypto_scalarmult(mine, theirs)
        except nacl.exceptions.CryptoError:
            raise DecodeError("REKEY with a key of low order") from None
        publics = [nacl.bindings.crypto_scalarmult_base(mine), theirs]
        if not own_first:
            publics.reverse()
        root = hashlib.blake2s(shared + publics[0] + publics[1], key=self._secret).digest()
        self._secret, to_responder, to_initiator = (
            hashlib.blake2s(label, key=root).digest()
            for label in (b"netmesh rekey secret", b"netmesh to responder", b"netmesh to initiator")
        )
        send, receive = (to_responder, to_initiator) if self._initiator else (to_initiator, to_responder)
        self.generation += 1
        self.renewals += 1
        # two generations are kept: what is under way with the old key still opens
        self._openers = {g: key for g, key in self._openers.items() if g >= self.generation - 1}
        self._openers[self.generation] = PacketKey(receive, self._aes)
        return PacketKey(send, self._aes)
