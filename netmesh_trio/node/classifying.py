"""The supervisor of classification: when peers are asked where they see us, and when the answer is announced.

One task per node.  Neighbors are asked at once when they appear; all of them again every ``classify_interval``, when
an answer differs from what is announced, when the local addresses change, and on request.  That one peer fails is no
reason: it says nothing about our NAT.  What the NAT lets in is tried afterwards and delays nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio

from ..addresses import Address
from ..events import NatChanged
from ..identity import PeerId
from ..paths.path import PathKey
from ..traversal.classify import LocalAddresses, NatState, NatType, Observation, relevant
from ..traversal.errors import TraversalError
from ..traversal.reflex import Help
from ..traversal.report import Dependence, FilterEvidence, NatReport, judge_filtering, report_of
from .bindings import Bindings
from .engine import COURTESY, Engine
from .reflexes import Reflexes

__all__ = ["Classifying"]

_MAX_OBSERVERS = 8
_POLL = 5.0
# Seconds between questions to a single neighbor, to notice a NAT that restarted; about those of a keep-alive.
_CHECK = 25.0
# A verdict is announced although answers are outstanding after so much more than the slowest round trip.
_GRACE = 0.05
# For so long a lone observation is not announced if nobody waits for it: a second one, and a verdict, are likely to
# follow at once.
_HOLD = 0.3
# Seconds after a round during which an answer that differs does not make us begin another.
_CALM = 5.0
_MAX_ASKS = 4
_MISSES = 2


@attrs.define(eq=False)
class _Round:
    """All observers are asked; several may wait for the same round."""

    done: trio.Event = attrs.field(factory=trio.Event)


class Classifying:
    """Keeps the node's :class:`NatState` true; what is announced is ``engine.nat_state``."""

    def __init__(self, engine: Engine, reflexes: Reflexes, announce: Callable[[], None]) -> None:
        self._engine = engine
        self._config = engine.config.traversal
        self._reflexes = reflexes
        self._announce = announce
        self._classifier = engine.classifier
        self._wake = trio.Event()
        self._met = False
        # where each neighbor was when it was asked last
        self._asked: dict[PeerId, PathKey] = {}
        self._pending = 0
        self._round: _Round | None = None
        self._next: _Round | None = None
        self._round_ended = -_CALM
        self._doubted = False
        self._doubted_at = -_CALM
        #: When the state was first found to differ from what is announced; None if it does not.
        self._dirty_since: float | None = None
        self._evidence = FilterEvidence()
        self._hairpin: bool | None = None
        # what the evidence is about: it is sought once for each
        self._examined: tuple[object, ...] | None = None
        self._examination: trio.Event | None = None
        self._examine = trio.Event()
        self._hairpin_tried = False
        #: How long the NAT remembers.
        self.bindings: Bindings = Bindings(engine, self._helpers, self._about_bindings)
        reflexes.bindings = self.bindings
        self._classifier.set_local(self._local_addresses())
        engine.nat_state = self._classifier.state

    # for the node

    @property
    def filtering(self) -> Dependence | None:
        """From whom the NAT lets packets in, if that was found out."""
        return judge_filtering(self._evidence)

    @property
    def report(self) -> NatReport:
        """All that is known."""
        return report_of(
            self._classifier,
            evidence=self._evidence,
            hairpin=self._hairpin,
            binding_survives=self.bindings.alive,
            binding_lifetime=self.bindings.gone,
        )

    def set_override(self, address: Address | None) -> None:
        """Announce this address in place of what is observed, or again what is observed."""
        self._classifier.set_override(address)
        self._publish()

    def set_mapped(self, family: int, address: Address | None) -> None:
        """A router maps this address to us, or none any more; announced at once, unless there is an override."""
        self._classifier.set_mapped(family, address)
        self._publish()

    async def reclassify(self, *, thorough: bool = False) -> NatType:
        """Ask all observers; returns the kind when they have answered, or after ``classify_deadline``.

        With ``thorough``, also wait until it is known what the NAT lets in, for as long again.
        """
        await trio.lowlevel.checkpoint()
        if self._config.enabled:
            # a round under way may rest on answers from before this call
            if self._next is None:
                self._next = _Round()
                self._wake.set()
            await self._next.done.wait()
            if thorough and self._examination is not None:
                with trio.move_on_after(self._config.classify_deadline):
                    await self._examination.wait()
        return self._engine.nat_state.nat_type

    def changed(self) -> None:
        """The neighbors may have changed."""
        self._met = True
        self._wake.set()

    def doubt(self, peer_id: PeerId) -> None:
        """The direct path to a peer fell silent: ask a neighbor whether it still sees us where it did, for the path may
        have gone with our old address.  The peer's own word counts no longer: it cannot be asked again."""
        if any(o.observer != peer_id for o in self._classifier.observations):
            self._classifier.forget(peer_id)
            self._asked.pop(peer_id, None)
        now = self._engine.now()
        if now >= self._doubted_at + _CALM:
            self._doubted_at = now
            self._doubted = True
            self._wake.set()

    def neighbor_gone(self, peer_id: PeerId) -> None:
        """The last session with a peer is over."""
        self._asked.pop(peer_id, None)
        # the last word of all stands until there is another: a relay that restarts changes nothing about our NAT
        if any(o.observer != peer_id for o in self._classifier.observations):
            self._classifier.forget(peer_id)
        self._wake.set()

    # the supervisor

    async def run(self) -> None:
        """Supervise for ever."""
        engine = self._engine
        checked = polled = engine.now()
        every = min(_CHECK, self._config.classify_interval)
        interval_ends = engine.now() + self._config.classify_interval
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                now = engine.now()
                if now >= polled + _POLL:
                    polled = now
                    self._poll_local()
                if now >= interval_ends:
                    interval_ends = now + self._config.classify_interval
                    self._next = self._next or _Round()
                if self._next is not None and self._round is None:
                    self._round, self._next = self._next, None
                    interval_ends = now + self._config.classify_interval
                    checked = now
                    nursery.start_soon(self._run_round, self._round)
                elif now >= checked + every or self._doubted:
                    self._doubted = False
                    checked = now
                    self._classifier.expire(now)
                    for peer_id, key in self._one_to_check():
                        self._asked[peer_id] = key
                        nursery.start_soon(self._ask, peer_id)
                for peer_id, key in self._newcomers():
                    self._asked[peer_id] = key
                    nursery.start_soon(self._ask, peer_id)
                at = self._settle(now)
                with trio.move_on_at(min(at, polled + _POLL, checked + every, interval_ends)):
                    await self._wake.wait()
                if self._met:
                    self._met = False
                    await trio.sleep(COURTESY)

    def _request_round(self) -> None:
        if self._next is None:
            self._next = _Round()
        self._wake.set()

    def _observers(self) -> dict[PeerId, PathKey]:
        """The neighbors to ask in a round: at most 8, at different and at public addresses first."""
        engine = self._engine
        found: list[tuple[bool, float, PeerId, PathKey, str]] = []
        for peer_id, rtt in engine.neighbors().items():
            live = engine.direct_session(peer_id)
            path = live.session.path if live is not None else None
            if path is None or path.address is None:
                continue
            try:
                self._reflexes.check_supported(peer_id)
            except TraversalError:
                continue
            address = path.address
            near = address.is_private or address.is_loopback or address.is_link_local
            found.append((near, rtt or 9.0, peer_id, path.key, address.host))
        found.sort(key=lambda f: f[:3])
        hosts: set[str] = set()
        again: list[tuple[PeerId, PathKey]] = []
        chosen: list[tuple[PeerId, PathKey]] = []
        for _, _, peer_id, key, host in found:
            (again if host in hosts else chosen).append((peer_id, key))
            hosts.add(host)
        return dict([*chosen, *again][:_MAX_OBSERVERS])

    def _newcomers(self) -> list[tuple[PeerId, PathKey]]:
        """Neighbors that are new or moved and whose word we want: while a node has few, or a restarted one's."""
        if len(self._asked) >= 4 * _MAX_OBSERVERS:
            return []
        return [(peer_id, key) for peer_id, key in self._observers().items() if self._asked.get(peer_id) != key]

    def _one_to_check(self) -> list[tuple[PeerId, PathKey]]:
        """The observer that was heard longest ago, or all who have not answered yet."""
        observers = self._observers()
        heard = [o.observer for o in self._classifier.observations if o.observer in observers]
        first = {heard[0]} if heard else set()
        return [(peer_id, key) for peer_id, key in observers.items() if peer_id in first or peer_id not in heard]

    async def _ask(self, peer_id: PeerId) -> None:
        self._pending += 1
        try:
            self.observe(await self._reflexes.probe(peer_id))
        except TraversalError:
            pass  # it does not matter who answers, as long as some do
        finally:
            self._pending -= 1
            self._wake.set()

    async def _run_round(self, this: _Round) -> None:
        try:
            with trio.move_on_after(self._config.classify_deadline):
                async with trio.open_nursery() as nursery:
                    for peer_id, key in self._observers().items():
                        self._asked[peer_id] = key
                        nursery.start_soon(self._ask, peer_id)
        finally:
            self._round_ended = self._engine.now()
            self._round = None
            self._wake.set()
        self._classifier.expire(self._engine.now())
        self._publish()
        if self._evidence_wanted() and not self._examining():
            self._examined = None  # helpers may have come
        self._start_examination()
        this.done.set()

    def observe(self, observation: Observation) -> None:
        """A peer says where it sees us."""
        classifier = self._classifier
        family, number = observation.family, observation.socket
        before = [o for o in classifier.observations if (o.family, o.socket) == (family, number)]
        mine = [o for o in before if o.observer == observation.observer]
        classifier.observe(observation)
        if self._round is not None or observation.at < self._round_ended + _CALM:
            return
        if mine:
            differs = mine[-1].reflex != observation.reflex
        else:
            # of one that was not asked before: under a symmetric NAT it is no news that everybody sees another port
            symmetric = classifier.observed.nat_type is NatType.SYMMETRIC and family == 4
            old = [o for o in before if o.at < observation.at - _CALM]
            differs = not symmetric and any(o.reflex != observation.reflex for o in old)
        if differs:
            self._request_round()

    # local addresses

    def _local_addresses(self) -> LocalAddresses:
        engine = self._engine
        bound = tuple(socket.address for socket in engine.sockets)
        families = {address.family for address in bound if address.is_unspecified}
        hosts = engine.network.interface_addresses() if families else []
        # link-local addresses come and go, and no peer sees us there
        known = [Address(host.partition("%")[0], 0) for host in hosts]
        return LocalAddresses(bound, frozenset(a.host for a in known if a.family in families and not a.is_link_local))

    def _poll_local(self) -> None:
        try:
            local = self._local_addresses()
        except OSError:
            return  # the system could not say; it will
        if local != self._classifier.local:
            self._classifier.set_local(local)
            self._asked.clear()
            self._evidence = FilterEvidence()
            self._hairpin = None
            self._hairpin_tried = False
            self._examined = None
            self._engine.on_network_changed()
            self._request_round()

    # announcing

    def _settle(self, now: float) -> float:
        """Announce what is found once enough answers are in; returns when to look again."""
        self.bindings.changed()
        if self._classifier.state == self._engine.nat_state:
            self._dirty_since = None
            if not self._pending and not self._round:
                self._start_examination()
            return float("inf")
        if self._dirty_since is None:
            self._dirty_since = now
        wait = 0.0
        if self._classifier.state.nat_type is NatType.UNKNOWN:
            if self._pending or self._round:
                wait = self._config.classify_deadline
            elif not self._in_demand():
                wait = _HOLD
        elif self._pending:
            rtts = [rtt for rtt in self._engine.neighbors().values() if rtt is not None]
            wait = max(rtts, default=0.0) + _GRACE
        if now < self._dirty_since + wait:
            return self._dirty_since + wait
        self._publish()
        if not self._pending:
            self._start_examination()
        return float("inf")

    def _in_demand(self) -> bool:
        """Whether a session runs over a relay, and all that a direct path lacks may be to know where we are."""
        return any(live.relayed for live in self._engine.all_live())

    def _publish(self) -> None:
        engine = self._engine
        old, new = engine.nat_state, self._classifier.state
        self._dirty_since = None
        if new == old:
            return
        engine.nat_state = new
        if (old.nat_type, _reflex(old)) != (new.nat_type, _reflex(new)):
            event = NatChanged(nat_type=new.nat_type, reflex_addr=_reflex(new))
            engine.log.info("NAT: %s", event)
            engine.events.emit(event)
            engine.on_network_changed()
        self._announce()

    # what the NAT lets in

    def _helpers(self) -> list[PeerId]:
        """Observers on the far side of the NAT that are connected now, the one heard last first."""
        neighbors = self._engine.neighbors()
        judged = relevant(self._classifier.observations, 4)
        return [o.observer for o in reversed(judged) if o.observer in neighbors]

    def _about(self) -> tuple[object, ...] | None:
        """The network that evidence is about: the outside host, and the addresses inside."""
        reflex = self._classifier.observed.reflex
        return None if reflex is None else (reflex.host, self._classifier.local)

    def _about_bindings(self) -> tuple[object, ...] | None:
        """The network in which it is worth while to find out how long bindings live; None if there are none."""
        observed = self._classifier.observed
        if observed.nat_type is NatType.OPEN and self.filtering is Dependence.ENDPOINT_INDEPENDENT:
            return None
        return self._about()

    def _examining(self) -> bool:
        return self._examination is not None and not self._examination.is_set()

    def _start_examination(self) -> None:
        """Find out what the NAT lets in, if that is not known of this network and somebody can help."""
        about = self._about()
        if about is None or self._examining():
            return
        examined = about == self._examined
        if examined and (self._hairpin_tried or self._classifier.observed.nat_type is not NatType.CONE):
            return
        if not self._helpers():
            return
        self._examined = about
        self._examination = trio.Event()
        self._examine.set()

    async def run_examinations(self) -> None:
        """Find out what the NAT lets in whenever that is wanted, for ever."""
        while True:
            await self._examine.wait()
            self._examine = trio.Event()
            about = self._examined
            examination = self._examination
            evidence: dict[Help, bool | None] = {}
            hairpin: list[bool] = []
            async with trio.open_nursery() as nursery:
                for what in (Help.OTHER_PORT, Help.OTHER_PEER):
                    nursery.start_soon(self._try_canaries, what, evidence)
                nursery.start_soon(self._try_hairpin, hairpin)
            if about == self._about():
                self._evidence = FilterEvidence(
                    other_port=evidence.get(Help.OTHER_PORT), other_address=evidence.get(Help.OTHER_PEER)
                )
                if hairpin:
                    self._hairpin = hairpin[0]
            if examination is not None:
                examination.set()
            self._wake.set()

    async def _try_canaries(self, what: Help, evidence: dict[Help, bool | None]) -> None:
        """Ask helpers for canaries until one gets in, or some that were sent did not."""
        if not self._evidence_wanted():
            evidence[Help.OTHER_PORT] = self._evidence.other_port
            evidence[Help.OTHER_PEER] = self._evidence.other_address
            return
        misses = 0
        helpers = deque(self._helpers())
        for _ in range(_MAX_ASKS):
            if not helpers:
                return
            helper = helpers.popleft()
            try:
                result = await self._reflexes.ask_for_canary(helper, what)
            except TraversalError:
                continue
            if not result.done:
                continue
            helpers.append(helper)  # a single packet may get lost
            if result.source is None:
                misses += 1
                if misses >= _MISSES:
                    evidence.setdefault(what, False)
                    return
                continue
            proven = self._proves(result.source)
            if proven is not None:
                evidence[proven] = True
            if evidence.get(what):
                return

    def _evidence_wanted(self) -> bool:
        return self.filtering is None

    def _proves(self, source: Address) -> Help | None:
        """What it proves that a canary from there got in, which depends on where we have sent to."""
        engine = self._engine
        sent = {o.observer_address for o in self._classifier.observations}
        for live in engine.all_live():
            sent.update(path.address for path in live.session.paths.values() if path.address is not None)
        for dial in engine.handshakes.dialing.values():
            sent.update(key[1] for key in dial.asked if not isinstance(key, bytes))
        sent.update(engine.canary_targets)
        if source in sent:
            return None
        return Help.OTHER_PORT if any(a.host == source.host for a in sent) else Help.OTHER_PEER

    async def _try_hairpin(self, result: list[bool]) -> None:
        """Send to our own outside address, if at least two observers agree on it."""
        observed = self._classifier.observed
        judged = relevant(self._classifier.observations, 4)
        if observed.nat_type is NatType.CONE and observed.reflex is not None and judged:
            self._hairpin_tried = True
            result.append(await self._reflexes.hairpin(observed.reflex, judged[-1].socket))


def _reflex(state: NatState) -> Address | None:
    return state.reflex or state.reflex6
