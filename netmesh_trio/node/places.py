"""The places that a node has for the sessions of others: who has how many, and who gives one up when all are taken."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from ..routing.shares import Places

if TYPE_CHECKING:
    from .engine import Engine
    from .live import LiveSession
    from .peer import Peer

__all__ = ["SessionPlaces"]


class SessionPlaces:
    """Keys cost nothing, so sessions are shared by address; see :func:`~netmesh_trio.node.households.household`.

    A session counts for where its data goes now.  Those with peers that this node itself asked for count for nobody,
    and are never given up.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._places: Places[Hashable, LiveSession] = Places()
        self._homes: dict[LiveSession, Hashable] = {}
        #: Sessions ended to make room for those of somebody who had fewer.
        self.displaced: int = 0

    def may_displace(self, home: Hashable) -> bool:
        """Whether somebody has so many more that one is given up for that home."""
        return self._places.may_displace(home)

    def make_room(self) -> None:
        """End a session of whoever has most: an idle one before one in use, a relayed one before a direct one."""
        live = self._places.idlest(self._value)
        self.displaced += 1
        self._engine.end_session(live, "no room for it any more")

    def _value(self, live: LiveSession) -> tuple[bool, bool, float]:
        engine = self._engine
        peer = live.peer
        streams = live.session.streams
        used = bool(streams.sending or streams.receiving) or (peer.live is live and engine.carries(peer.peer_id))
        return used, not live.relayed, live.session.last_received

    # what becomes of sessions

    def enter(self, live: LiveSession) -> None:
        """A session is up, or its data takes another path."""
        if live.peer.wanted or self._engine.sessions.get(live.session.local_index) is not live:
            return
        home = live.household
        if self._homes.get(live) != home:
            self.leave(live)
            self._homes[live] = home
            self._places.add(home, live)

    def leave(self, live: LiveSession) -> None:
        """A session is over."""
        home = self._homes.pop(live, None)
        if home is not None:
            self._places.remove(home, live)

    def keep(self, peer: Peer) -> None:
        """This node asks for a session with the peer: that is given up for nobody."""
        peer.wanted = True
        for live in peer.sessions:
            self.leave(live)
