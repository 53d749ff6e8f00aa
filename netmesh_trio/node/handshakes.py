"""Handshakes of a node in both directions: answered ones that wait for their first packet, and dials of its own."""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs
import trio

from ..buckets import TokenBucket
from ..errors import PeerUnreachableError
from ..identity import PeerId
from ..paths.path import PathKey
from ..session.handshake import (
    CookieReply,
    Established,
    HandshakeRejected,
    Initiator,
    Reply,
    Responder,
    peek_indices_untrusted,
)
from ..session.keys import KeyRing, PacketKey
from ..session.session import Session
from ..wire import packets
from ..wire.errors import DecodeError
from ..wire.hello import Hello
from .ciphers import aes_is_faster

if TYPE_CHECKING:
    from .engine import Engine
    from .live import LiveSession

__all__ = ["Dial", "HalfOpen", "Handshakes", "Knock"]

_MAX_HALF_OPEN = 512
_HALF_OPEN_LIFETIME = 20.0
# One in so many of the sessions allowed is kept for those that this node opens.
_OWN_PART = 8
# Addresses of one dial that get an INIT of their own; what is more shares the last one's.
_MAX_INITS = 3
# INITs that go out at once for a COOKIE, to one address in one dial.  Under load each INIT until the first COOKIE is
# answered by one.
_MAX_COOKIES = 3

_unpack_stranger = struct.Struct("<IQ").unpack_from


@attrs.define(eq=False)
class HalfOpen:
    """A handshake that we answered; the first authentic packet makes it a session."""

    established: Established
    local: Hello
    created: float
    #: Where our answer went.  If that is one place, who uses its key has received it there; if there are more, nobody
    #: knows at which of them, and two are all that is kept.
    answered: set[PathKey] = attrs.field(factory=set)
    _opener: PacketKey | None = attrs.field(default=None, init=False)

    def authentic(self, packet: memoryview) -> bool:
        """Whether one DATA packet for this index was made by the peer.  Anybody can send such: nothing but the key is
        made for it, and that once."""
        if self._opener is None:
            try:
                remote = Hello.decode(self.established.hello)
            except DecodeError:
                return False
            self._opener = PacketKey(self.established.receive_key, self.local.prefers_aes and remote.prefers_aes)
        return packet[:8] == packets.data_prefix(0, self.established.local_index) and self._opener.authentic(packet)


@attrs.define(eq=False)
class Knock:
    """One INIT of a dial, and where it went.

    Who answers has received it at one of these places.  If it went to a single one, the answer shows that the peer
    receives there; hence each address has an INIT of its own, as far as that is not too many.
    """

    initiator: Initiator
    relayed: bool
    sent_at: dict[PathKey, float] = attrs.field(factory=dict, init=False)
    #: COOKIEs that were answered at once, by where they came from.
    cookies: dict[PathKey, int] = attrs.field(factory=dict, init=False)


@attrs.define(eq=False)
class Dial:
    """An attempt to open a session; any path may bring the answer."""

    peer_id: PeerId
    local: Hello
    done: trio.Event
    #: Set when a way to the peer was refused: try the next at once.
    wake: trio.Event
    knocks: list[Knock] = attrs.field(factory=list, init=False)
    #: Relays that will not carry anything to the peer for us.
    denied: set[PeerId] = attrs.field(factory=set, init=False)
    #: Why no relay led to the peer, and what became of its addresses.
    error: str = "no connected node leads to it"
    address_error: str = ""

    @property
    def asked(self) -> set[PathKey]:
        """Where an INIT went."""
        return {key for knock in self.knocks for key in knock.sent_at}


