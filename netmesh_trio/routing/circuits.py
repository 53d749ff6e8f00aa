"""Circuits: how a node carries packets between two neighbors that it cannot read.

A circuit is a chain of *legs*, each between two nodes with a session.  Who asks for a leg draws its
8-byte id at random and sends :class:`OpenCircuit` inside the session; the id then stands in front
of every packet on that leg, in both directions.  A relay holds one :class:`Leg` for either side and
only rewrites the id:

    asker --- id 1 --- relay --- id 2 --- relay --- id 3 --- target

The first end-to-end packet (as a rule the first handshake message) rides in the request, so a
circuit costs no round trip of its own.  Messages are CBOR arrays in subprotocol 0x0E00, the first
item being the kind:

    OpenCircuit     [1, id (8 bytes), target (32 bytes), hops left (1 to 8), packet (to 1048 bytes)]
    CircuitRefused  [2, id (8 bytes), reason (text)]
    CloseCircuit    [3, id (8 bytes)]
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal

import attrs

from netmesh_trio.buckets import TokenBucket
from netmesh_trio.identity import PeerId
from netmesh_trio.routing.shares import Places
from netmesh_trio.wire.control import (
    decode_cbor_untrusted,
    encode_cbor,
    expect_bytes,
    expect_int,
    expect_list,
    expect_str,
)
from netmesh_trio.wire.errors import DecodeError
from netmesh_trio.wire.frames import CONTROL_MAX_PAYLOAD

__all__ = [
    "CIRCUIT_ID_SIZE",
    "MAX_FIRST_PACKET",
    "MAX_HOPS",
    "CircuitMessage",
    "CircuitRefused",
    "CloseCircuit",
    "Leg",
    "OpenCircuit",
    "Opened",
    "RefusalReason",
    "RelayLimits",
    "RelayPolicy",
    "RelayStats",
    "RelayTable",
    "decode_circuit_message_untrusted",
]

CIRCUIT_ID_SIZE = 8
"""Bytes of a circuit id."""

MAX_HOPS = 8
"""Most legs of one circuit."""

MAX_FIRST_PACKET = CONTROL_MAX_PAYLOAD - 52
"""Most bytes of the packet inside an :class:`OpenCircuit`, whose other fields take up to 49."""

RelayPolicy = Literal["off", "members", "any"]
"""For whom a node relays: nobody, members of its mesh at both ends of its legs, everybody."""

_OPEN, _REFUSED, _CLOSE = 1, 2, 3
_MAX_GONE = 4096


class RefusalReason(str, enum.Enum):
    """Why a circuit was refused or ended; the value is what is on the wire."""

    NOT_HERE = "not-here"
    """No session with the target and no route to it."""
    POLICY = "policy"
    """The relay does not relay, or not for these peers."""
    BUDGET = "budget"
    """A limit on circuits, or on requests per second, is reached; later it may work."""
    LOOP = "loop"
    """No hops left, or the way led back to who asked."""
    UNKNOWN_SESSION = "unknown-session"
    """The target does not know the session that the first packet belongs to: it has restarted."""
    COLLISION = "collision"
    """The id is in use; draw another."""


@attrs.frozen
class OpenCircuit:
    """Ask a neighbor to carry packets to *target*, or tell the target (then it names the receiver
    itself)."""

    circuit_id: bytes
    """Drawn at random by the sender of this message; used in both directions on this leg."""
    target: PeerId
    """Who the circuit is to end at."""
    hops_left: int
    """Legs that the circuit may still have, this one included: 1 to :data:`MAX_HOPS`."""
    packet: bytes
    """The first end-to-end packet, opaque to relays."""

    def encode(self) -> bytes:
        """The CBOR of this message; :class:`ValueError` if a field is out of range."""
        _check_id(self.circuit_id)
        if not 1 <= self.hops_left <= MAX_HOPS:
            raise ValueError(f"hops_left is {self.hops_left}; it must be from 1 to {MAX_HOPS}")
        if not 1 <= len(self.packet) <= MAX_FIRST_PACKET:
            raise ValueError(f"a first packet has 1 to {MAX_FIRST_PACKET} bytes")
        return encode_cbor([_OPEN, self.circuit_id, bytes(self.target), self.hops_left, self.packet])


@attrs.frozen
class CircuitRefused:
    """The answer to an :class:`OpenCircuit` that leads nowhere, from whichever hop found out."""

    circuit_id: bytes
    reason: RefusalReason

    def encode(self) -> bytes:
        """The CBOR of this message."""
        _check_id(self.circuit_id)
        return encode_cbor([_REFUSED, self.circuit_id, self.reason.value])


@attrs.frozen
class CloseCircuit:
    """A circuit is over; passed on from leg to leg, never answered."""

    circuit_id: bytes

    def encode(self) -> bytes:
        """The CBOR of this message."""
        _check_id(self.circuit_id)
        return encode_cbor([_CLOSE, self.circuit_id])


CircuitMessage = OpenCircuit | CircuitRefused | CloseCircuit


def decode_circuit_message_untrusted(data: bytes | bytearray | memoryview) -> CircuitMessage:
    """Read any message of the circuit subprotocol; any bytes give a message or
    :class:`DecodeError`."""
    fields = expect_list(decode_cbor_untrusted(data), 2, 5)
    kind = expect_int(fields[0], _OPEN, _CLOSE)
    circuit_id = expect_bytes(fields[1], CIRCUIT_ID_SIZE)
    if kind == _OPEN:
        expect_list(fields, 5)
        return OpenCircuit(
            circuit_id=circuit_id,
            target=PeerId(expect_bytes(fields[2], 32)),
            hops_left=expect_int(fields[3], 1, MAX_HOPS),
            packet=expect_bytes(fields[4], 1, MAX_FIRST_PACKET),
        )
    if kind == _REFUSED:
        expect_list(fields, 3)
        try:
            reason = RefusalReason(expect_str(fields[2], 1, 32))
        except ValueError as error:
            raise DecodeError("unknown reason of a refusal") from error
        return CircuitRefused(circuit_id, reason)
    expect_list(fields, 2)
    return CloseCircuit(circuit_id)


def _check_id(circuit_id: bytes) -> None:
    if len(circuit_id) != CIRCUIT_ID_SIZE:
        raise ValueError(f"a circuit id has {CIRCUIT_ID_SIZE} bytes")


def _positive(_instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} is {value}; it must be more than 0")


@attrs.frozen(kw_only=True)
class RelayLimits:
    """What a node spends on relaying.  Rates hold for each direction of each circuit."""

    max_circuits: int = attrs.field(default=4096, validator=_positive)
    """Circuits at once.  When there are so many, whoever has most of them makes room for others."""
    max_circuits_per_peer: int = attrs.field(default=64, validator=_positive)
    """Circuits at once that one neighbor asked for (those that end at it do not count)."""
    opens_per_second: float = attrs.field(default=8.0, validator=_positive)
    """Requests of one neighbor, repeats and refused ones included; it bounds the handshakes that
    reach others through us, and the work of finding the way."""
    burst_opens: float = attrs.field(default=64.0, validator=_positive)
    idle_timeout: float = attrs.field(default=120.0, validator=_positive)
    """Seconds without a packet in either direction after which a circuit is closed."""
    unanswered_timeout: float = attrs.field(default=20.0, validator=_positive)
    """Seconds after which a circuit is closed on which the target's side never spoke."""
    bytes_per_second: float = attrs.field(default=128 * 2.0**20, validator=_positive)
    burst_bytes: float = attrs.field(default=16 * 2.0**20, validator=attrs.validators.ge(2**16))
    """At least one batch as the kernel gives it (64 KiB), or none would ever pass."""
    packets_per_second: float = attrs.field(default=200_000.0, validator=_positive)
    burst_packets: float = attrs.field(default=20_000.0, validator=attrs.validators.ge(128))
    """At least one batch of packets."""


