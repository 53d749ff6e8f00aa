"""The handshake: two packets that turn two peer ids into session keys.

``Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s`` with the prologue ``netmesh-trio/1``.  The static keys are
the Ed25519 keys of the peer ids converted to X25519; the pre-shared key is the network key (zeros
in a public mesh).  All integers are little-endian.  INIT has one fixed size and no answer to it is
larger, so nobody can be flooded through us::

    INIT, 640 bytes
    0    type u8 = 1, version u8 = 1, 2 zero bytes
    4    sender index u32: what the RESPONSE and all DATA to the sender carry
    8    Noise message 1: ephemeral key 32, sealed static key 48, sealed payload 520
    608  mac1, 16 bytes
    624  mac2, 16 bytes, zeros without a cookie

    payload of message 1, 504 bytes
    0    bytes 0 to 7 of the packet again
    8    Ed25519 key of the initiator, 32 bytes
    40   Ed25519 key of the responder, 32 bytes
    72   hello length u16, at most 400
    74   hello, then zeros

    RESPONSE, 88 to 488 bytes
    0    type u8 = 2, version u8 = 1, 2 zero bytes
    4    sender index u32
    8    receiver index u32: the sender index of the INIT
    12   Noise message 2: ephemeral key 32, sealed payload 28 to 428
    -16  mac1, 16 bytes

    payload of message 2, 12 to 412 bytes
    0    bytes 0 to 11 of the packet again
    12   hello

The headers come again inside the AEAD because Noise does not cover them and a relay could otherwise
change an index.  The Ed25519 keys do because the conversion loses a bit: two peer ids, one secret,
have the same X25519 key.  macs and the COOKIE packet are described in
:mod:`netmesh_trio.session.cookies`.

``hello`` is up to the layer above.  That of message 1 may be a replay and is readable by whoever
later steals the responder's key, so it must carry nothing but parameters.  For the same reason a
responder's session counts for nothing until DATA arrives on it: a replayed INIT gets an answer, and
that is all it gets.
"""

from __future__ import annotations

import hmac
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs

from netmesh_trio.buckets import TokenBucket
from netmesh_trio.errors import AddressError
from netmesh_trio.identity import Identity, PeerId
from netmesh_trio.session.cookies import (
    COOKIE_PACKET,
    MAC_SIZE,
    CookieSecrets,
    SourceLimiter,
    cookie_key,
    mac,
    mac1_key,
    open_cookie_untrusted,
    seal_cookie,
    source_prefix,
)
from netmesh_trio.session.noise import KEY_SIZE, TAG_SIZE, HandshakeState, NoiseError
from netmesh_trio.wire.errors import DecodeError
from netmesh_trio.wire.packets import COOKIE, INIT, RESPONSE

__all__ = [
    "INIT_SIZE",
    "MAX_HELLO",
    "MAX_RESPONSE",
    "MIN_RESPONSE",
    "PROLOGUE",
    "VERSION",
    "CookieReply",
    "Drop",
    "Established",
    "HandshakeLimits",
    "HandshakeRejected",
    "HandshakeStats",
    "Indices",
    "Initiator",
    "Reply",
    "Responder",
    "peek_indices_untrusted",
]

VERSION = 1
"""The protocol version in INIT, RESPONSE and COOKIE."""

PROLOGUE = b"netmesh-trio/1"
"""Noise prologue: no handshake with another protocol or version can be taken for one of ours."""

INIT_SIZE = 640
"""Bytes of every INIT."""

MAX_HELLO = 400
"""Bytes that each side may say of itself in its handshake message."""

_PATTERN = "IKpsk2"
_REKEY_LABEL = b"netmesh-trio rekey"
_INIT_HEADER = 8
_RESPONSE_HEADER = 12
_MAC1 = INIT_SIZE - 2 * MAC_SIZE
_MAC2 = INIT_SIZE - MAC_SIZE
_NO_MAC2 = bytes(MAC_SIZE)
_INIT_PAYLOAD = _MAC1 - _INIT_HEADER - KEY_SIZE - (KEY_SIZE + TAG_SIZE) - TAG_SIZE
_HELLO = _INIT_HEADER + 2 * KEY_SIZE + 2

