"""Circuits: carrying those of others, and receiving our own."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..identity import PeerId
from ..routing.circuits import (
    CircuitRefused,
    CloseCircuit,
    OpenCircuit,
    RefusalReason,
    RelayTable,
    decode_circuit_message_untrusted,
)
from ..routing.routes import RouteFinder
from ..routing.store import AnnouncementStore
from ..wire import frames
from ..wire.errors import DecodeError
from ..wire.packets import CIRCUIT, DATA
from .dialing import Dialer
from .engine import Engine
from .live import LiveSession

__all__ = ["Relaying"]

_TICK = 5.0
_MAX_ENDPOINTS_PER_PEER = 256


class Relaying:
    """The circuit subprotocol of a node, as relay and as end."""

    def __init__(
        self,
        engine: Engine,
        table: RelayTable,
        store: AnnouncementStore,
        dialer: Dialer,
        is_hub: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._table = table
        self._store = store
        self._dialer = dialer
        self._is_hub = is_hub
        self._routes = RouteFinder(store.graph, engine.peer_id)
        self._messages = engine.open_handler(frames.SUBPROTOCOL_CIRCUIT)
        engine.relay = self.forward
        engine.carries = self.carries

    def forward(self, number: int, data: memoryview, stride: int) -> None:
        """Pass on a batch of one circuit: the id is rewritten, nothing else is touched."""
        engine = self._engine
        count = -(-len(data) // stride)
        circuit_id = bytes(data[4:12])
        leg = self._table.forward(circuit_id, len(data), count, engine.now())
        if leg is None:
            return
        key = engine.carrier(leg.peer)
        if key is None:
            leg.dropped += count
            return
        out_id = leg.id
        for at in range(4, len(data), stride):
            data[at : at + 8] = out_id
        engine.sockets[key[0]].send((data,), stride, key[1])

    def carries(self, peer_id: PeerId) -> bool:
        """Whether circuits of others, or of our own, run over the session with a peer."""
        return self._table.serves(peer_id) or self._engine.endpoints.count_over(peer_id) > 0

    async def run(self) -> None:
        """Handle circuit messages for ever."""
        async with self._messages:
            async for control in self._messages:
                try:
                    message = decode_circuit_message_untrusted(control.payload)
                except DecodeError:
                    self._engine.counters.invalid_control += 1
                    continue
                live = control.live
                if live.session.closed is not None:
                    continue
                if isinstance(message, OpenCircuit):
                    self._on_open(live, message)
                elif isinstance(message, CircuitRefused):
                    self._on_refused(live, message)
                else:
                    self._on_close(live, message)

    async def run_expiry(self) -> None:
        """Close idle circuits for ever."""
        while True:
            await trio.sleep(_TICK)
            now = self._engine.now()
            self._engine.handshakes.expire_half_open(now)
            for leg in self._table.expire(now):
                self._tell(leg.peer, CloseCircuit(leg.id).encode())

    def _tell(self, peer_id: PeerId, payload: bytes) -> None:
        live = self._engine.direct_session(peer_id)
        if live is not None:
            self._engine.send_control(live, frames.SUBPROTOCOL_CIRCUIT, payload)

    def _on_open(self, live: LiveSession, message: OpenCircuit) -> None:
        engine = self._engine
        asker = live.peer.peer_id
        if engine.closed_circuits.get(message.circuit_id) == asker:
            return  # this message comes late or twice
        if message.target == engine.peer_id:
            self._end_here(live, message)
            return
        if message.circuit_id in engine.endpoints:
            answer = CircuitRefused(message.circuit_id, RefusalReason.COLLISION)
            self._tell(asker, answer.encode())
            return
        outcome = self._table.open(
            message,
            asker,
            lambda: self._next_hop(asker, message),
            engine.random_bytes,
            engine.now(),
            live.household,
        )
        if isinstance(outcome, CircuitRefused):
            self._tell(asker, outcome.encode())
        else:
            for leg in outcome.ended:
                self._tell(leg.peer, CloseCircuit(leg.id).encode())
            self._tell(outcome.next_hop, outcome.onward.encode())
            if outcome.fresh:
                self._introduce(message.target, asker)
                if outcome.next_hop == message.target:
                    self._introduce(asker, message.target)

    def _introduce(self, origin: PeerId, reader: PeerId) -> None:
        """Tell one end of a new circuit what the other announces: it need not have heard it before."""
        envelope = self._store.envelope(origin, self._engine.now())
        live = self._engine.direct_session(reader)
        if envelope is not None and live is not None:
            self._engine.send_control(live, frames.SUBPROTOCOL_ANNOUNCEMENT, envelope.encode())

    def _next_hop(self, asker: PeerId, message: OpenCircuit) -> PeerId | None:
        engine = self._engine
        graph = self._store.graph
        if engine.neighbors((message.target,)):
            return message.target  # no matter how many others there are
        neighbors = self._dialer.neighbors_toward(message.target)
        neighbors.pop(asker, None)
        hops = self._routes.next_hops(
            message.target, neighbors, engine.now(), exclude=(asker,), max_hops=max(1, message.hops_left - 1)
        )
        if hops:
            return hops[0]
        if self._is_hub():
            return None
        # without the whole map, the way is that of the next hub
        return min((p for p in neighbors if p in graph.hubs), key=lambda p: neighbors[p] or 9.0, default=None)

    def _end_here(self, live: LiveSession, message: OpenCircuit) -> None:
        """A circuit for us: its first packet is handled as if it had come on it."""
        engine = self._engine
        via = live.peer.peer_id
        circuit_id = message.circuit_id
        known = engine.endpoints.get(circuit_id)
        if known is None:
            if circuit_id in self._table:
                self._tell(via, CircuitRefused(circuit_id, RefusalReason.COLLISION).encode())
                return
            if engine.endpoints.count_over(via) >= _MAX_ENDPOINTS_PER_PEER and not self._make_room(via):
                self._tell(via, CircuitRefused(circuit_id, RefusalReason.BUDGET).encode())
                return
            engine.endpoints[circuit_id] = via
        elif known != via:
            self._tell(via, CircuitRefused(circuit_id, RefusalReason.COLLISION).encode())
            return
        index = int.from_bytes(message.packet[4:8], "little")
        if message.packet[0] == DATA and index not in engine.sessions and index not in engine.handshakes.half_open:
            # the session that this is to carry is of an earlier life of ours
            engine.circuit_closed(circuit_id)
            self._tell(via, CircuitRefused(circuit_id, RefusalReason.UNKNOWN_SESSION).encode())
            return
        packet = bytearray((CIRCUIT, 0, 0, 0)) + circuit_id + message.packet
        path = live.session.path
        if path is not None and not isinstance(path.key, bytes):
            engine.on_datagrams(path.key[0], memoryview(packet), len(packet), path.key[1])
            engine.drive_touched()

    def _make_room(self, via: PeerId) -> bool:
        """End the oldest circuit over a relay on which no session runs, if there is one; those first on which not even
        a handshake was answered.  Whoever asks the relay for many would else keep all others from us."""
        engine = self._engine
        ours = {key for dial in engine.handshakes.dialing.values() for key in dial.asked}
        answered = {key for half_open in engine.handshakes.half_open.values() for key in half_open.answered}
        unused = [c for c in engine.endpoints.oldest_over(via) if c not in engine.riders and c not in ours]
        if not unused:
            return False
        oldest = min(unused, key=lambda circuit_id: circuit_id in answered)
        del engine.endpoints[oldest]
        engine.note_closed(oldest, via)
        self._tell(via, CloseCircuit(oldest).encode())
        return True

    def _on_refused(self, live: LiveSession, message: CircuitRefused) -> None:
        via = live.peer.peer_id
        if self._engine.endpoints.get(message.circuit_id) == via:
            self._dialer.circuit_refused(message.circuit_id, message.reason.value)
            return
        twin = self._table.close(message.circuit_id, via)
        if twin is not None:
            self._tell(twin.peer, CircuitRefused(twin.id, message.reason).encode())

    def _on_close(self, live: LiveSession, message: CloseCircuit) -> None:
        via = live.peer.peer_id
        self._engine.note_closed(message.circuit_id, via)
        if self._engine.endpoints.get(message.circuit_id) == via:
            self._engine.circuit_closed(message.circuit_id)
            return
        twin = self._table.close(message.circuit_id, via)
        if twin is not None:
            self._tell(twin.peer, CloseCircuit(twin.id).encode())

    def neighbor_gone(self, peer_id: PeerId) -> None:
        """A neighbor's session is over: its circuits are, on both sides."""
        for leg in self._table.close_for_peer(peer_id):
            self._tell(leg.peer, CloseCircuit(leg.id).encode())
        for circuit_id in self._engine.endpoints.over(peer_id):
            self._engine.circuit_closed(circuit_id)
