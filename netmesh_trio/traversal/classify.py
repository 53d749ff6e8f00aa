"""What kind of NAT is this node behind, judged by the addresses at which its peers see it.

All that is decided here is decided from *observations*; nothing asks, sends or waits.  ``unknown`` means that too few
have come in, never that a shorter path is not worth trying, and no kind keeps anybody from communicating.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import attrs

from ..addresses import Address
from ..identity import PeerId

__all__ = [
    "Classifier",
    "LocalAddresses",
    "NatState",
    "NatType",
    "Observation",
    "classify",
    "relevant",
]


# Seconds within which the answers of one round of probes come in.
_ROUND = 10.0


class NatType(str, enum.Enum):
    """The coarse kind that a node announces.  Its value is what stands in the tag ``nat:...``."""

    OPEN = "open"
    """Others see the node at an address that is its own."""
    CONE = "cone"
    """All others see it at one and the same address, which is its NAT's."""
    SYMMETRIC = "symmetric"
    """Others see it at different addresses or ports: the mapping depends on the destination."""
    UNKNOWN = "unknown"
    """Not enough observations."""

    @property
    def tag(self) -> str:
        """The tag of an announcement: ``"nat:cone"``."""
        return f"nat:{self.value}"

    @classmethod
    def of_tags(cls, tags: Iterable[str]) -> NatType:
        """What the first such tag says; ``UNKNOWN`` without one."""
        for tag in tags:
            if tag.startswith("nat:"):
                try:
                    return cls(tag[4:])
                except ValueError:
                    continue
        return cls.UNKNOWN

    def __str__(self) -> str:
        return self.value


def _realm(address: Address) -> int:
    """How far away an address can mean the same host: on this host, this link, this site, anywhere."""
    if address.is_loopback:
        return 0
    if address.is_link_local:
        return 1
    return 2 if address.is_private else 3


