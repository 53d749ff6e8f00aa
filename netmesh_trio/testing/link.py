"""Links: delay, jitter, loss, reordering, duplication, rate with a bounded queue, and MTU.

Each host and each NAT hangs on one link.  It has two directions with settings of their own; setting
something on the link itself sets both.  All can be changed at any time and hold for what is sent
after.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, overload

import attrs

from netmesh_trio.testing.fabric import Fabric
from netmesh_trio.testing.packets import Train, header_size

__all__ = ["Link", "LinkDirection", "LinkSettings", "LinkStats"]

T = TypeVar("T")

DEFAULT_QUEUE: Final = 256 * 1024
DEFAULT_MTU: Final = 1500


def _not_negative(_instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name} is {value}: it must not be negative")


def _probability(_instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} is {value}: it must be from 0 to 1")


@attrs.define(kw_only=True, eq=False)
class LinkSettings:
    """What a link does to packets, in one direction.  Checked also when changed: ValueError."""

    delay: float = attrs.field(default=0.0, validator=_not_negative)
    """Seconds, one way."""

    jitter: float = attrs.field(default=0.0, validator=_not_negative)
    """Up to so many seconds more, drawn evenly for each send.  Order is kept."""

    loss: float = attrs.field(default=0.0, validator=_probability)
    """Probability, 0 to 1, that a datagram is lost; drawn for each one."""

    duplicate: float = attrs.field(default=0.0, validator=_probability)
    """Probability that a datagram arrives twice."""

    reorder: float = attrs.field(default=0.0, validator=_probability)
    """Probability that a datagram is held back, so that later ones overtake it."""

    reorder_delay: float = attrs.field(default=0.01, validator=_not_negative)
    """Seconds by which it is held back."""

    rate: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    """Bytes a second, IP and UDP headers included; None for no limit."""

    queue: int = attrs.field(default=DEFAULT_QUEUE, validator=_not_negative)
    """Bytes, headers included, that wait for a link with a rate; what comes on top is dropped."""

    mtu: int = attrs.field(default=DEFAULT_MTU, validator=attrs.validators.ge(68))
    """Bytes of the largest IP packet; larger ones vanish (no ICMP comes back)."""

    down: bool = False
    """True: nothing gets through, nor does what is under way."""


@attrs.frozen
class LinkStats:
    """Datagrams in one direction of a link, by what became of them."""

    passed: int
    passed_bytes: int
    """Payload and headers of those."""

    lost: int
    queue_drops: int
    mtu_drops: int
    down_drops: int
    duplicated: int
    reordered: int


class _Books:
    """What changes with each packet: not in the attrs class, whose every assignment is checked."""

    __slots__ = (
        "busy_until",
        "down_drops",
        "duplicated",
        "last_arrival",
        "lost",
        "mtu_drops",
        "passed",
        "passed_bytes",
        "queue_drops",
        "reordered",
    )

    def __init__(self) -> None:
        self.busy_until = self.last_arrival = -math.inf
        self.passed = self.passed_bytes = self.lost = self.queue_drops = 0
        self.mtu_drops = self.down_drops = self.duplicated = self.reordered = 0


@attrs.define(kw_only=True, eq=False)
class LinkDirection(LinkSettings):
    """One direction of a :class:`Link`: its settings, to be changed at will, and its counters."""

    _name: str = attrs.field(alias="name")
    _fabric: Fabric = attrs.field(alias="fabric")
    _deliver: Callable[[Train], None] = attrs.field(alias="deliver")
    _random: Callable[[], float] = attrs.field(init=False)
    _order: int = attrs.field(init=False)
    _books: _Books = attrs.field(init=False, factory=_Books)

    def __attrs_post_init__(self) -> None:
        self._random = self._fabric.random(self._name).random
        self._order = self._fabric.schedule.new_order()

    def statistics(self) -> LinkStats:
        """The counters now."""
        books = self._books
        return LinkStats(
            passed=books.passed,
            passed_bytes=books.passed_bytes,
            lost=books.lost,
            queue_drops=books.queue_drops,
            mtu_drops=books.mtu_drops,
            down_drops=books.down_drops,
            duplicated=books.duplicated,
            reordered=books.reordered,
        )

    @property
    def queued(self) -> float:
        """Bytes now waiting for a link with a rate."""
        if self.rate is None:
            return 0.0
        return max(0.0, (self._books.busy_until - self._fabric.schedule.now()) * self.rate)

    def send(self, train: Train) -> None:
        """Take what enters the link now."""
        if self.down:
            self._books.down_drops += train.count
            self._fabric.record("down", self._name, train)
            return
        if train.segment_size + header_size(train.destination) > self.mtu:
            fitting = self._drop_oversized(train)
            if fitting is None:
                return
            train = fitting
        now = self._fabric.schedule.now()
        if self.rate is None:
            self._propagate(train, now)
            return
        # One by one: each leaves when the last of its bytes has.
        together: list[bytes] = []
        since = -math.inf
        for payload in train.segments():
            departure = self._enqueue(train.of(payload), now, self.rate)
            if departure is None:
                continue
            if together and departure > since:
                self._propagate(train.of(b"".join(together)), since)
                together.clear()
            together.append(payload)
            since = departure
        if together:
            self._propagate(train.of(b"".join(together)), since)

    def _drop_oversized(self, train: Train) -> Train | None:
        """Only the last datagram of a train can be small enough when the others are not."""
        limit = self.mtu - header_size(train.destination)
        payloads = train.segments()
        fitting = [payload for payload in payloads if len(payload) <= limit]
        dropped = len(payloads) - len(fitting)
        if dropped:
            self._books.mtu_drops += dropped
            self._fabric.record("too-big", self._name, train)
        return train.of(fitting[-1]) if fitting else None

    def _enqueue(self, train: Train, now: float, rate: float) -> float | None:
        """When the train has left the queue; None if there was no room."""
        start = max(now, self._books.busy_until)
        waiting = (start - now) * rate
        # An idle link takes any packet: what it is sending is not in the queue.
        if waiting > 0 and waiting + train.wire_size > self.queue:
            self._books.queue_drops += train.count
            self._fabric.record("queue", self._name, train)
            return None
        self._books.busy_until = end = start + train.wire_size / rate
        resolution = self._fabric.resolution
        return math.ceil(end / resolution) * resolution if resolution else end

    def _propagate(self, train: Train, departure: float) -> None:
        if self.loss:
            kept = self._lose(train)
            if kept is None:
                return
            train = kept
        if self.reorder or self.duplicate:
            for payload in train.segments():
                self._disorder(train.of(payload), departure)
        else:
            self._forward(train, self._arrival(departure))

    def _lose(self, train: Train) -> Train | None:
        draw, loss = self._random, self.loss
        if train.count == 1:
            if draw() >= loss:
                return train
            self._books.lost += 1
            self._fabric.record("lost", self._name, train)
            return None
        payloads = train.segments()
        kept = [payload for payload in payloads if draw() >= loss]
        lost = len(payloads) - len(kept)
        if not lost:
            return train
        self._books.lost += lost
        self._fabric.record("lost", self._name, train)
        # Still all of one size but the last.
        return train.of(b"".join(kept)) if kept else None

    def _disorder(self, train: Train, departure: float) -> None:
        arrival = self._arrival(departure)
        if self.duplicate and self._random() < self.duplicate:
            self._books.duplicated += 1
            self._forward(train.of(train.data), arrival)
        if self.reorder and self._random() < self.reorder:
            self._books.reordered += 1
            arrival += self.reorder_delay
        self._forward(train, arrival)

    def _arrival(self, departure: float) -> float:
        """After delay and jitter, and not before what was sent earlier."""
        arrival = departure + self.delay
        if self.jitter:
            arrival += self._random() * self.jitter
        if arrival < self._books.last_arrival:
            arrival = self._books.last_arrival
        self._books.last_arrival = arrival
        return arrival

    def _forward(self, train: Train, arrival: float) -> None:
        schedule = self._fabric.schedule
        if arrival <= schedule.now():
            self._arrive(train)
        else:
            schedule.push(arrival, self._order, self._arrive, train)

    def _arrive(self, train: Train) -> None:
        if self.down:
            self._books.down_drops += train.count
            self._fabric.record("down", self._name, train)
            return
        self._books.passed += train.count
        self._books.passed_bytes += train.wire_size
        self._deliver(train)


class _Both(Generic[T]):
    """A setting of both directions; reading gives that of the outbound one."""

    def __set_name__(self, owner: type[Link], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, link: None, owner: type[Link]) -> _Both[T]: ...
    @overload
    def __get__(self, link: Link, owner: type[Link]) -> T: ...
    def __get__(self, link: Link | None, owner: type[Link]) -> Any:
        return self if link is None else getattr(link.outbound, self._name)

    def __set__(self, link: Link, value: T) -> None:
        setattr(link.outbound, self._name, value)
        setattr(link.inbound, self._name, value)


class Link:
    """What a host or a NAT hangs on.

    ``outbound`` and ``inbound`` are its :class:`LinkDirection`; each name of :class:`LinkSettings`
    set on the link itself is set on both, so ``host.link.loss = 0.1`` loses a tenth of what comes
    and of what goes.
    """

    delay: _Both[float] = _Both()
    jitter: _Both[float] = _Both()
    loss: _Both[float] = _Both()
    duplicate: _Both[float] = _Both()
    reorder: _Both[float] = _Both()
    reorder_delay: _Both[float] = _Both()
    rate: _Both[float | None] = _Both()
    queue: _Both[int] = _Both()
    mtu: _Both[int] = _Both()
    down: _Both[bool] = _Both()

    def __init__(
        self,
        fabric: Fabric,
        name: str,
        settings: LinkSettings,
        deliver_outbound: Callable[[Train], None],
        deliver_inbound: Callable[[Train], None],
    ) -> None:
        self.name = name
        values = {field.name: getattr(settings, field.name) for field in attrs.fields(LinkSettings)}
        self.outbound: LinkDirection = LinkDirection(name=f"{name}>", fabric=fabric, deliver=deliver_outbound, **values)
        """From the host, or from behind the NAT, outward."""
        self.inbound: LinkDirection = LinkDirection(name=f">{name}", fabric=fabric, deliver=deliver_inbound, **values)
        """Toward the host, or into the NAT."""

    def __repr__(self) -> str:
        return f"<Link {self.name}, {self.outbound.delay * 1e3:g} ms{', down' if self.outbound.down else ''}>"
