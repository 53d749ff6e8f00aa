"""Announcements: telling the mesh where this node is, and passing on what others tell.

Who is told what, and why: :mod:`netmesh_trio.routing.hubs`.
"""

from __future__ import annotations

import attrs
import trio

from ..events import KeyInUse
from ..identity import PeerId
from ..routing.announcements import (
    MAX_SEQUENCE,
    PREFIX_HUB,
    TAG_NAT_TRAVERSAL,
    TAG_RELAY_CAPABLE,
    Announcement,
    Envelope,
    withdrawal,
)
from ..routing.doubles import KeyWatch
from ..routing.graph import Effort
from ..routing.hubs import HUB_EFFORT, choose_listed, hub_rank, is_hub_needed
from ..routing.store import AnnouncementStore, Verdict
from ..wire import frames
from ..wire.errors import DecodeError
from .engine import COURTESY, Engine
from .live import LiveSession

__all__ = ["Announcing"]

_LIFETIME = 600
_REFRESH = 200.0
# At most one announcement of ours in this many seconds; others take no more than one in two.
_PACE = 2.0
_BURST = 4  # two neighbors, what they see of our NAT, and one more
_SYNC_PER_SECOND = 100.0
# A node becomes a hub when it was needed as one for so long: what hubs there are has to be heard first.
_HEARING = 1.0
# For so long a hub stays one that is needed no more: each change is told to everybody.
_HUB_REST = 300.0
# Seconds between reviews, for each of many neighbors and for what was looked at of the map: so they take about one
# percent of the CPU at most.
_REVIEW_PAUSE = 1e-4
_REVIEWED_AT_ONCE = 32
_EFFORT_PAUSE = 5e-4
_EFFORT_AT_ONCE = 64
# With another program that runs with our key, seconds between what the two say in answer to each other: all hubs hear
# it, and neither has the last word.
_QUARREL_PACE = 30.0
# Seconds between warnings of such a program.
_WARN_EVERY = 3600.0
_INFINITY = float("inf")


