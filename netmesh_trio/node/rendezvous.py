"""Rendezvous (subprotocol 0x0D01): coordinator and initiator of a punch, and what comes in for the responder.

Each attempt is one nursery: the keep-alive train, the wait for a direct path, and the deadline.  Leaving it, in
whatever way, leaves nothing behind but a path that works.  The traffic rides the relay all the while.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
import trio

from ..addresses import Address
from ..events import PathKind
from ..identity import PeerId
from ..paths.path import Path
from ..routing.announcements import TAG_NAT_TRAVERSAL
from ..routing.store import AnnouncementStore
from ..traversal.budgets import WindowBudget
from ..traversal.candidates import Interface, Surroundings, gather, select
from ..traversal.classify import NatType
from ..traversal.coordinator import Neighbor, choose_coordinator
from ..traversal.errors import (
    PeerNotReachableError,
    PunchFailedError,
    RendezvousNoRelayError,
    RendezvousRejectedError,
    TraversalError,
    UnsupportedError,
)
from ..traversal.guard import IntroduceGuard, Verdict
from ..traversal.matrix import PairHints, PunchAction, pair_action, refine
from ..traversal.mediation import Coordinator, Introduction, Seen
from ..traversal.rendezvous import (
    PUNCH_ID_SIZE,
    Candidate,
    Candidates,
    PunchIntroduce,
    PunchReject,
    PunchRequest,
    RejectReason,
    decode_rendezvous_message_untrusted,
)
from ..traversal.report import Dependence
from ..traversal.stats import TraversalStats
from ..wire import frames
from ..wire.errors import DecodeError
from .answering import Answering
from .engine import Engine
from .live import LiveSession
from .trains import run_train, until_direct

__all__ = ["Rendezvous"]

# An end waits so many round trips over the relay for the other's candidates, then goes by what was announced.
_PATIENCE = 3.0
_MIN_PATIENCE = 0.2
# Seconds that a coordinator has to answer.
_ANSWER_TIME = 2.0
_MAX_TOLD = 4096
_MAX_TARGETS = 8
# Times that one peer is told our candidates within so many seconds: it asks once an attempt.
_MAX_TELLINGS = 8
_TELLINGS_PERIOD = 10.0
# For so long what interfaces there are is not asked again, seconds: it takes a system call for each.
_INTERFACES_KEPT = 1.0


@attrs.define(eq=False)
class _Attempt:
    """An attempt of ours, and what came in for it."""

    punch_id: bytes
    live: LiveSession
    told: trio.Event = attrs.field(factory=trio.Event)
    answered: trio.Event = attrs.field(factory=trio.Event)
    introduction: PunchIntroduce | None = None
    rejection: RejectReason | None = None
    #: It was introduced and gave a direct path, which is counted.
    succeeded: bool = False
    #: The peer answers too many others just now.
    busy: bool = False
    #: Why it failed, if nothing better is known in the end.
    failure: TraversalError | None = None


class Rendezvous:
    """The rendezvous subprotocol of a node."""

    def __init__(
        self,
        engine: Engine,
        store: AnnouncementStore,
        stats: TraversalStats,
        nursery: trio.Nursery,
        filtering: Callable[[], Dependence | None],
    ) -> None:
        self._engine = engine
        self._filtering = filtering
        self._store = store
        self._stats = stats
        self._nursery = nursery
        self._config = engine.config.traversal
        self._messages = engine.open_handler(frames.SUBPROTOCOL_RENDEZVOUS)
        self._coordinator = Coordinator(max_lead=self._config.punch_fire_lead)
        self._guard = IntroduceGuard()
        self._attempts: dict[bytes, _Attempt] = {}
        # what peers told us inside their sessions
        self._told: dict[PeerId, Candidates] = {}
        self._answering = Answering(engine, stats)
        self._tellings: WindowBudget[PeerId] = WindowBudget(_MAX_TELLINGS, _TELLINGS_PERIOD)
        self._interfaces_known: list[Interface] = []
        self._interfaces_until = -1.0
        self._random_below: Callable[[int], int] = random.SystemRandom().randrange

    # messages

    async def run(self) -> None:
        """Handle messages for ever."""
        async with self._messages:
            async for control in self._messages:
                live = control.live
                if live.session.closed is not None or not self._takes_part:
                    continue
                try:
                    message = decode_rendezvous_message_untrusted(control.payload)
                except DecodeError:
                    self._engine.counters.invalid_control += 1
                    continue
                if isinstance(message, PunchRequest):
                    self._on_request(live, message)
                elif isinstance(message, PunchIntroduce):
                    self._on_introduce(live, message)
                elif isinstance(message, PunchReject):
                    self._on_reject(live, message)
                elif isinstance(message, Candidates):
                    self._on_candidates(live, message)
                # a PunchAck asks for nothing: who sent the request sees the answered probe itself

    @property
    def _takes_part(self) -> bool:
        return self._config.enabled and self._engine.config.direct

    def _send(self, live: LiveSession, payload: bytes) -> None:
        self._engine.send_control(live, frames.SUBPROTOCOL_RENDEZVOUS, payload)

    def _on_request(self, live: LiveSession, request: PunchRequest) -> None:
        """Somebody wants to be introduced: we are the coordinator."""
        outcome = self._coordinator.on_request(request, live.peer.peer_id, self._seen, self._engine.now())
        if isinstance(outcome, Introduction):
            target = self._engine.direct_session(request.target)
            if target is not None:
                self._send(target, outcome.to_target.encode())
                self._send(live, outcome.to_requester.encode())
        else:
            self._send(live, outcome.encode())

    def _seen(self, peer_id: PeerId) -> Seen | None:
        peer = self._engine.peers.get(peer_id)
        path = peer.live.session.path if peer is not None and peer.live is not None else None
        if path is None:
            return None
        known = self._store.get(peer_id)
        announced = None
        if known is not None and path.address is not None:
            announced = known.reflex6 if path.address.family == 6 else known.reflex
        return Seen(
            observed=path.address,
            announced=announced,
            rtt=path.rtt.smoothed if path.rtt.samples else None,
            takes_part=known is not None and TAG_NAT_TRAVERSAL in known.tags,
        )

    def _on_introduce(self, live: LiveSession, message: PunchIntroduce) -> None:
        expected = not message.initiator and self._answering.expects(message.peer, message.punch_id)
        verdict = self._guard.on_introduce(
            message, live.peer.peer_id, self._known_hosts(message.peer), self._engine.now(), expected=expected
        )
        if verdict is not Verdict.ACCEPTED:
            self._stats.record_introduction_dropped()
            return
        attempt = self._attempts.get(message.punch_id)
        if not message.initiator:
            self._nursery.start_soon(self._answer_introduction, message, expected)
        elif attempt is not None:
            attempt.introduction = message
            self._stats.record_punch_attempt()
            attempt.answered.set()

    async def _answer_introduction(self, message: PunchIntroduce, expected: bool) -> None:
        """A coordinator introduced us to a peer that we have a session with: send at the same moment as it does."""
        try:
            live = self._engine.peer(message.peer).live
            if live is not None:
                await self._answering.on_introduction(live, message, expected=expected)
        finally:
            self._guard.finished(message.punch_id)

    def _on_reject(self, live: LiveSession, message: PunchReject) -> None:
        attempt = self._attempts.get(message.punch_id)
        if attempt is not None and attempt.live.peer.peer_id == live.peer.peer_id:
            attempt.busy = message.reason is RejectReason.BUSY
            return
        if self._guard.requests.take(message.punch_id, live.peer.peer_id) is not None and attempt is not None:
            attempt.rejection = message.reason
            attempt.answered.set()

    def _on_candidates(self, live: LiveSession, message: Candidates) -> None:
        peer_id = live.peer.peer_id
        while len(self._told) >= _MAX_TOLD:
            del self._told[next(iter(self._told))]
        self._told.pop(peer_id, None)
        self._told[peer_id] = message
        if message.reply_wanted and self._tellings.take(peer_id, self._engine.now()):
            reply = Candidates(message.punch_id, self._candidates(), filtering=self._filtering())
            self._send(live, reply.encode())
        attempt = None if message.punch_id is None else self._attempts.get(message.punch_id)
        if attempt is not None:
            attempt.told.set()
            return
        # the other end tries: it needs our packets as much as we need its own
        # what each told lets both see alike whether there is a chance
        possible = message.speak_first or self._action(peer_id) is not PunchAction.SKIP
        targets = self._targets(peer_id) if possible else []
        if targets:
            if self._answering.admits(live, message):
                self._nursery.start_soon(self._answering.on_candidates, live, message.punch_id, targets)
        elif message.reply_wanted:  # else a late answer to an attempt of ours
            live.peer.failure = PunchFailedError(_why_skipped(*self._kinds(peer_id)))

    # what is known of either end

    def _interfaces(self) -> list[Interface]:
        now = self._engine.now()
        if now >= self._interfaces_until:
            self._interfaces_known = [Interface(host) for host in self._engine.network.interface_addresses()]
            self._interfaces_until = now + _INTERFACES_KEPT
        return self._interfaces_known

    def _bound(self) -> list[Address]:
        return [socket.address for socket in self._engine.sockets]

    def _reflexes(self) -> list[Address]:
        state = self._engine.nat_state
        return [reflex for reflex in (state.reflex, state.reflex6) if reflex is not None]

    def _reflex(self, family: int) -> Address | None:
        state = self._engine.nat_state
        return state.reflex6 if family == 6 else state.reflex

    def _candidates(self) -> tuple[Candidate, ...]:
        return gather(
            self._interfaces(), self._bound(), mapped=self._engine.classifier.mapped, reflexes=self._reflexes()
        )

    def _announced(self, peer_id: PeerId) -> list[Address]:
        known = self._store.get(peer_id)
        if known is None:
            return []
        return [reflex for reflex in (known.reflex, known.reflex6) if reflex is not None]

    def _known_hosts(self, peer_id: PeerId) -> set[str] | None:
        peer = self._engine.peers.get(peer_id)
        if peer is None or peer.live is None:
            return None
        told = self._told.get(peer_id)
        hosts = {reflex.host for reflex in self._announced(peer_id)}
        return hosts | {c.address.host for c in told.candidates} if told is not None else hosts

    def _kinds(self, peer_id: PeerId) -> tuple[NatType, NatType]:
        known = self._store.get(peer_id)
        remote = NatType.of_tags(known.tags) if known is not None else NatType.UNKNOWN
        return self._engine.nat_state.nat_type, remote

    def standing(self, peer_id: PeerId) -> tuple[object, ...]:
        """What is known of where both ends are, and which addresses they have; an attempt rests on that."""
        return (self._engine.nat_state, self._kinds(peer_id), tuple(self._announced(peer_id)))

    def _surroundings(self) -> Surroundings:
        return Surroundings.of(self._interfaces(), self._bound(), self._reflexes())

    def _selected(self, peer_id: PeerId, mine: Surroundings) -> list[Address]:
        """What the peer told us, as far as that is safe, LAN first."""
        told = self._told.get(peer_id)
        if told is None:
            return []
        public = {address.host for address in self._announced(peer_id)}
        return [candidate.address for candidate in select(told.candidates, mine, public)]

    def _targets(self, peer_id: PeerId) -> list[Address]:
        """Where to send to: what the peer told us, and what it announced."""
        targets = self._selected(peer_id, self._surroundings())
        return [*targets, *(a for a in self._announced(peer_id) if a not in targets)][:_MAX_TARGETS]

    def _action(self, peer_id: PeerId) -> PunchAction:
        """What to do about the pair, with all that is known of it now."""
        told = self._told.get(peer_id)
        mine = self._surroundings()
        near = self._selected(peer_id, mine)
        hints = PairHints(
            told=told is not None,
            local_filtering=self._filtering(),
            remote_filtering=told.filtering if told is not None else None,
            same_public_host=not mine.public_hosts.isdisjoint(a.host for a in self._announced(peer_id)),
            common_network=any(a.is_loopback or (a.is_private and mine.on_link(a)) for a in near),
            both_ipv6=any(map(_is_global6, near)) and any(_is_global6(c.address) for c in self._candidates()),
        )
        return refine(*self._kinds(peer_id), hints)

    # attempts of ours

    async def attempt(self, live: LiveSession) -> Path:
        """Look for a direct path for a relayed session.  Raises TraversalError; the session rides the relay on."""
        if not self._takes_part:
            raise UnsupportedError("this node was told to stay on the relay")
        known = self._store.get(live.peer.peer_id)
        if known is not None and TAG_NAT_TRAVERSAL not in known.tags:
            raise UnsupportedError("the peer does not take part in the search for shorter paths")
        self._interfaces_until = -1.0  # an attempt of ours may follow a change of them
        attempt = _Attempt(self._engine.random_bytes(PUNCH_ID_SIZE), live)
        self._attempts[attempt.punch_id] = attempt
        try:
            with trio.move_on_after(self._config.punch_deadline):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(until_direct, live, nursery.cancel_scope)
                    await self._try(live, attempt)
                    nursery.cancel_scope.cancel()
        finally:
            del self._attempts[attempt.punch_id]
            self._guard.requests.cancel(attempt.punch_id)
        path = live.session.path
        if live.session.closed is not None:
            raise PeerNotReachableError("the session ended meanwhile")
        if path is not None and path.kind is PathKind.DIRECT:
            self._count_success(attempt)  # if the introduction came with the last packet
            return path
        if attempt.introduction is not None and not attempt.succeeded:
            self._stats.record_punch_timeout()
        if attempt.busy:
            raise RendezvousRejectedError(RejectReason.BUSY.value)
        raise attempt.failure or PunchFailedError("no probe was answered in time")

    def turned_direct(self, live: LiveSession) -> None:
        """A session's data takes a direct path: count the punch that gave it, before anybody learns of the path."""
        for attempt in self._attempts.values():
            if attempt.live is live:
                self._count_success(attempt)

    def _count_success(self, attempt: _Attempt) -> None:
        if attempt.introduction is not None and not attempt.succeeded:
            attempt.succeeded = True
            self._stats.record_punch_success()

    async def _try(self, live: LiveSession, attempt: _Attempt) -> None:
        """Everything that an attempt does; returns when nothing more can come of it."""
        peer_id = live.peer.peer_id
        local, remote = self._kinds(peer_id)
        action = pair_action(local, remote)
        ours = Candidates(
            attempt.punch_id,
            self._candidates(),
            reply_wanted=True,
            speak_first=action is not PunchAction.SKIP,
            filtering=self._filtering(),
        )
        self._send(live, ours.encode())
        async with trio.open_nursery() as nursery:
            if action is PunchAction.PUNCH:
                nursery.start_soon(self._punch, live, attempt)
            path = live.session.path
            rtt = path.rtt.smoothed if path is not None else 0.0
            with trio.move_on_after(max(_MIN_PATIENCE, _PATIENCE * rtt)):
                await attempt.told.wait()
            if action is PunchAction.SKIP:
                action = self._action(peer_id)
                if action is PunchAction.PUNCH:
                    nursery.start_soon(self._punch, live, attempt)
            if action is PunchAction.SKIP:
                attempt.failure = PunchFailedError(_why_skipped(local, remote))
            elif targets := self._targets(peer_id):
                await run_train(self._engine, live, targets)

    async def _punch(self, live: LiveSession, attempt: _Attempt) -> None:
        """Have a coordinator introduce us, and send when it says so."""
        peer_id = live.peer.peer_id
        engine = self._engine
        excluded: set[PeerId] = set()
        while len(excluded) < 3:
            coordinator = self._choose_coordinator(live, excluded)
            session = engine.direct_session(coordinator) if coordinator is not None else None
            if coordinator is None or session is None:
                if not excluded:
                    self._stats.record_rendezvous_no_relay()
                    attempt.failure = RendezvousNoRelayError("no connected peer can introduce the two")
                return
            excluded.add(coordinator)
            path = session.session.path
            observed = path.address if path is not None else None
            reflex = None if observed is None else self._reflex(observed.family)
            if reflex is None:
                attempt.failure = PunchFailedError(
                    "where this node is seen from outside is not known, so nobody was asked to introduce the two"
                )
                continue
            if not self._guard.requests.expect(attempt.punch_id, coordinator, peer_id):
                attempt.failure = PunchFailedError("too many requests for introductions are open, so no other was made")
                return
            attempt.answered = trio.Event()
            attempt.rejection = None
            self._send(session, PunchRequest(attempt.punch_id, peer_id, reflex).encode())
            with trio.move_on_after(_ANSWER_TIME):
                await attempt.answered.wait()
            if attempt.introduction is not None:
                attempt.failure = None
                await trio.sleep(attempt.introduction.delay)
                await run_train(self._engine, live, [attempt.introduction.reflex])
                return
            self._guard.requests.cancel(attempt.punch_id)
            if attempt.rejection is not None:
                self._stats.record_punch_rejection()
                attempt.failure = RendezvousRejectedError(attempt.rejection.value)
            else:
                attempt.failure = PeerNotReachableError("the coordinator did not answer")

    def _choose_coordinator(self, live: LiveSession, exclude: set[PeerId]) -> PeerId | None:
        peer_id = live.peer.peer_id
        neighbors = {}
        for neighbor, rtt in self._engine.neighbors().items():
            known = self._store.get(neighbor)
            neighbors[neighbor] = Neighbor(known is not None and known.relay_capable, rtt)
        target = self._store.get(peer_id)
        path = live.session.path
        return choose_coordinator(
            peer_id,
            neighbors,
            self._random_below,
            forwarding=path.via if path is not None else None,
            target_relays=target.relays if target is not None else (),
            exclude=exclude,
        )


def _why_skipped(local: NatType, remote: NatType) -> str:
    return f"NAT here {local}, NAT of the peer {remote}: no direct path without guessing ports"


def _is_global6(address: Address) -> bool:
    return address.family == 6 and not (address.is_private or address.is_loopback or address.is_link_local)
