"""Announcements: telling the mesh where this node is, and passing on what others tell."""

from __future__ import annotations

import trio

from ..identity import PeerId
from ..routing.announcements import Announcement, Envelope, withdrawal
from ..routing.store import AnnouncementStore, Verdict
from ..wire import frames
from ..wire.errors import DecodeError
from .engine import Engine
from .live import LiveSession

__all__ = ["Announcing"]

_LIFETIME = 600
_REFRESH = 200.0
# At most one announcement of ours in this many seconds; others take no more than one in two.
_PACE = 2.0
_BURST = 4  # two neighbors, what they see of our NAT, and one more
_MAX_RELAYS = 16
_SYNC_PER_SECOND = 100.0


class Announcing:
    """The announcement subprotocol of a node."""

    def __init__(self, engine: Engine, store: AnnouncementStore, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._store = store
        self._nursery = nursery
        self._messages = engine.open_handler(frames.SUBPROTOCOL_ANNOUNCEMENT)
        self._changed = trio.Event()
        self._sequence = 0
        self._said: tuple[object, ...] = ()
        engine.on_neighbors_changed = self.changed

    def changed(self) -> None:
        """What we announce may have changed."""
        self._changed.set()

    def tags(self) -> tuple[str, ...]:
        """The tags of this node's announcement."""
        tags = [self._engine.nat_state.nat_type.tag]
        if self._engine.config.traversal.enabled and self._engine.config.direct:
            tags.append("nat-traversal")
        if self._engine.config.relay != "off":
            tags.append("relay-capable")
        return tuple(tags)

    def _relays(self) -> tuple[PeerId, ...]:
        neighbors = self._engine.neighbors()
        return tuple(sorted(neighbors, key=lambda p: (neighbors[p] or 9.0, bytes(p)))[:_MAX_RELAYS])

    async def run(self) -> None:
        """Announce this node, when something changed and before the last announcement expires."""
        tokens = float(_BURST)
        then = trio.current_time()
        while True:
            with trio.move_on_after(_REFRESH) as refresh:
                await self._changed.wait()
            now = trio.current_time()
            tokens = min(float(_BURST), tokens + (now - then) / _PACE)
            then = now
            if tokens < 1:
                # at least a little: a hair's breadth of a token is too short for the clock to advance
                await trio.sleep(max(0.05, (1 - tokens) * _PACE))
                continue
            self._changed = trio.Event()
            relays = self._relays()
            said = (self.tags(), self._engine.nat_state, frozenset(relays), self._sequence)
            if said == self._said and not refresh.cancelled_caught:
                continue
            tokens -= 1
            self._sequence += 1
            self._said = (self.tags(), self._engine.nat_state, frozenset(relays), self._sequence)
            self._publish(
                Announcement(
                    peer_id=self._engine.peer_id,
                    sequence=self._sequence,
                    lifetime_s=_LIFETIME,
                    tags=self.tags(),
                    reflex=self._engine.nat_state.reflex,
                    reflex6=self._engine.nat_state.reflex6,
                    relays=relays,
                )
            )

    def _publish(self, announcement: Announcement) -> None:
        envelope = announcement.sign(self._engine.identity.sign)
        self._store.publish(envelope, self._engine.now())
        self._flood(envelope, None)

    def withdraw(self) -> None:
        """This node is leaving."""
        if self._sequence:
            self._sequence += 1
            self._publish(withdrawal(self._engine.peer_id, self._sequence))

    def _flood(self, envelope: Envelope, source: PeerId | None) -> None:
        engine = self._engine
        payload = envelope.encode()
        for peer_id in engine.neighbors():
            if peer_id != source:
                live = engine.direct_session(peer_id)
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
                decision = self._store.accept(envelope, neighbor, engine.now())
                if decision.verdict is Verdict.NEW and (known is None or _place(known) != _place(news)):
                    engine.on_peer_moved(news.peer_id)
                if decision.forward is not None:
                    self._flood(decision.forward, neighbor)
                if decision.reply is not None and control.live.session.closed is None:
                    engine.send_control(control.live, frames.SUBPROTOCOL_ANNOUNCEMENT, decision.reply.encode())
                if decision.verdict is Verdict.OWN and decision.next_sequence is not None:
                    self._sequence = max(self._sequence, decision.next_sequence - 1)
                    self._said = ()
                    self.changed()

    def new_neighbor(self, live: LiveSession) -> None:
        """Tell a new neighbor everything that we know."""
        self._nursery.start_soon(self._sync, live)

    async def _sync(self, live: LiveSession) -> None:
        engine = self._engine
        for origin in self._store.all_for(live.peer.peer_id):
            if live.session.closed is not None:
                return
            envelope = self._store.envelope(origin, engine.now())
            if envelope is not None:
                engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, envelope.encode())
            await trio.sleep(1 / _SYNC_PER_SECOND)

    async def run_expiry(self) -> None:
        """Forget what is out of date, for ever."""
        while True:
            await trio.sleep(5.0)
            self._store.expire(self._engine.now())


def _place(announcement: Announcement) -> tuple[object, ...]:
    """What an announcement says of where its node is: other neighbors alone change nothing about direct paths."""
    return (announcement.tags, announcement.reflex, announcement.reflex6)