@attrs.frozen
class Observation:
    """A peer's word on where it sees us."""

    observer: PeerId
    observer_address: Address
    """Where the observer is, as we see it: what our packets to it are addressed to."""
    reflex: Address
    at: float
    """When the answer came, seconds."""
    socket: int = 0
    """The number of the socket of ours that it is about."""
    realm: int = attrs.field(
        init=False,
        eq=False,
        repr=False,
        default=attrs.Factory(lambda self: _realm(self.observer_address), takes_self=True),
    )
    """How far away the observer's address can mean the same host: on this host 0, this link 1, this site 2, anywhere 3;
    told once, for each verdict asks."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.reflex.family


@attrs.frozen
class LocalAddresses:
    """Which addresses are really ours."""

    bound: tuple[Address, ...]
    """What each socket is bound to, by its number; the host may be a wildcard."""
    interfaces: frozenset[str] = frozenset()
    """The numeric addresses of the interfaces, without scopes."""

    def port(self, socket: int) -> int | None:
        """The port that a socket is bound to; None if there is no such socket."""
        return self.bound[socket].port if 0 <= socket < len(self.bound) else None

    def owns(self, address: Address, socket: int) -> bool:
        """Whether a packet to ``address`` arrives at the socket without any translation.

        The whole address counts: a router that keeps the port does not make its address ours.
        """
        if not 0 <= socket < len(self.bound):
            return False
        bound = self.bound[socket]
        if bound.port != address.port:
            return False
        if bound.is_unspecified:
            return address.host in self.interfaces
        return bound.host == address.host


def relevant(observations: Iterable[Observation], family: int) -> list[Observation]:
    """The observations that a verdict on one address family rests on, oldest first.

    A peer in the same network sees our private address: it stands on our side of the NAT, and must not make us
    ``open``.  So only the observers of the widest realm count (anywhere, this site, this link, this host).  Where
    several sockets are observed, it is the one with the most observers.
    """
    groups: dict[int, dict[PeerId, Observation]] = {}
    own = [o for o in observations if o.family == family]
    widest = max((o.realm for o in own), default=0)
    for observation in sorted(own, key=lambda o: o.at):
        if observation.realm == widest:
            group = groups.setdefault(observation.socket, {})
            group.pop(observation.observer, None)  # only the last word of each observer counts
            group[observation.observer] = observation
    if not groups:
        return []
    return list(groups[max(groups, key=lambda socket: (len(groups[socket]), -socket))].values())


def classify(observations: Iterable[Observation], local: LocalAddresses, family: int = 4) -> NatType:
    """The kind of NAT, for one address family.

    Of at least two observers at different addresses: any that sees an address of ours with the bound port, ``open``;
    all see the same, ``cone``; else ``symmetric``.  Fewer: ``unknown``.
    """
    judged = relevant(observations, family)
    if len({o.observer_address for o in judged}) < 2:
        return NatType.UNKNOWN
    if any(local.owns(o.reflex, o.socket) for o in judged):
        return NatType.OPEN
    if len({o.reflex for o in judged}) == 1:
        return NatType.CONE
    return NatType.SYMMETRIC


@attrs.frozen(kw_only=True)
class NatState:
    """What the node announces of its NAT."""

    nat_type: NatType = NatType.UNKNOWN
    """For IPv4, or as the override has it."""
    nat_type6: NatType = NatType.UNKNOWN
    """For IPv6."""
    reflex: Address | None = None
    """The IPv4 address that others see; of several, the one observed last, and of a symmetric NAT the one announced
    before while an observer still sees it.  Or the override."""
    reflex6: Address | None = None
    """The same for IPv6."""
    overridden: bool = False
    """Whether an override is in force, or a port mapping."""


class Classifier:
    """Gathers observations and says what follows from them.

    Each method that may change the result returns the new :class:`NatState` if it did, else None.  While observations
    are too few for a verdict, the last one holds, until all observations of the family are out of date, the local
    addresses change or :meth:`reset` is called: a single lost answer makes nobody ``unknown``.

    At most ``max_observers`` observers are kept; the one heard longest ago makes room.
    """

    __slots__ = (
        "_lifetime",
        "_local",
        "_mapped",
        "_max_observers",
        "_observations",
        "_override",
        "_seen",
        "_state",
        "_verdicts",
    )

    def __init__(
        self,
        local: LocalAddresses,
        *,
        lifetime: float = 900.0,
        override: Address | None = None,
        max_observers: int = 64,
    ) -> None:
        self._local = local
        self._lifetime = lifetime
        self._override = override
        self._mapped: dict[int, Address | None] = {4: None, 6: None}
        self._max_observers = max_observers
        # by observer, family and socket; oldest first
        self._observations: dict[tuple[PeerId, int, int], Observation] = {}
        self._verdicts = {4: NatType.UNKNOWN, 6: NatType.UNKNOWN}
        # of a symmetric NAT, what was announced last: each observation would else change it
        self._seen: dict[int, Address | None] = {4: None, 6: None}
        self._state = NatState()
        self._update()

    @property
    def state(self) -> NatState:
        """What to announce now."""
        return self._state

    @property
    def observed(self) -> NatState:
        """What the observations say, whether or not an override hides it."""
        return self._observed()

    @property
    def local(self) -> LocalAddresses:
        """The addresses that are ours."""
        return self._local

    @property
    def override(self) -> Address | None:
        """The address announced in place of what is observed."""
        return self._override

    @property
    def mapped(self) -> Address | None:
        """The outside address of the IPv4 port mapping, if there is one."""
        return self._mapped[4]

    @property
    def forwarded(self) -> tuple[Address, ...]:
        """Where others reach us by the word of the program or of a router, IPv4 first."""
        known = {**self._mapped}
        if self._override is not None:
            known[self._override.family] = self._override
        return tuple(address for address in known.values() if address is not None)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """All that is known, oldest first."""
        return tuple(self._observations.values())

    def observe(self, observation: Observation) -> NatState | None:
        """An observer answered.

        If it sees us elsewhere than it did before, what others told earlier about that socket is out of date (a
        router that restarted would else look symmetric), and is forgotten.
        """
        if not observation.reflex.is_unicast:
            return None
        key = (observation.observer, observation.family, observation.socket)
        before = self._observations.pop(key, None)
        if before is not None and before.reflex != observation.reflex:
            stale = observation.at - _ROUND
            for other in [k for k, o in self._observations.items() if k[1:] == key[1:] and o.at <= stale]:
                del self._observations[other]
        while len(self._observations) >= self._max_observers:
            del self._observations[next(iter(self._observations))]
        self._observations[key] = observation
        return self._update()

    def forget(self, observer: PeerId) -> NatState | None:
        """The session with an observer is over: its mapping need not be there any more."""
        for key in [k for k in self._observations if k[0] == observer]:
            del self._observations[key]
        return self._update()

    def expire(self, now: float) -> NatState | None:
        """Forget observations that are out of date."""
        for key in [k for k, o in self._observations.items() if now - o.at >= self._lifetime]:
            del self._observations[key]
        for family in (4, 6):
            if not any(k[1] == family for k in self._observations):
                self._verdicts[family] = NatType.UNKNOWN
        return self._update()

    def set_local(self, local: LocalAddresses) -> NatState | None:
        """The addresses of the interfaces or sockets changed; if so, begin anew."""
        if local == self._local:
            return None
        self._local = local
        return self.reset()

    def reset(self) -> NatState | None:
        """Forget everything that was observed: we are in another network."""
        self._observations.clear()
        self._verdicts = {4: NatType.UNKNOWN, 6: NatType.UNKNOWN}
        return self._update()

    def set_override(self, address: Address | None) -> NatState | None:
        """Announce ``address`` and ``open`` whatever is observed; None brings the observed state back."""
        self._override = address
        return self._update()

    def set_mapped(self, family: int, address: Address | None) -> NatState | None:
        """A router maps ``address`` to us, so that family is ``open`` there, or (None) no longer does.

        An override, which is the program's own word, goes before it.
        """
        self._mapped[family] = address
        return self._update()

    def _observed(self) -> NatState:
        observations = self.observations
        reflex: dict[int, Address | None] = {4: None, 6: None}
        for family in (4, 6):
            judged = relevant(observations, family)
            if judged:
                seen = self._seen[family]
                if self._verdicts[family] is NatType.SYMMETRIC and any(o.reflex == seen for o in judged):
                    reflex[family] = seen
                else:
                    reflex[family] = judged[-1].reflex
        return NatState(nat_type=self._verdicts[4], nat_type6=self._verdicts[6], reflex=reflex[4], reflex6=reflex[6])

    def _update(self) -> NatState | None:
        for family in (4, 6):
            verdict = classify(self.observations, self._local, family)
            if verdict is not NatType.UNKNOWN:
                self._verdicts[family] = verdict
        state = self._observed()
        for family, seen in ((4, state.reflex), (6, state.reflex6)):
            self._seen[family] = seen if self._verdicts[family] is NatType.SYMMETRIC else None
        if self._mapped[6] is not None:
            # the tag is about IPv4, unless there is nothing but IPv6
            alone = all(bound.family == 6 for bound in self._local.bound)
            state = attrs.evolve(
                state,
                nat_type=NatType.OPEN if alone else state.nat_type,
                nat_type6=NatType.OPEN,
                reflex6=self._mapped[6],
                overridden=True,
            )
        if self._mapped[4] is not None:
            state = attrs.evolve(state, nat_type=NatType.OPEN, reflex=self._mapped[4], overridden=True)
        if self._override is not None:
            if self._override.family == 4:
                state = attrs.evolve(state, nat_type=NatType.OPEN, reflex=self._override, overridden=True)
            else:
                state = attrs.evolve(
                    state, nat_type=NatType.OPEN, nat_type6=NatType.OPEN, reflex6=self._override, overridden=True
                )
        if state == self._state:
            return None
        self._state = state
        return state
