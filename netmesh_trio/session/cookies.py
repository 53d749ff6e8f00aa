"""What a node does about handshake packets before it spends a key operation on them.

Two 16-byte codes end an INIT, as in WireGuard (https://www.wireguard.com/papers/wireguard.pdf,
sections 5.3 and 5.4.4):

- ``mac1`` = BLAKE2s(key = BLAKE2s("netmesh mac1" || Ed25519 key of the receiver || network key),
all before it).  Whoever lacks the peer id or the network key gets no answer at all.  A RESPONSE
ends with one too.
- ``mac2`` = BLAKE2s(key = cookie, all before it, mac1 included), or zeros while the sender has no
cookie.

A cookie is BLAKE2s(key = rotating secret, source address as :meth:`Address.pack` writes it): 16
bytes that the node need not remember and that reach only the real owner of the address.  A node
under load answers with it::

    0   type u8 = 3, version u8 = 1, 2 zero bytes
    4   receiver index u32 LE: the sender index of the INIT
    8   nonce, 24 bytes
    32  XChaCha20-Poly1305(key, nonce, plaintext = cookie, AD = mac1 of the INIT), 32 bytes, where
        key = BLAKE2s("netmesh cookie" || Ed25519 key of the responder || network key)
    64  end

Everything here is sans-IO.  ``now`` is in seconds, on any clock that does not go back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from netmesh_trio.buckets import TokenBucket
from netmesh_trio.wire.errors import DecodeError
from netmesh_trio.wire.packets import COOKIE

__all__ = [
    "COOKIE_PACKET",
    "COOKIE_SIZE",
    "MAC_SIZE",
    "CookieSecrets",
    "SourceLimiter",
    "cookie_key",
    "mac",
    "mac1_key",
    "open_cookie_untrusted",
    "seal_cookie",
    "source_prefix",
]

MAC_SIZE = 16
"""Bytes of mac1 and of mac2."""

COOKIE_SIZE = 16
"""Bytes of a cookie."""

COOKIE_PACKET = 64
"""Bytes of a COOKIE packet: a tenth of the INIT that it answers."""

_HEADER = bytes([COOKIE, 1, 0, 0])
_NONCE = 24


def mac1_key(peer: bytes, network_key: bytes) -> bytes:
    """Key of mac1 in packets to the peer whose 32-byte Ed25519 key is *peer*."""
    return hashlib.blake2s(b"netmesh mac1" + peer + network_key).digest()


def cookie_key(peer: bytes, network_key: bytes) -> bytes:
    """Key under which the peer whose 32-byte Ed25519 key is *peer* seals its cookies."""
    return hashlib.blake2s(b"netmesh cookie" + peer + network_key).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s of *data*, 16 bytes."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_SIZE).digest()


def seal_cookie(key: bytes, cookie: bytes, mac1: bytes, receiver_index: int, nonce: bytes) -> bytes:
    """A COOKIE packet that answers the INIT with this *mac1* and sender index; *nonce* is 24 random
    bytes.
    """
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(cookie, mac1, nonce, key)
    return _HEADER + receiver_index.to_bytes(4, "little") + nonce + sealed


def open_cookie_untrusted(key: bytes, mac1: bytes, receiver_index: int, packet: bytes) -> bytes:
    """The cookie in a COOKIE packet that answers the INIT with this *mac1* and sender index.

    :raises DecodeError: it is no such packet.
    """
    if len(packet) != COOKIE_PACKET or packet[:4] != _HEADER:
        raise DecodeError("no cookie packet")
    if int.from_bytes(packet[4:8], "little") != receiver_index:
        raise DecodeError("cookie for another handshake")
    nonce, sealed = packet[8 : 8 + _NONCE], packet[8 + _NONCE :]
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, mac1, nonce, key)
    except CryptoError:
        raise DecodeError("cookie not authentic") from None


class CookieSecrets:
    """Makes and checks cookies under a secret that changes every *lifetime* seconds.

    The previous secret still counts, so a cookie is good for one to two lifetimes and never dies in
    flight.
    """

    def __init__(self, random_bytes: Callable[[int], bytes], lifetime: float = 120.0) -> None:
        self._random_bytes = random_bytes
        self._lifetime = lifetime
        self._secrets: list[bytes] = []  # newest first, at most two
        self._period = 0

    def _rotate(self, now: float) -> None:
        period = int(now // self._lifetime)
        if self._secrets and period == self._period:
            return
        previous = self._secrets[:1] if period == self._period + 1 else []
        self._secrets = [self._random_bytes(32), *previous]
        self._period = period

    def make(self, source: bytes, now: float) -> bytes:
        """The cookie for a source address."""
        self._rotate(now)
        return mac(self._secrets[0], source)

    def check_untrusted(self, mac2: bytes, covered: bytes, source: bytes, now: float) -> bool:
        """Whether *mac2*, over the bytes *covered*, was made with a cookie given to *source*."""
        self._rotate(now)
        return any(hmac.compare_digest(mac2, mac(mac(secret, source), covered)) for secret in self._secrets)


class SourceLimiter:
    """A :class:`~netmesh_trio.buckets.TokenBucket` for each source, for the *capacity* sources seen last.

    A source pushed out starts again with a full bucket; :attr:`evicted` counts them.  Feed it only
    addresses that were proven, else anyone could use up a stranger's bucket, or the table.
    """

    def __init__(self, rate: float, burst: float, capacity: int) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self.evicted: int = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: bytes, now: float) -> bool:
        """Take one token of *source*, if it has one."""
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                self._buckets.popitem(last=False)
                self.evicted += 1
            bucket = self._buckets[source] = TokenBucket(self._rate, self._burst)
        else:
            self._buckets.move_to_end(source)
        return bucket.take(now)


def source_prefix(source: bytes) -> bytes:
    """What of a packed address one owner is taken to hold: an IPv4 address, or the /64 of an IPv6
    one.
    """
    return source[:5] if source[:1] == b"\x04" else source[:9]