class Leg:
    """One side of a circuit at a relay: what comes in under :attr:`id` goes out on :attr:`twin`."""

    __slots__ = (
        "asked",
        "byte_tokens",
        "bytes",
        "dropped",
        "id",
        "last_used",
        "packet_tokens",
        "packets",
        "peer",
        "refilled",
        "route",
        "share",
        "target",
        "twin",
    )

    twin: Leg
    """The other side of the circuit; while it lasts."""

    def __init__(
        self,
        circuit_id: bytes,
        peer: PeerId,
        target: PeerId,
        asked: bool,
        limits: RelayLimits,
        now: float,
    ) -> None:
        self.id: bytes = circuit_id
        """The id on this leg, in both directions."""
        self.peer: PeerId = peer
        """The neighbor at the other end of this leg."""
        self.target: PeerId = target
        """Where the circuit is to end."""
        self.asked: bool = asked
        """Whether :attr:`peer` asked for the circuit (else we asked it)."""
        self.share: Hashable = None
        """Whom the circuit counts for, on the leg of who asked."""
        self.route: object = None
        """For the driver's own use, such as the session to send with; the table never looks at
        it."""
        self.last_used: float = now
        """When a packet last came in on this leg."""
        self.packets: int = 0
        """Packets that came in on this leg and were forwarded."""
        self.bytes: int = 0
        self.dropped: int = 0
        """Packets that came in on this leg over its budget."""
        self.byte_tokens: float = limits.burst_bytes
        self.packet_tokens: float = limits.burst_packets
        self.refilled: float = now

    def __repr__(self) -> str:
        return f"<Leg {self.id.hex()} of {self.peer!r} to {self.target!r}>"


