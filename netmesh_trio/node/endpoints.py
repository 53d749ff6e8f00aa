"""The circuits that end at a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

from ..identity import PeerId

__all__ = ["Endpoints"]


class Endpoints(MutableMapping[bytes, PeerId]):
    """Circuit ids, and the neighbor that carries each; those of one neighbor are at hand."""

    def __init__(self) -> None:
        self._relays: dict[bytes, PeerId] = {}
        self._over: dict[PeerId, dict[bytes, None]] = {}
        #: :meth:`get` without what a mapping of Python takes for it: this is asked for every batch of relayed packets.
        self.find: Callable[[bytes], PeerId | None] = self._relays.get

    def over(self, relay: PeerId) -> frozenset[bytes]:
        """The circuits over one neighbor."""
        return frozenset(self._over.get(relay, ()))

    def oldest_over(self, relay: PeerId) -> tuple[bytes, ...]:
        """The same, those first that were there first."""
        return tuple(self._over.get(relay, ()))

    def count_over(self, relay: PeerId) -> int:
        """How many those are."""
        return len(self._over.get(relay, ()))

    def __contains__(self, circuit_id: object) -> bool:
        return circuit_id in self._relays

    def __getitem__(self, circuit_id: bytes) -> PeerId:
        return self._relays[circuit_id]

    def __setitem__(self, circuit_id: bytes, relay: PeerId) -> None:
        if circuit_id in self._relays:
            del self[circuit_id]
        self._relays[circuit_id] = relay
        self._over.setdefault(relay, {})[circuit_id] = None

    def __delitem__(self, circuit_id: bytes) -> None:
        relay = self._relays.pop(circuit_id)
        same = self._over[relay]
        del same[circuit_id]
        if not same:
            del self._over[relay]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._relays)

    def __len__(self) -> int:
        return len(self._relays)