class Announcing:
    """The announcement subprotocol of a node."""

    def __init__(self, engine: Engine, store: AnnouncementStore, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._store = store
        self._nursery = nursery
        self._messages = engine.open_handler(frames.SUBPROTOCOL_ANNOUNCEMENT)
        self._changed = trio.Event()
        self._watch = KeyWatch(engine.now())
        self._warned_at = -_INFINITY
        #: The number of our last announcement, when we made it, and when we have to make one in answer to others.
        self._sequence = 0
        self._spoke_at = -_INFINITY
        self._answer_at = _INFINITY
        self._said: tuple[object, ...] = ()
        self._listed: tuple[PeerId, ...] = ()
        #: Our rank, while the mesh needs us to keep the whole map.
        self._hub: int | None = None
        self._review_at = _INFINITY
        # sessions that are being told what we know: everything if true
        self._syncing: dict[LiveSession, bool] = {}
        engine.on_neighbors_changed = self.changed
        engine.on_new_session = self.introduce
        engine.key_in_use = lambda: self._watch.is_certain(engine.now())

    def changed(self) -> None:
        """What we announce may have changed."""
        self._changed.set()

    @property
    def is_hub(self) -> bool:
        """Whether this node keeps the whole map."""
        return self._hub is not None

    def tags(self) -> tuple[str, ...]:
        """The tags of this node's announcement."""
        tags = [self._engine.nat_state.nat_type.tag]
        if self._engine.config.traversal.enabled and self._engine.config.direct:
            tags.append(TAG_NAT_TRAVERSAL)
        if self._engine.config.relay != "off":
            tags.append(TAG_RELAY_CAPABLE)
        if self._hub is not None:
            tags.append(f"{PREFIX_HUB}{self._hub}")
        return tuple(tags)

    def _review(self, neighbors: dict[PeerId, float | None], now: float) -> float:
        """Decide whether we are a hub; return for how many seconds it is not to be asked again."""
        graph = self._store.graph
        effort = Effort(HUB_EFFORT)
        rank = hub_rank(len(neighbors), self._hub)
        needed = self._engine.config.relay != "off" and is_hub_needed(
            self._engine.peer_id, rank, neighbors, graph, effort
        )
        first = needed and not graph.hubs and all(peer_id in graph.live for peer_id in neighbors)
        if first or needed == (self._hub is not None) or now >= self._review_at:
            self._review_at = _INFINITY
            self._hub = rank if needed else None
        else:
            self._review_at = min(self._review_at, now + (_HEARING if needed else _HUB_REST))
        spent = HUB_EFFORT - effort.edges
        pause = spent * _EFFORT_PAUSE if spent > _EFFORT_AT_ONCE else 0.0
        if len(neighbors) > _REVIEWED_AT_ONCE:
            # the more there are, the more often one of them changes, and the more it takes to look at all
            pause += len(neighbors) * _REVIEW_PAUSE
        return pause

    async def run(self) -> None:
        """Announce this node, when something changed and before the last announcement expires."""
        tokens = float(_BURST)
        then = trio.current_time()
        refresh_at = _INFINITY
        while True:
            with trio.move_on_at(min(refresh_at, self._review_at, self._answer_at)):
                await self._changed.wait()
                await trio.sleep(COURTESY)
            now = trio.current_time()
            tokens = min(float(_BURST), tokens + (now - then) / _PACE)
            then = now
            if tokens < 1:
                # at least a little: a hair's breadth of a token is too short for the clock to advance
                await trio.sleep(max(0.05, (1 - tokens) * _PACE))
                continue
            self._changed = trio.Event()
            neighbors = self._engine.neighbors()
            pause = self._review(neighbors, now)
            listed = choose_listed(neighbors, self._hub is not None, self._store.graph, self._listed)
            said = (self.tags(), self._engine.nat_state, frozenset(listed))
            if said == self._said and now < min(refresh_at, self._answer_at):
                await trio.sleep(pause)
                continue
            tokens -= 1
            refresh_at = now + _REFRESH
            self._answer_at = _INFINITY
            self._spoke_at = now
            self._listed = listed
            self._said = said
            self._publish(
                Announcement(
                    peer_id=self._engine.peer_id,
                    sequence=0,
                    lifetime_s=_LIFETIME,
                    tags=self.tags(),
                    reflex=self._engine.nat_state.reflex,
                    reflex6=self._engine.nat_state.reflex6,
                    relays=listed,
                )
            )

    def _publish(self, announcement: Announcement) -> None:
        """Announce ourselves, with the next number, to everybody that we have a session with, on whatever path."""
        engine = self._engine
        sequence = max(self._sequence, self._watch.highest) + 1
        if sequence > MAX_SEQUENCE:
            return  # who has our key used up the numbers
        self._sequence = sequence
        envelope = attrs.evolve(announcement, sequence=sequence).sign(engine.identity.sign)
        self._store.publish(envelope, engine.now())
        payload = envelope.encode()
        for peer in list(engine.peers.values()):
            if peer.live is not None:
                engine.send_control(peer.live, frames.SUBPROTOCOL_ANNOUNCEMENT, payload)

    def withdraw(self) -> None:
        """This node is leaving."""
        if self._sequence:
            self._publish(withdrawal(self._engine.peer_id, 0))

    def _flood(self, envelope: Envelope, source: PeerId, to_all: bool) -> None:
        engine = self._engine
        payload = envelope.encode()
        origin = envelope.announcement.peer_id
        told = engine.neighbors() if to_all else self._store.graph.hubs
        # its origin, too: it may have restarted since, or share its key with another program
        for peer_id in told if origin in told else (origin, *told):
            live = engine.direct_session(peer_id) if peer_id != source else None
            if live is not None:
                engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, payload)

    async def handle(self) -> None:
        """Handle the announcements that come in, for ever."""
        engine = self._engine
        async with self._messages:
            async for control in self._messages:
                try:
                    envelope = Envelope.decode_untrusted(control.payload)
                except DecodeError:
                    engine.counters.invalid_control += 1
                    continue
                neighbor = control.live.peer.peer_id
                news = envelope.announcement
                known = self._store.get(news.peer_id)
                decision = self._store.accept(
                    envelope, neighbor, engine.now(), engine.household(neighbor, control.path)
                )
                if decision.verdict is Verdict.NEW:
                    self._on_news(control.live, news, known)
                if decision.forward is not None:
                    was_hub = known is not None and known.hub_rank is not None
                    self._flood(decision.forward, neighbor, was_hub or news.hub_rank is not None)
                if decision.reply is not None and control.live.session.closed is None:
                    engine.send_control(control.live, frames.SUBPROTOCOL_ANNOUNCEMENT, decision.reply.encode())
                if decision.verdict is Verdict.OWN:
                    self._on_own(news, envelope.age)

    def _on_own(self, news: Announcement, age: float) -> None:
        """Our key signed what we did not say, in an earlier life or elsewhere: go on from there."""
        engine = self._engine
        now = engine.now()
        conflict = self._watch.hear(news, age, self._sequence, now)
        engine.counters.key_conflicts = self._watch.announcements
        pause = _QUARREL_PACE if self._watch.is_certain(now) else 0.0
        self._answer_at = min(self._answer_at, max(now, self._spoke_at + pause))
        self.changed()
        if conflict and now >= self._warned_at + _WARN_EVERY:
            self._warned_at = now
            event = KeyInUse(addr=news.reflex or news.reflex6, relays=news.relays)
            engine.log.warning("%s", event)
            engine.events.emit(event)

    def _on_news(self, source: LiveSession, news: Announcement, known: Announcement | None) -> None:
        engine = self._engine
        if known is None or _place(known) != _place(news):
            engine.on_peer_moved(news.peer_id)
        rank = None if known is None else known.hub_rank
        if known is None or known.relays != news.relays or rank != news.hub_rank:
            # of others than hubs only neighbors matter for whether we are needed as one, and a hub has not many hubs
            live = engine.direct_session(news.peer_id)
            if live is not None or rank is not None or news.hub_rank is not None:
                self.changed()
            if live is not None and news.hub_rank is not None and rank is None:
                self._tell(live)

    def introduce(self, live: LiveSession) -> None:
        """A new session: let the peer have our own announcement, which it may have nobody else to ask for."""
        envelope = self._store.envelope(self._engine.peer_id, self._engine.now())
        if envelope is not None:
            self._engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, envelope.encode())

    def new_neighbor(self, live: LiveSession) -> None:
        """Tell a new neighbor what we know: everything if it is a hub, else of hubs; and hubs of it."""
        self._tell(live)
        envelope = self._store.envelope(live.peer.peer_id, self._engine.now())
        if envelope is not None:
            self._flood(envelope, live.peer.peer_id, to_all=False)

    def _tell(self, live: LiveSession) -> None:
        everything = live.peer.peer_id in self._store.graph.hubs
        if live not in self._syncing:
            self._syncing[live] = everything
            self._nursery.start_soon(self._sync, live)
        elif everything:
            self._syncing[live] = True

    async def _sync(self, live: LiveSession) -> None:
        engine = self._engine
        graph = self._store.graph
        told: set[PeerId] = set()
        try:
            await trio.sleep(COURTESY)
            while True:
                everything = self._syncing[live]
                for origin in self._store.all_for(live.peer.peer_id):
                    if live.session.closed is not None:
                        return
                    if origin in told or not (everything or origin in graph.hubs or origin == engine.peer_id):
                        continue
                    envelope = self._store.envelope(origin, engine.now())
                    if envelope is not None:
                        told.add(origin)
                        engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, envelope.encode())
                        await trio.sleep(1 / _SYNC_PER_SECOND)
                if self._syncing[live] == everything:
                    return
        finally:
            del self._syncing[live]

    async def run_expiry(self) -> None:
        """Forget what is out of date, for ever."""
        while True:
            await trio.sleep(5.0)
            self._store.expire(self._engine.now())


def _place(announcement: Announcement) -> tuple[object, ...]:
    """What an announcement says of where its node is; its neighbors, and being a hub, say nothing of direct paths."""
    tags = tuple(tag for tag in announcement.tags if not tag.startswith(PREFIX_HUB))
    return (tags, announcement.reflex, announcement.reflex6)