@attrs.frozen
class Opened:
    """A circuit is in the table: send *onward* to *next_hop*."""

    leg: Leg
    """The asker's leg; its twin is the one to *next_hop*."""
    onward: OpenCircuit
    next_hop: PeerId
    fresh: bool
    """False for a repeated request: the circuit was there, and its first packet goes out again."""
    ended: tuple[Leg, ...] = ()
    """Both legs of a circuit that made room for this one, to tell both neighbors."""


@attrs.frozen(kw_only=True)
class RelayStats:
    """Counters of a :class:`RelayTable` at one moment; all but *circuits* only grow."""

    circuits: int
    """Open now."""
    opened: int
    reopened: int
    """Repeats of a request whose circuit was already open."""
    closed: int
    """Ended by either side, by a refusal further on, or with a neighbor's session."""
    expired: int
    """Ended because nothing was sent."""
    displaced: int
    """Ended to make room for those of somebody who had fewer."""
    refused: Mapping[str, int]
    """By :class:`RefusalReason`, every reason present."""
    forwarded_packets: int
    forwarded_bytes: int
    dropped_unknown: int
    """Packets under an id that is not, or no longer, in the table."""
    dropped_over_budget: int


class _Neighbor:
    """What the table keeps for a neighbor: its legs, and the budget of its requests."""

    __slots__ = ("asked", "legs", "opens")

    def __init__(self, limits: RelayLimits) -> None:
        self.legs: dict[bytes, Leg] = {}
        self.asked = 0
        self.opens = TokenBucket(limits.opens_per_second, limits.burst_opens)


