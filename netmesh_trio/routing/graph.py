"""The map of the mesh: living announcements, and which relay is a neighbor of which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from netmesh_trio.identity import PeerId
from netmesh_trio.routing.announcements import Announcement

__all__ = ["MeshGraph"]


class MeshGraph:
    """Living announcements by peer, and the edges between relays in both directions.

    An edge joins two *relay-capable* nodes of which at least one announces the other (a relay with
    more neighbors than fit in its announcement leaves some out, so asking for both would lose true
    edges).  It may be a lie, which costs whoever believes it a refusal.  Where an ordinary node is
    reachable, only that node itself says.
    """

    def __init__(self, announcements: Iterable[Announcement] = ()) -> None:
        self._live: dict[PeerId, Announcement] = {}
        self._named_by: dict[PeerId, dict[PeerId, None]] = {}  # only what relays announce
        self._live_view = MappingProxyType(self._live)
        for announcement in announcements:
            self.update(announcement)

    @property
    def live(self) -> Mapping[PeerId, Announcement]:
        """A view of the living announcements, by origin."""
        return self._live_view

    def update(self, announcement: Announcement) -> None:
        """Put *announcement* in the place of what its origin said before; a withdrawal only removes
        that."""
        self.remove(announcement.peer_id)
        if announcement.is_withdrawal:
            return
        origin = announcement.peer_id
        self._live[origin] = announcement
        if announcement.relay_capable:
            for relay in announcement.relays:
                self._named_by.setdefault(relay, {})[origin] = None

    def remove(self, peer_id: PeerId) -> None:
        """Forget what *peer_id* announced, if anything."""
        old = self._live.pop(peer_id, None)
        if old is None or not old.relay_capable:
            return
        for relay in old.relays:
            named_by = self._named_by[relay]
            del named_by[peer_id]
            if not named_by:
                del self._named_by[relay]

    def is_relay(self, peer_id: PeerId) -> bool:
        """Whether *peer_id* now offers to carry circuits for others."""
        announcement = self._live.get(peer_id)
        return announcement is not None and announcement.relay_capable

    def relays_next_to(self, relay: PeerId) -> Iterator[PeerId]:
        """The relays with an edge to *relay*; one that both announce may come twice."""
        yield from self._named_by.get(relay, ())
        announcement = self._live.get(relay)
        if announcement is not None and announcement.relay_capable:
            for neighbor in announcement.relays:
                if self.is_relay(neighbor):
                    yield neighbor
