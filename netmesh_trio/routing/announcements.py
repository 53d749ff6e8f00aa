"""Announcements: what a node says of itself to the whole mesh, signed.

Subprotocol 0x0C00 carries *envelopes*, CBOR arrays of at most 1000 bytes:

    [1, age in ms, hops, body (byte string), signature (64 bytes)]

The body is itself the CBOR array that was signed, kept byte for byte as it came:

    [1, peer id (32 bytes), sequence, lifetime in s, [tag, ...], reflex, reflex6, [relay (32 bytes),
    ...]]

with a reflex address in the 19 bytes of :meth:`Address.pack`, or null.  The signature is Ed25519
over :data:`SIGNATURE_CONTEXT` and the body.  Age and hops are not signed, since every node on the
way changes them: hops counts the nodes that passed it on (0 only from its origin), age is what the
announcement has spent of its lifetime (rounded up, so that no number of hops makes it live longer).
There are no wall clocks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

import attrs

from netmesh_trio.addresses import PACKED_ADDRESS_SIZE, Address
from netmesh_trio.identity import KEY_SIZE, SIGNATURE_SIZE, PeerId
from netmesh_trio.wire.control import (
    CborValue,
    decode_cbor_untrusted,
    encode_cbor,
    expect_bytes,
    expect_int,
    expect_list,
    expect_str,
)
from netmesh_trio.wire.errors import DecodeError

__all__ = [
    "MAX_ANNOUNCEMENT_HOPS",
    "MAX_ENVELOPE_SIZE",
    "MAX_LIFETIME",
    "MAX_RELAYS",
    "MAX_SEQUENCE",
    "MAX_TAGS",
    "PREFIX_HUB",
    "SIGNATURE_CONTEXT",
    "TAG_NAT_TRAVERSAL",
    "TAG_RELAY_CAPABLE",
    "Announcement",
    "Envelope",
    "withdrawal",
]

SIGNATURE_CONTEXT: Final = b"netmesh-trio announcement 1"
"""Signed in front of the body, so that no other signature of the same key can pass for this one."""

MAX_ENVELOPE_SIZE: Final = 1000
"""Most bytes of an encoded envelope."""

MAX_TAGS: Final = 16
MAX_RELAYS: Final = 16
MAX_LIFETIME: Final = 3600
"""Seconds."""
MAX_SEQUENCE: Final = 2**64 - 1
MAX_ANNOUNCEMENT_HOPS: Final = 16
"""Most nodes that pass an announcement on."""

TAG_RELAY_CAPABLE: Final = "relay-capable"
TAG_NAT_TRAVERSAL: Final = "nat-traversal"
PREFIX_HUB: Final = "hub:"
"""In front of the rank, 0 to 63, of a node that keeps the whole map."""

_VERSION = 1
_MAX_TAG_LENGTH = 32
_MAX_AGE_MS = 3 * MAX_LIFETIME * 1000  # expired ones and withdrawals are told for a while, too
_HUB = re.compile(r"hub:([0-9]|[1-5][0-9]|6[0-3])")
_TAG = re.compile(r"[a-z0-9][a-z0-9:.\-]*")


def _check_tags(_instance: object, _attribute: object, tags: tuple[str, ...]) -> None:
    if len(tags) > MAX_TAGS or len(set(tags)) != len(tags):
        raise ValueError(f"there may be {MAX_TAGS} tags, no two of them equal")
    for tag in tags:
        if len(tag) > _MAX_TAG_LENGTH or not _TAG.fullmatch(tag):
            raise ValueError("a tag has 1 to 32 characters, a-z, 0-9, colon, dot and hyphen")


def _check_reflex(_instance: object, attribute: attrs.Attribute[Address | None], reflex: Address | None) -> None:
    family = 4 if attribute.name == "reflex" else 6
    if reflex is not None and not (reflex.family == family and reflex.is_unicast):
        raise ValueError(f"{attribute.name} is not a unicast IPv{family} address")


def _check_sequence(_instance: object, _attribute: object, value: int) -> None:
    if not 0 <= value <= MAX_SEQUENCE:
        raise ValueError("a sequence number has 64 bits")


def _check_lifetime(_instance: object, _attribute: object, value: int) -> None:
    if not 0 <= value <= MAX_LIFETIME:
        raise ValueError(f"a lifetime is 0 to {MAX_LIFETIME} seconds")


def _check_relays(instance: Announcement, _attribute: object, relays: tuple[PeerId, ...]) -> None:
    if len(relays) > MAX_RELAYS or len(set(relays)) != len(relays):
        raise ValueError(f"there may be {MAX_RELAYS} relays, no two of them equal")
    if instance.peer_id in relays:
        raise ValueError("a node is not its own relay")
    if relays and instance.lifetime_s == 0:
        raise ValueError("a withdrawal names no relays")


@attrs.frozen(kw_only=True)
class Announcement:
    """What one node says of itself.  Out-of-range fields raise :class:`ValueError`."""

    peer_id: PeerId
    sequence: int = attrs.field(validator=_check_sequence)
    """Grows with each announcement of that node; 64 bits."""
    lifetime_s: int = attrs.field(default=MAX_LIFETIME, validator=_check_lifetime)
    """Seconds that it holds, from when it was made; 0 withdraws all that was announced before."""
    tags: tuple[str, ...] = attrs.field(default=(), validator=_check_tags)
    """``nat:open|cone|symmetric|unknown``, ``relay-capable``, ``nat-traversal``, ``hub:RANK``; others are kept
    and ignored."""
    reflex: Address | None = attrs.field(default=None, validator=_check_reflex)
    """The IPv4 address that others see this node at."""
    reflex6: Address | None = attrs.field(default=None, validator=_check_reflex)
    """The same for IPv6."""
    relays: tuple[PeerId, ...] = attrs.field(default=(), validator=_check_relays)
    """Neighbors with a direct session, under which this node is reachable (and which a relay
    reaches)."""

    @property
    def is_withdrawal(self) -> bool:
        """Whether it takes back all that its origin announced before."""
        return self.lifetime_s == 0

    @property
    def relay_capable(self) -> bool:
        """Whether its origin offers to carry circuits for others."""
        return TAG_RELAY_CAPABLE in self.tags

    @property
    def hub_rank(self) -> int | None:
        """Its rank if its origin keeps the whole map, else None; the first such tag counts."""
        for tag in self.tags:
            match = _HUB.fullmatch(tag)
            if match is not None:
                return int(match[1])
        return None

    def encode_body(self) -> bytes:
        """The bytes to sign (behind :data:`SIGNATURE_CONTEXT`)."""
        return encode_cbor(
            [
                _VERSION,
                bytes(self.peer_id),
                self.sequence,
                self.lifetime_s,
                list(self.tags),
                None if self.reflex is None else self.reflex.pack(),
                None if self.reflex6 is None else self.reflex6.pack(),
                [bytes(relay) for relay in self.relays],
            ]
        )

    @classmethod
    def decode_body_untrusted(cls, body: bytes) -> Announcement:
        """Read a body whose signature nobody has checked yet; else :class:`DecodeError`."""
        fields = expect_list(decode_cbor_untrusted(body, MAX_ENVELOPE_SIZE), 8)
        expect_int(fields[0], _VERSION, _VERSION)
        try:
            return cls(
                peer_id=PeerId(expect_bytes(fields[1], KEY_SIZE)),
                sequence=expect_int(fields[2], 0, MAX_SEQUENCE),
                lifetime_s=expect_int(fields[3], 0, MAX_LIFETIME),
                tags=tuple(expect_str(tag, 1, _MAX_TAG_LENGTH) for tag in expect_list(fields[4], 0, MAX_TAGS)),
                reflex=_read_reflex(fields[5]),
                reflex6=_read_reflex(fields[6]),
                relays=tuple(PeerId(expect_bytes(relay, KEY_SIZE)) for relay in expect_list(fields[7], 0, MAX_RELAYS)),
            )
        except DecodeError:
            raise
        except ValueError as error:  # of the validators above
            raise DecodeError(str(error)) from error

    def sign(self, sign: Callable[[bytes], bytes]) -> Envelope:
        """The envelope to send, signed by ``Identity.sign`` of the same peer.

        Raises :class:`ValueError` if it would be longer than :data:`MAX_ENVELOPE_SIZE`: too many
        long tags.
        """
        body = self.encode_body()
        envelope = Envelope(self, body, sign(SIGNATURE_CONTEXT + body), age=0.0, hops=0)
        envelope.encode()
        return envelope


def withdrawal(peer_id: PeerId, sequence: int) -> Announcement:
    """The announcement that takes back all earlier ones: what a node says before it leaves."""
    return Announcement(peer_id=peer_id, sequence=sequence, lifetime_s=0)


@attrs.frozen
class Envelope:
    """An announcement on its way, with its signature and what it has gone through."""

    announcement: Announcement
    body: bytes
    """The announcement as it was signed."""
    signature: bytes
    age: float
    """Seconds of its lifetime that are spent."""
    hops: int
    """Nodes that have passed it on; 0 as its origin sends it."""

    def encode(self) -> bytes:
        """The CBOR of this envelope."""
        age_ms = min(max(math.ceil(self.age * 1000.0), 0), _MAX_AGE_MS)
        data = encode_cbor([_VERSION, age_ms, self.hops, self.body, self.signature])
        if len(data) > MAX_ENVELOPE_SIZE:
            raise ValueError(f"announcement of {len(data)} bytes; at most {MAX_ENVELOPE_SIZE} fit")
        return data

    @classmethod
    def decode_untrusted(cls, data: bytes | bytearray | memoryview) -> Envelope:
        """Read an envelope whose signature nobody has checked yet; else :class:`DecodeError`."""
        fields = expect_list(decode_cbor_untrusted(data, MAX_ENVELOPE_SIZE), 5)
        expect_int(fields[0], _VERSION, _VERSION)
        age_ms = expect_int(fields[1], 0, _MAX_AGE_MS)
        hops = expect_int(fields[2], 0, MAX_ANNOUNCEMENT_HOPS)
        body = expect_bytes(fields[3], 1, MAX_ENVELOPE_SIZE)
        signature = expect_bytes(fields[4], SIGNATURE_SIZE)
        announcement = Announcement.decode_body_untrusted(body)
        return cls(announcement, body, signature, age=age_ms / 1000.0, hops=hops)

    def verify(self) -> bool:
        """Whether the signature is its origin's; some 50 microseconds."""
        return self.announcement.peer_id.verify(SIGNATURE_CONTEXT + self.body, self.signature)

    def passed_on(self, age: float) -> Envelope | None:
        """As the next node is to see it; None if it has gone as far as it may."""
        if self.hops >= MAX_ANNOUNCEMENT_HOPS:
            return None
        return Envelope(self.announcement, self.body, self.signature, age=age, hops=self.hops + 1)


def _read_reflex(value: CborValue) -> Address | None:
    return None if value is None else Address.unpack(expect_bytes(value, PACKED_ADDRESS_SIZE))