class RelayTable:
    """All circuits that run through one node.  It neither sends nor draws ids' randomness nor reads
    a clock.

    *is_member* is asked about both neighbors of a circuit when *policy* is ``"members"``: in a
    private mesh everyone with a session is a member, elsewhere those whom the configuration names.
    """

    def __init__(
        self,
        *,
        policy: RelayPolicy,
        is_member: Callable[[PeerId], bool],
        limits: RelayLimits | None = None,
    ) -> None:
        self.policy: RelayPolicy = policy
        self.limits: RelayLimits = RelayLimits() if limits is None else limits
        self._is_member = is_member
        self._legs: dict[bytes, Leg] = {}
        self._neighbors: dict[PeerId, _Neighbor] = {}
        # neighbors whose session is gone, the first to go first: until their budgets are full again
        self._gone: dict[PeerId, None] = {}
        # the legs of those who asked, by whom they count for
        self._places: Places[Hashable, Leg] = Places()
        self._opened = 0
        self._reopened = 0
        self._closed = 0
        self._expired = 0
        self._displaced = 0
        self._refused = {reason.value: 0 for reason in RefusalReason}
        self._forwarded_packets = 0
        self._forwarded_bytes = 0
        self._dropped_unknown = 0
        self._dropped_over_budget = 0

    def __len__(self) -> int:
        """Circuits open now."""
        return len(self._legs) // 2

    def __contains__(self, circuit_id: object) -> bool:
        return circuit_id in self._legs

    def serves(self, peer: PeerId) -> bool:
        """Whether a circuit runs through *peer*, whoever asked for it."""
        neighbor = self._neighbors.get(peer)
        return neighbor is not None and bool(neighbor.legs)

    def may_ask(self, asker: PeerId) -> bool:
        """Whether the policy lets *asker* open circuits at all."""
        if self.policy == "members":
            return self._is_member(asker)
        return self.policy == "any"

    def open(
        self,
        request: OpenCircuit,
        asker: PeerId,
        find_next_hop: Callable[[], PeerId | None],
        random_bytes: Callable[[int], bytes],
        now: float,
        share: Hashable = None,
    ) -> Opened | CircuitRefused:
        """Enter the circuit that *asker* requested, to be continued to what *find_next_hop* says
        (None: no way is known).  It is asked last: to look for a way may take long, and whatever
        comes of a request has been charged by then.

        The circuit counts for *share*, by default the asker's own: name all askers alike that may
        be one and the same.  When the table is full, an idle circuit of whoever has most ends, if
        that one still has as many afterwards: else the two would take it from each other for ever.

        A request for ourselves must not come here.  Repeating a request (its first packet may have
        been lost) changes nothing and gives the same *onward* again, to the hop chosen the first
        time.
        """
        if not self.may_ask(asker):
            return self._refuse(request, RefusalReason.POLICY)
        neighbor = self._neighbor(asker)
        if not neighbor.opens.take(now):
            return self._refuse(request, RefusalReason.BUDGET)
        known = self._legs.get(request.circuit_id)
        if known is not None and not (known.asked and known.peer == asker and known.target == request.target):
            return self._refuse(request, RefusalReason.COLLISION)
        if request.hops_left <= 1 or request.target == asker:
            return self._refuse(request, RefusalReason.LOOP)
        if known is not None:
            self._reopened += 1
            return self._onward(known, request, fresh=False)
        next_hop = find_next_hop()
        if next_hop is None:
            return self._refuse(request, RefusalReason.NOT_HERE)
        if next_hop == asker:
            return self._refuse(request, RefusalReason.LOOP)
        if self.policy == "members" and not self._is_member(next_hop):
            return self._refuse(request, RefusalReason.POLICY)
        if share is None:
            share = asker
        full = len(self) >= self.limits.max_circuits
        if neighbor.asked >= self.limits.max_circuits_per_peer or (full and not self._places.may_displace(share)):
            return self._refuse(request, RefusalReason.BUDGET)
        out_id = random_bytes(CIRCUIT_ID_SIZE)
        if out_id in self._legs or out_id == request.circuit_id:
            return self._refuse(request, RefusalReason.COLLISION)  # 1 in 2**51: not worth a loop

        ended = self._make_room() if full else ()
        leg = Leg(request.circuit_id, asker, request.target, True, self.limits, now)
        leg.twin = Leg(out_id, next_hop, request.target, False, self.limits, now)
        leg.twin.twin = leg
        self._legs[leg.id] = neighbor.legs[leg.id] = leg
        self._legs[out_id] = self._neighbor(next_hop).legs[out_id] = leg.twin
        neighbor.asked += 1
        leg.share = share
        self._places.add(share, leg)
        self._opened += 1
        return self._onward(leg, request, fresh=True, ended=ended)

    def forward(self, circuit_id: bytes, nbytes: int, npackets: int, now: float) -> Leg | None:
        """Account for packets that came in under *circuit_id*; where to send them, or None to drop
        them.

        The leg returned is the outgoing one: send to its ``peer``, under its ``id``.  Several
        packets under one id may be forwarded as one batch; it passes or is dropped as a whole.
        *nbytes* counts the inner packets.
        """
        leg = self._legs.get(circuit_id)
        if leg is None:
            self._dropped_unknown += npackets
            return None
        # TokenBucket.take for bytes and for packets, in line: this is the one hot path here.
        limits = self.limits
        elapsed = now - leg.refilled
        if elapsed > 0.0:
            leg.refilled = now
            tokens = leg.byte_tokens + elapsed * limits.bytes_per_second
            leg.byte_tokens = tokens if tokens < limits.burst_bytes else limits.burst_bytes
            tokens = leg.packet_tokens + elapsed * limits.packets_per_second
            leg.packet_tokens = tokens if tokens < limits.burst_packets else limits.burst_packets
        if nbytes > leg.byte_tokens or npackets > leg.packet_tokens:
            leg.dropped += npackets
            self._dropped_over_budget += npackets
            return None
        leg.byte_tokens -= nbytes
        leg.packet_tokens -= npackets
        leg.last_used = now
        leg.packets += npackets
        leg.bytes += nbytes
        self._forwarded_packets += npackets
        self._forwarded_bytes += nbytes
        return leg.twin

    def close(self, circuit_id: bytes, peer: PeerId) -> Leg | None:
        """End the circuit because *peer* sent :class:`CloseCircuit` or :class:`CircuitRefused` for
        its leg.

        Returns the leg at the other side, to whose ``peer`` the message goes on under that leg's
        ``id``; None if the id is unknown, or is not *peer*'s: nobody closes a circuit that is not
        his.
        """
        leg = self._legs.get(circuit_id)
        if leg is None or leg.peer != peer:
            return None
        self._remove(leg)
        self._closed += 1
        return leg.twin

    def close_for_peer(self, peer: PeerId) -> list[Leg]:
        """End all circuits of a neighbor whose session is gone; returns the legs of the others to
        be told.

        What it has spent of its budget of requests is remembered until that is full again:
        coming back buys nobody a new one.
        """
        neighbor = self._neighbors.get(peer)
        if neighbor is None:
            return []
        others: list[Leg] = []
        for leg in list(neighbor.legs.values()):
            self._remove(leg)
            self._closed += 1
            others.append(leg.twin)
        self._gone.pop(peer, None)
        self._gone[peer] = None
        if len(self._gone) > _MAX_GONE:
            forgotten = next(iter(self._gone))
            del self._gone[forgotten]
            if not self._neighbors[forgotten].legs:
                del self._neighbors[forgotten]
        return others

    def expire(self, now: float) -> list[Leg]:
        """End the circuits that carried nothing for too long; returns both legs of each, to tell
        both neighbors.  To be called every few seconds."""
        ended: list[Leg] = []
        for leg in list(self._legs.values()):
            if not leg.asked:
                continue
            if self._deadline(leg) <= now:
                self._remove(leg)
                self._expired += 1
                ended += (leg, leg.twin)
        for peer, neighbor in list(self._neighbors.items()):
            if not neighbor.legs and neighbor.opens.is_full(now):
                del self._neighbors[peer]
                self._gone.pop(peer, None)
        return ended

    def stats(self) -> RelayStats:
        """A snapshot of the counters."""
        return RelayStats(
            circuits=len(self),
            opened=self._opened,
            reopened=self._reopened,
            closed=self._closed,
            expired=self._expired,
            displaced=self._displaced,
            refused=dict(self._refused),
            forwarded_packets=self._forwarded_packets,
            forwarded_bytes=self._forwarded_bytes,
            dropped_unknown=self._dropped_unknown,
            dropped_over_budget=self._dropped_over_budget,
        )

    def _deadline(self, asked: Leg) -> float:
        if asked.twin.packets:
            return max(asked.last_used, asked.twin.last_used) + self.limits.idle_timeout
        # What the asker sends does not keep a circuit on which nobody answers.
        return asked.twin.last_used + min(self.limits.unanswered_timeout, self.limits.idle_timeout)

    def _make_room(self) -> tuple[Leg, Leg]:
        """End the idlest circuit of whoever has most."""
        idlest = self._places.idlest(lambda leg: max(leg.last_used, leg.twin.last_used))
        self._remove(idlest)
        self._displaced += 1
        return idlest, idlest.twin

    def _onward(self, leg: Leg, request: OpenCircuit, fresh: bool, ended: tuple[Leg, ...] = ()) -> Opened:
        onward = OpenCircuit(leg.twin.id, request.target, request.hops_left - 1, request.packet)
        return Opened(leg, onward, leg.twin.peer, fresh, ended)

    def _refuse(self, request: OpenCircuit, reason: RefusalReason) -> CircuitRefused:
        self._refused[reason.value] += 1
        return CircuitRefused(request.circuit_id, reason)

    def _neighbor(self, peer: PeerId) -> _Neighbor:
        neighbor = self._neighbors.get(peer)
        if neighbor is None:
            neighbor = self._neighbors[peer] = _Neighbor(self.limits)
        return neighbor

    def _remove(self, leg: Leg) -> None:
        for side in (leg, leg.twin):
            del self._legs[side.id]
            neighbor = self._neighbors[side.peer]
            del neighbor.legs[side.id]
            neighbor.asked -= side.asked
            if side.asked:
                self._places.remove(side.share, side)
        del leg.twin.twin  # two that name each other would wait for the garbage collector