class Handshakes:
    """What becomes a session, or does not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.half_open: dict[int, HalfOpen] = {}
        self.dials: dict[int, Dial] = {}
        self.dialing: dict[PeerId, Dial] = {}
        # where the INIT came from that is looked at
        self._asked_on: tuple[PathKey, PeerId | None] = b"", None
        self._stranger_budget = TokenBucket(50.0, 50.0)
        self._prefers_aes = aes_is_faster()
        self.responder: Responder = Responder(
            engine.identity,
            network_key=engine.network_key,
            hello=lambda: self.hello().encode(),
            allocate_index=self._index_for_peer,
            random_bytes=engine.random_bytes,
        )

    @property
    def _full(self) -> bool:
        """Whether there is no room for a session that a peer opens.  Half-open ones take none: strangers make them."""
        most = self._engine.config.max_sessions
        return len(self._engine.sessions) >= most - most // _OWN_PART

    def _admits(self, who: Hashable, key: PathKey, via: PeerId | None, *, proven: bool) -> bool:
        """Whether there is room for a session with *who* on that path, or room is made for it."""
        if not self._full:
            return True
        return self._engine.places.may_displace(self._engine.household_at(who, key, via, proven=proven))

    def _index_for_peer(self) -> int | None:
        # who asks is not known to be who it says, so on this very host each is somebody else
        key, via = self._asked_on
        return self._free_index() if self._admits(key, key, via, proven=True) else None

    def _free_index(self) -> int:
        while True:
            index = int.from_bytes(self._engine.random_bytes(4), "little")
            if index and index not in self._engine.sessions and index not in self.half_open and index not in self.dials:
                return index

    def hello(self) -> Hello:
        """What this node says of itself in a handshake."""
        config = self._engine.config
        return Hello(
            boot_id=self._engine.boot_id,
            max_datagram_size=int(config.max_datagram_size),
            session_window=int(config.session_window),
            stream_window=int(config.stream_window),
            max_streams=int(config.max_streams),
            ordinal=self._engine.sessions_had & 0xFFFF_FFFF,
            service_tags=self._engine.services.tags(),
            prefers_aes=self._prefers_aes,
        )

    def confirm(
        self, index: int, data: memoryview, skip: int, stride: int, key: PathKey, via: PeerId | None, now: float
    ) -> LiveSession | None:
        """DATA for no session: the first packet of a half-open one, or a stranger's."""
        half_open = self.half_open.get(index)
        if half_open is None:
            self._engine.counters.dropped_unknown += 1
            self._say_stranger(index, data, skip, key, via)
            return None
        # it has the key that our answer carried: if that went to this address only, it receives there
        proven = half_open.answered == {key}
        admitted = self._admits(half_open.established.peer_id, key, via, proven=proven)
        if not admitted or not half_open.authentic(data[skip : min(stride, len(data))]):
            self._engine.counters.dropped_unknown += 1
            return None
        session = self._make_session(half_open.established, half_open.local, now)
        del self.half_open[index]
        if session is None:
            self._engine.counters.dropped_handshake += 1
            return None
        self._forget_twins(half_open.established)
        self._forget_earlier(session, half_open.created)
        if self._full:
            self._engine.places.make_room()
        path = session.add_path(key, via, now, unasked=not proven)
        if proven:
            session.validate(path, now)
        return self._engine.adopt(session)

    def _forget_twins(self, chosen: Established) -> None:
        """The peer took one of our answers to the INITs of its dial: it does not go on with the others."""
        for index, half_open in list(self.half_open.items()):
            other = half_open.established
            if other.peer_id == chosen.peer_id and other.hello == chosen.hello:
                del self.half_open[index]  # but a repeat that is still under way is not to begin anew

    def _forget_earlier(self, session: Session, since: float) -> None:
        """The peer is there: what another process of it began before is not gone on with.  Its last packet may have
        been held back on the way, and would end this session as if the peer had restarted again."""
        for index, half_open in list(self.half_open.items()):
            if half_open.established.peer_id == session.peer_id and half_open.created <= since:
                try:
                    same = Hello.decode(half_open.established.hello).boot_id == session.remote.boot_id
                except DecodeError:
                    same = False
                if not same:
                    del self.half_open[index]

    def _make_session(self, established: Established, local: Hello, now: float) -> Session | None:
        try:
            remote = Hello.decode(established.hello)
        except DecodeError:
            return None
        return Session(
            peer_id=established.peer_id,
            initiator=established.initiator,
            local_index=established.local_index,
            remote_index=established.remote_index,
            keys=KeyRing(
                established.send_key,
                established.receive_key,
                established.rekey_secret,
                established.initiator,
                self._engine.random_bytes,
                local.prefers_aes and remote.prefers_aes,
            ),
            local=local,
            remote=remote,
            times=self._engine.times,
            random_bytes=self._engine.random_bytes,
            now=now,
            workspace=self._engine.workspace,
        )

    # a restarted peer

    def _say_stranger(self, index: int, data: memoryview, skip: int, key: PathKey, via: PeerId | None) -> None:
        """Tell the sender of DATA that its session is unknown here, so that it can shake hands anew.

        Not in a private mesh, where a stranger is to hear nothing: there a silent session makes its peer try anew.
        """
        if self._engine.config.network_key is not None or not self._stranger_budget.take(self._engine.now()):
            return
        counter = struct.unpack_from("<Q", data, skip + 8)[0]
        self._engine.send_packet(packets.stranger(index, counter), key, via)

    def _on_stranger_untrusted(self, data: bytes, key: PathKey) -> None:
        # anybody can send this: it only makes us shake hands, and not often
        if len(data) != packets.STRANGER_SIZE:
            self._engine.counters.dropped_unknown += 1
            return
        index, counter = _unpack_stranger(data, 4)
        live = self._engine.by_remote.get(index)
        if live is None or key not in live.session.paths or counter >= live.session.out.next_number:
            self._engine.counters.dropped_unknown += 1
            return
        self._engine.on_stranger(live)

    # handshakes

    def receive_untrusted(self, kind: int, data: bytes, key: PathKey, via: PeerId | None) -> None:
        """Handle any packet that is neither DATA nor CIRCUIT; ``via`` is the relay that it came over, if any."""
        now = self._engine.now()
        if kind == packets.INIT:
            self._asked_on = key, via
            if isinstance(key, bytes):
                relay = bytes(via) if via is not None else None
                answer = self.responder.receive_init(data, None, now, relay=relay, circuit=key)
            else:
                answer = self.responder.receive_init(data, key[1].pack(), now)
            if isinstance(answer, Reply):
                if answer.fresh:
                    self.expire_half_open(now)
                    established = answer.established
                    self.half_open[established.local_index] = HalfOpen(established, self.hello(), now)
                half_open = self.half_open.get(answer.established.local_index)
                if half_open is not None and len(half_open.answered) < 2:
                    half_open.answered.add(key)
                self._engine.send_packet(answer.packet, key, via)
            elif isinstance(answer, CookieReply):
                self._engine.send_packet(answer.packet, key, via)
            else:
                self._engine.counters.dropped_handshake += 1
            return
        if kind == packets.STRANGER:
            self._on_stranger_untrusted(data, key)
            return
        if kind == packets.CANARY and not isinstance(key, bytes):
            self._engine.on_canary_untrusted(data, *key)
            return
        if kind not in (packets.RESPONSE, packets.COOKIE):
            self._engine.counters.dropped_unknown += 1
            return
        index = peek_indices_untrusted(data).receiver
        dial = self.dials.get(index) if index is not None else None
        if dial is None:
            self._engine.counters.dropped_handshake += 1
            return
        knock = next(k for k in dial.knocks if k.initiator.local_index == index)
        try:
            if kind == packets.COOKIE:
                self._on_cookie(knock, data, key, via)
                return
            established = knock.initiator.receive_response(data)
        except HandshakeRejected:
            self._engine.counters.dropped_handshake += 1
            return
        session = self._make_session(established, dial.local, now)
        if session is None:
            self._engine.counters.dropped_handshake += 1
            return
        self._forget_earlier(session, now)
        path = session.add_path(key, via, now)
        sent_at = knock.sent_at.get(key)
        if sent_at is not None and (knock.relayed or len(knock.sent_at) == 1):
            path.rtt.sample(now - sent_at, 0.0)
            session.validate(path, now)
        else:  # the INIT may have been received elsewhere: that somebody receives here is still to be shown
            session.queue_challenge(path, now)
        self.drop_dial(dial)
        self._engine.touch(self._engine.adopt(session))

    def _on_cookie(self, knock: Knock, data: bytes, key: PathKey, via: PeerId | None) -> None:
        # its sender is the peer, but its source may be anybody: no INIT goes where none went before, and not many do
        count = knock.cookies.get(key, 0)
        if key not in knock.sent_at or count >= _MAX_COOKIES:
            raise HandshakeRejected("cookie")
        knock.initiator.receive_cookie(data)
        knock.cookies[key] = count + 1
        self._engine.send_packet(knock.initiator.packet, key, via)

    def expire_half_open(self, now: float) -> None:
        """Forget handshakes that were answered and not gone on with."""
        self.responder.expire(now)
        for index, half_open in list(self.half_open.items()):
            if half_open.created > now - _HALF_OPEN_LIFETIME and len(self.half_open) < _MAX_HALF_OPEN:
                break
            del self.half_open[index]
            self.responder.forget(index)

    def start_dial(self, peer_id: PeerId) -> Dial:
        """A new attempt; register it so that answers find it.  The caller sends its packet where it may work."""
        most = self._engine.config.max_sessions
        # to have us dial anew a peer that has a session need only be silent: that must not take what is kept for others
        full = self._full if peer_id in self._engine.peers else len(self._engine.sessions) >= most
        if full:
            raise PeerUnreachableError(f"this node already has its {most} sessions")
        dial = Dial(peer_id, self.hello(), trio.Event(), trio.Event())
        self.dialing[peer_id] = dial
        return dial

    def init_for(self, dial: Dial, key: PathKey, now: float) -> bytes:
        """The INIT of the dial for that path; it counts as sent there."""
        relayed = isinstance(key, bytes)
        alike = [knock for knock in dial.knocks if knock.relayed is relayed]
        knock = next((knock for knock in alike if key in knock.sent_at), None)
        if knock is None:
            # where a circuit leads to nothing has to be shown, so one INIT does for all of them
            share = len(alike) >= (1 if relayed else _MAX_INITS)
            knock = alike[-1] if share else self._new_knock(dial, relayed)
            knock.sent_at[key] = now
        return knock.initiator.packet

    def _new_knock(self, dial: Dial, relayed: bool) -> Knock:
        initiator = Initiator(
            self._engine.identity,
            dial.peer_id,
            network_key=self._engine.network_key,
            local_index=self._free_index(),
            hello=dial.local.encode(),
            random_bytes=self._engine.random_bytes,
        )
        knock = Knock(initiator, relayed)
        dial.knocks.append(knock)
        self.dials[initiator.local_index] = dial
        return knock

    def drop_dial(self, dial: Dial) -> None:
        """The attempt is over."""
        for knock in dial.knocks:
            self.dials.pop(knock.initiator.local_index, None)
        if self.dialing.get(dial.peer_id) is dial:
            del self.dialing[dial.peer_id]
        dial.done.set()
        dial.wake.set()

    def end_dials(self) -> None:
        """The node is closing: no attempt goes on."""
        for dial in list(self.dialing.values()):
            self.drop_dial(dial)