MIN_RESPONSE = _RESPONSE_HEADER + KEY_SIZE + _RESPONSE_HEADER + TAG_SIZE + MAC_SIZE
"""Bytes of a RESPONSE whose hello is empty."""

MAX_RESPONSE = MIN_RESPONSE + MAX_HELLO
"""Bytes of the longest RESPONSE."""

_INIT_START = bytes([INIT, VERSION, 0, 0])
_RESPONSE_START = bytes([RESPONSE, VERSION, 0, 0])
_U32 = struct.Struct("<I")
_U32_U32 = struct.Struct("<II")

_Bytes = bytes | bytearray | memoryview


class HandshakeRejected(DecodeError):
    """A packet that is not the answer this initiator waits for.  Harmless: drop it, count it, keep
    waiting.

    ``reason`` is ``"length"``, ``"header"``, ``"index"``, ``"mac1"``, ``"noise"``, ``"cookie"`` or
    ``"late"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen(kw_only=True)
class Established:
    """What a handshake gave, on either side.  The keys of one side are those of the other with
    roles exchanged.
    """

    peer_id: PeerId
    """The other side, proven."""
    initiator: bool
    """Whether this side sent the INIT."""
    local_index: int
    """What packets to this side carry."""
    remote_index: int
    """What packets to the other side must carry."""
    send_key: bytes = attrs.field(repr=False)
    """32 bytes, ChaCha20-Poly1305."""
    receive_key: bytes = attrs.field(repr=False)
    """32 bytes, ChaCha20-Poly1305."""
    rekey_secret: bytes = attrs.field(repr=False)
    """32 bytes, for later keys of the session: HMAC-BLAKE2s(final chaining key, "netmesh-trio
    rekey" || handshake hash).
    """
    handshake_hash: bytes = attrs.field(repr=False)
    """32 bytes, the same on both sides and in no other handshake.  Not secret."""
    hello: bytes = attrs.field(repr=False)
    """What the other side said of itself, at most 400 bytes."""


@attrs.frozen
class Reply:
    """Send *packet*, a RESPONSE.  *fresh* is false when the same INIT was answered before, by the
    same bytes.
    """

    packet: bytes = attrs.field(repr=False)
    established: Established
    fresh: bool


@attrs.frozen
class CookieReply:
    """Send *packet*, a COOKIE: we are under load, and the sender has yet to prove its address."""

    packet: bytes = attrs.field(repr=False)


@attrs.frozen
class Drop:
    """Send nothing.

    *reason* is ``"length"``, ``"header"`` (type, version or zero bytes), ``"mac1"`` (another
    target, network key, or damage), ``"busy"`` (a budget of the whole node is spent),
    ``"rate-limited"`` (that of the source, relay or circuit is), ``"noise"`` (not authentic),
    ``"payload"``,
    ``"identity"`` (not the holder of the peer id it claims, or ourselves) or ``"full"`` (no index).
    """

    reason: str


def _amount(default: float) -> float:
    field: float = attrs.field(default=default, validator=attrs.validators.ge(0))
    return field


@attrs.frozen(kw_only=True)
class HandshakeLimits:
    """How much a :class:`Responder` does for strangers.

    Rates are handshakes a second, bursts handshakes at once.  A handshake costs the responder about
    0.3 ms of one core.
    """

    open_rate: float = _amount(300.0)
    """For sources that proved nothing.  Above it they are sent a cookie and have to prove their
    address.
    """
    open_burst: float = _amount(500.0)
    proven_rate: float = _amount(500.0)
    """For all proven sources together; above it they are dropped."""
    proven_burst: float = _amount(500.0)
    source_rate: float = _amount(25.0)
    """For one proven source, that is, an IPv4 address or an IPv6 /64; above it its packets are
    dropped.
    """
    source_burst: float = _amount(100.0)
    circuit_rate: float = _amount(100.0)
    """For all that come over circuits, where the relay's budgets come on top; above it they are
    dropped.
    """
    circuit_burst: float = _amount(200.0)
    relay_rate: float = _amount(50.0)
    """For all that come over one relay, so that no relay uses up what is for all."""
    relay_burst: float = _amount(100.0)
    one_circuit_rate: float = _amount(0.2)
    """For all that come over one circuit, so that nobody uses up what is for its relay.  A dial
    needs one handshake, and has circuits of its own.
    """
    one_circuit_burst: float = _amount(2.0)
    max_sources: int = attrs.field(default=4096, validator=attrs.validators.ge(1))
    """Proven sources remembered; and so many circuits, and so many relays."""
    cookie_lifetime: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    """Seconds until the cookie secret changes; a cookie is good for one to two of them."""
    max_repeats: int = attrs.field(default=1024, validator=attrs.validators.ge(0))
    """Answered INITs remembered, to answer a repeat by the same RESPONSE."""
    repeat_lifetime: float = _amount(10.0)
    """Seconds for which they are."""


@attrs.frozen
class HandshakeStats:
    """What a :class:`Responder` did so far."""

    replies: int
    repeats: int
    cookies: int
    drops: Mapping[str, int]
    """By :attr:`Drop.reason`."""
    repeats_evicted: int
    """Answered INITs forgotten before their time because the table was full."""
    sources_evicted: int


class Indices(NamedTuple):
    """The indices that a packet shows; None for what it has not."""

    sender: int | None
    receiver: int | None


def peek_indices_untrusted(data: _Bytes) -> Indices:
    """The indices in an INIT (sender), RESPONSE (both) or COOKIE (receiver), to find whose it is.

    Total.  Looks at type and length only; ``Indices(None, None)`` for everything else.
    """
    kind, size = (data[0], len(data)) if len(data) else (0, 0)
    if kind == INIT and size == INIT_SIZE:
        return Indices(_U32.unpack_from(data, 4)[0], None)
    if kind == RESPONSE and MIN_RESPONSE <= size <= MAX_RESPONSE:
        return Indices(*_U32_U32.unpack_from(data, 4))
    if kind == COOKIE and size == COOKIE_PACKET:
        return Indices(None, _U32.unpack_from(data, 4)[0])
    return Indices(None, None)


def _check_hello(hello: bytes) -> bytes:
    if len(hello) > MAX_HELLO:
        raise ValueError(f"hello of {len(hello)} bytes; at most {MAX_HELLO} fit")
    return hello


def _establish(
    noise: HandshakeState,
    peer_id: PeerId,
    *,
    initiator: bool,
    local_index: int,
    remote_index: int,
    hello: bytes,
) -> Established:
    send_key, receive_key = noise.split()
    return Established(
        peer_id=peer_id,
        initiator=initiator,
        local_index=local_index,
        remote_index=remote_index,
        send_key=send_key,
        receive_key=receive_key,
        rekey_secret=noise.export(_REKEY_LABEL),
        handshake_hash=noise.handshake_hash,
        hello=hello,
    )


class Initiator:
    """One attempt to reach one peer.

    Send :attr:`packet`, again and again until something comes; feed what comes for our index to
    :meth:`receive_response` or :meth:`receive_cookie`, by its type.

    :param network_key: 32 bytes, zeros in a public mesh.
    :param local_index: a free number below 2**32, unguessable.
    :param random_bytes: the source of the ephemeral key.
    :raises ValueError: *hello* is longer than 400 bytes, or the peer is ourselves.
    :raises AddressError: the peer id is no usable key (see :attr:`PeerId.x25519`).
    """

    def __init__(
        self,
        identity: Identity,
        peer_id: PeerId,
        *,
        network_key: bytes,
        local_index: int,
        hello: bytes,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        if peer_id == identity.peer_id:
            raise ValueError("a node does not dial itself")
        _check_hello(hello)
        self.peer_id = peer_id
        self.local_index = local_index
        self._cookie_key = cookie_key(bytes(peer_id), network_key)
        self._own_mac1_key = mac1_key(bytes(identity.peer_id), network_key)
        self._done = False
        self._noise = HandshakeState(
            _PATTERN,
            initiator=True,
            random_bytes=random_bytes,
            prologue=PROLOGUE,
            static_private=identity.x25519_private,
            static_public=identity.peer_id.x25519,
            remote_static=peer_id.x25519,
            psks=[network_key],
        )
        header = _INIT_START + _U32.pack(local_index)
        payload = b"".join(
            (
                header,
                bytes(identity.peer_id),
                bytes(peer_id),
                len(hello).to_bytes(2, "little"),
                hello,
            )
        )
        body = header + self._noise.write_message(payload.ljust(_INIT_PAYLOAD, b"\0"))
        self._mac1 = mac(mac1_key(bytes(peer_id), network_key), body)
        self._covered = body + self._mac1
        self._packet = self._covered + _NO_MAC2

    def __repr__(self) -> str:
        return f"<Initiator to {self.peer_id.short} index={self.local_index:#x}>"

    @property
    def packet(self) -> bytes:
        """The INIT: the same bytes each time, until a cookie changes its mac2."""
        return self._packet

    def receive_cookie(self, data: _Bytes) -> None:
        """Take a COOKIE; :attr:`packet` has its proof from now on and is worth sending at once.

        :raises HandshakeRejected: it is not a cookie for this INIT from the peer dialed.
        """
        if len(data) != COOKIE_PACKET:
            raise HandshakeRejected("length")
        try:
            cookie = open_cookie_untrusted(self._cookie_key, self._mac1, self.local_index, bytes(data))
        except DecodeError:
            raise HandshakeRejected("cookie") from None
        self._packet = self._covered + mac(cookie, self._covered)

    def receive_response(self, data: _Bytes) -> Established:
        """Take a RESPONSE: the session with the peer dialed, and with no other.

        :raises HandshakeRejected: it is something else, and this attempt is as good as before.
        """
        if self._done:
            raise HandshakeRejected("late")
        if not MIN_RESPONSE <= len(data) <= MAX_RESPONSE:
            raise HandshakeRejected("length")
        packet = bytes(data)
        header, covered = packet[:_RESPONSE_HEADER], packet[:-MAC_SIZE]
        if header[:4] != _RESPONSE_START:
            raise HandshakeRejected("header")
        sender, receiver = _U32_U32.unpack_from(header, 4)
        if receiver != self.local_index:
            raise HandshakeRejected("index")
        if not hmac.compare_digest(mac(self._own_mac1_key, covered), packet[-MAC_SIZE:]):
            raise HandshakeRejected("mac1")
        noise = self._noise.fork()  # a forgery must not spoil the attempt
        try:
            payload = noise.read_message(covered[_RESPONSE_HEADER:])
        except NoiseError:
            raise HandshakeRejected("noise") from None
        if payload[:_RESPONSE_HEADER] != header:
            raise HandshakeRejected("header")
        self._done = True
        return _establish(
            noise,
            self.peer_id,
            initiator=True,
            local_index=self.local_index,
            remote_index=sender,
            hello=payload[_RESPONSE_HEADER:],
        )


class Responder:
    """Answers INITs; one for each node.

    Cheapest first: length, mac1, the table of repeats, the budgets, and only then keys.

    :param hello: gives what this side says of itself, at most 400 bytes; called for each fresh
        answer.
    :param allocate_index: gives a free, unguessable number below 2**32, or None when there is no
        room for a session; called only for authentic INITs.
    :param random_bytes: the source of ephemeral keys, cookie secrets and nonces.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        network_key: bytes,
        hello: Callable[[], bytes],
        allocate_index: Callable[[], int | None],
        random_bytes: Callable[[int], bytes],
        limits: HandshakeLimits | None = None,
    ) -> None:
        self._limits = limits = limits or HandshakeLimits()
        self._peer_id = identity.peer_id
        self._network_key = network_key
        self._hello = hello
        self._allocate_index = allocate_index
        self._random_bytes = random_bytes
        self._mac1_key = mac1_key(bytes(identity.peer_id), network_key)
        self._cookie_key = cookie_key(bytes(identity.peer_id), network_key)
        # The state before any message is the same for all; each INIT gets a fork.
        self._noise = HandshakeState(
            _PATTERN,
            initiator=False,
            random_bytes=random_bytes,
            prologue=PROLOGUE,
            static_private=identity.x25519_private,
            static_public=identity.peer_id.x25519,
            psks=[network_key],
        )
        self._secrets = CookieSecrets(random_bytes, limits.cookie_lifetime)
        self._open = TokenBucket(limits.open_rate, limits.open_burst)
        self._proven = TokenBucket(limits.proven_rate, limits.proven_burst)
        self._circuits = TokenBucket(limits.circuit_rate, limits.circuit_burst)
        self._sources = SourceLimiter(limits.source_rate, limits.source_burst, limits.max_sources)
        self._each_relay = SourceLimiter(limits.relay_rate, limits.relay_burst, limits.max_sources)
        self._each_circuit = SourceLimiter(limits.one_circuit_rate, limits.one_circuit_burst, limits.max_sources)
        # Oldest first: (sender index, ephemeral key, mac1) to (when, answer).
        self._repeats: OrderedDict[bytes, tuple[float, Reply]] = OrderedDict()
        self._repeat_keys: dict[int, bytes] = {}  # by local index
        self._counts: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()

    def stats(self) -> HandshakeStats:
        """A snapshot of the counters."""
        return HandshakeStats(
            replies=self._counts["replies"],
            repeats=self._counts["repeats"],
            cookies=self._counts["cookies"],
            drops=dict(self._drops),
            repeats_evicted=self._counts["evicted"],
            sources_evicted=self._sources.evicted,
        )

    def receive_init(
        self,
        data: _Bytes,
        source: bytes | None,
        now: float,
        *,
        relay: bytes | None = None,
        circuit: bytes | None = None,
    ) -> Reply | CookieReply | Drop:
        """What to do about an INIT; never raises for what is in it.

        :param source: where it came from, as :meth:`Address.pack` writes it, and where to send the
            answer; None when it came over a circuit, where there is no address to prove.
        :param relay: then, what tells the relay that it came over from others, if that is known,
        :param circuit: and the same for the circuit.
        """
        answer = self._receive(data, source, now, relay, circuit)
        if isinstance(answer, Drop):
            self._drops[answer.reason] += 1
        elif isinstance(answer, CookieReply):
            self._counts["cookies"] += 1
        else:
            self._counts["replies" if answer.fresh else "repeats"] += 1
        return answer

    def expire(self, now: float) -> None:
        """Forget answers, and the keys in them, that are past their time.  Each INIT does so."""
        while self._repeats:
            key, (when, reply) = next(iter(self._repeats.items()))
            if now - when < self._limits.repeat_lifetime:
                break
            self._forget(key, reply)

    def forget(self, local_index: int) -> None:
        """Forget the answer that set up *local_index*: its session is gone, and a repeated INIT
        should get a new one.
        """
        key = self._repeat_keys.get(local_index)
        if key is not None:
            self._forget(key, self._repeats[key][1])

    def _forget(self, key: bytes, reply: Reply) -> None:
        del self._repeats[key]
        del self._repeat_keys[reply.established.local_index]

    def _receive(
        self, data: _Bytes, source: bytes | None, now: float, relay: bytes | None, circuit: bytes | None
    ) -> Reply | CookieReply | Drop:
        if len(data) != INIT_SIZE:
            return Drop("length")
        packet = bytes(data)
        if packet[:4] != _INIT_START:
            return Drop("header")
        mac1 = packet[_MAC1:_MAC2]
        if not hmac.compare_digest(mac(self._mac1_key, packet[:_MAC1]), mac1):
            return Drop("mac1")
        self.expire(now)
        key = packet[4 : _INIT_HEADER + KEY_SIZE] + mac1
        if key in self._repeats:
            return self._repeats[key][1]
        refusal = (
            self._admit_untrusted(packet, source, now)
            if source is not None
            else self._admit_from_circuit(relay, circuit, now)
        )
        if refusal is not None:
            return refusal
        answer = self._answer(packet)
        if isinstance(answer, Reply):
            self._remember(key, answer, now)
        return answer

    def _remember(self, key: bytes, reply: Reply, now: float) -> None:
        if self._limits.max_repeats == 0:
            return
        # An index in use again means that its old session is gone.
        self.forget(reply.established.local_index)
        if len(self._repeats) >= self._limits.max_repeats:
            oldest = next(iter(self._repeats))
            self._forget(oldest, self._repeats[oldest][1])
            self._counts["evicted"] += 1
        self._repeats[key] = now, attrs.evolve(reply, fresh=False)
        self._repeat_keys[reply.established.local_index] = key

    def _admit_from_circuit(self, relay: bytes | None, circuit: bytes | None, now: float) -> Drop | None:
        """The same for an INIT that came over a circuit.  The narrowest limit goes first: what it
        holds back costs nobody else anything.
        """
        if circuit is not None and not self._each_circuit.take(circuit, now):
            return Drop("rate-limited")
        if relay is not None and not self._each_relay.take(relay, now):
            return Drop("rate-limited")
        return None if self._circuits.take(now) else Drop("busy")

    def _admit_untrusted(self, packet: bytes, source: bytes, now: float) -> CookieReply | Drop | None:
        """None if the INIT may cost key operations.

        As in WireGuard, the limit of a source is charged for proven addresses only: else whoever
        forges a source could use up somebody else's.
        """
        if self._open.take(now):
            return None
        mac2 = packet[_MAC2:]
        if not self._secrets.check_untrusted(mac2, packet[:_MAC2], source, now):
            sealed = seal_cookie(
                self._cookie_key,
                self._secrets.make(source, now),
                packet[_MAC1:_MAC2],
                _U32.unpack_from(packet, 4)[0],
                self._random_bytes(24),
            )
            return CookieReply(sealed)
        if not self._sources.take(source_prefix(source), now):
            return Drop("rate-limited")
        return None if self._proven.take(now) else Drop("busy")

    def _answer(self, packet: bytes) -> Reply | Drop:
        noise = self._noise.fork()
        try:
            payload = noise.read_message(packet[_INIT_HEADER:_MAC1])
        except NoiseError:
            return Drop("noise")
        header = packet[:_INIT_HEADER]
        claimed, target = payload[8:40], payload[40:72]
        if payload[:_INIT_HEADER] != header or target != bytes(self._peer_id):
            return Drop("payload")
        end = _HELLO + int.from_bytes(payload[72:_HELLO], "little")
        if end > _HELLO + MAX_HELLO or payload.count(0, end) != len(payload) - end:
            return Drop("payload")
        peer_id = PeerId(claimed)
        try:
            proven = peer_id.x25519 == noise.remote_static
        except AddressError:
            proven = False
        if not proven or peer_id == self._peer_id:
            return Drop("identity")

        # Checked before an index is taken, so that a caller's mistake leaks none.
        hello = _check_hello(self._hello())
        index = self._allocate_index()
        if index is None:
            return Drop("full")
        remote_index = _U32.unpack_from(packet, 4)[0]
        start = _RESPONSE_START + _U32_U32.pack(index, remote_index)
        # Cannot fail: reading has refused all keys that make a Diffie-Hellman degenerate.
        body = start + noise.write_message(start + hello)
        response = body + mac(mac1_key(claimed, self._network_key), body)
        established = _establish(
            noise,
            peer_id,
            initiator=False,
            local_index=index,
            remote_index=remote_index,
            hello=payload[_HELLO:end],
        )
        return Reply(response, established, fresh=True)
