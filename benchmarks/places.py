"""Where the ends of a subject live, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import attrs

from netmesh_trio.testing.namespaces import Host, KernelInternet, unavailable_reason

__all__ = ["PLACES", "Place", "Spot", "missing"]


@attrs.frozen
class Spot:
    """A host."""

    #: Its address.
    bind: str = "127.0.0.1"
    #: What comes before a command that is to run there.
    prefix: tuple[str, ...] = ()

    @classmethod
    def on(cls, host: Host) -> Spot:
        """A host of the laboratory."""
        return cls(host.address, tuple(host.command([])))


@attrs.frozen(kw_only=True)
class Place:
    """The hosts of all ends."""

    server: Spot
    client: Spot
    relay: Spot | None = None
    #: UDP payload that fits, bytes; None where path MTU discovery may find more.
    datagram: int | None = None
    #: Whether a direct path is to be looked for.
    direct: bool = True


@contextmanager
def _loopback() -> Iterator[Place]:
    yield Place(server=Spot(), client=Spot())


@contextmanager
def _relayed() -> Iterator[Place]:
    yield Place(server=Spot(), client=Spot(), relay=Spot(), direct=False)


@contextmanager
def _namespaces() -> Iterator[Place]:
    with KernelInternet("nmb") as lab:
        yield Place(server=Spot.on(lab.host("a")), client=Spot.on(lab.host("b")), datagram=1400)


@contextmanager
def _nats() -> Iterator[Place]:
    # each link 5 ms: 40 ms there and back over the relay, 20 ms without it
    delay = 0.005
    with KernelInternet("nmb") as lab:
        relay = lab.host("r", delay=delay)
        a = lab.nat("na", kind="port-preserving").host("a", delay=delay)
        b = lab.nat("nb", kind="port-preserving").host("b", delay=delay)
        yield Place(server=Spot.on(a), client=Spot.on(b), relay=Spot.on(relay), datagram=1400)


#: All places, by name.
PLACES: dict[str, Callable[[], AbstractContextManager[Place]]] = {
    "loopback": _loopback,
    "relay": _relayed,
    "namespaces": _namespaces,
    "NATs": _nats,
}


def missing(place: str) -> str | None:
    """Why there is no such place here; None if there is."""
    return unavailable_reason() if place in ("namespaces", "NATs") else None
