"""What keeps a path from becoming direct.

Every error here is the failure of an *optimization*: traffic between the two peers goes on over the relay, as it did
before and as it can for ever.  ``kind`` is a stable, machine-readable name that never changes.
"""

from __future__ import annotations

from ..errors import NetmeshError

__all__ = [
    "PeerNotReachableError",
    "PortMapUnavailableError",
    "PunchFailedError",
    "ReflexTimeoutError",
    "RendezvousNoRelayError",
    "RendezvousRejectedError",
    "TransportError",
    "TraversalError",
    "UnsupportedError",
]


class TraversalError(NetmeshError):
    """Base of the reasons why a path is not (yet) direct; the relay carries the traffic all the same.

    ``detail`` is what this case adds to the general statement, or empty.
    """

    kind = "traversal"
    _summary = "no shorter path was found"
    _consequence = "traffic stays on the relay"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        middle = f" ({self.detail})" if self.detail else ""
        return f"{self._summary}{middle}; {self._consequence}"


class ReflexTimeoutError(TraversalError):
    """A peer did not say in time under which address it sees us.

    Only what we know about our own NAT is poorer for it; traffic stays on the relay or whatever path it has.
    """

    kind = "reflex-timeout"
    _summary = "the peer did not say in time which address it sees"
    _consequence = "traffic stays on the path it has"


class PeerNotReachableError(TraversalError):
    """There is no session with the peer over which to ask for anything, so nothing could be made shorter."""

    kind = "peer-not-reachable"
    _summary = "there is no session with the peer to make shorter"
    _consequence = "connect() looks for a way over the relays"


class TransportError(TraversalError):
    """The probes could not be sent (no socket of that address family, refused by the system).

    A failure of this optimization only: traffic stays on the relay.
    """

    kind = "transport"
    _summary = "the probes could not be sent"


class RendezvousNoRelayError(TraversalError):
    """No connected node could introduce the two peers to each other; traffic stays on the relay."""

    kind = "rendezvous-no-relay"
    _summary = "no connected node can introduce the two peers"


#: What the reasons of a rejection mean, for people.
_REJECTIONS = {
    "rate-limited": "it was asked too often; a later attempt may succeed",
    "unknown-reflex": "it does not see from outside where one of the two is",
    "no-session": "it has no session with the peer",
    "address-mismatch": "it sees us at another address than we named",
    "busy": "it answers too many others just now; another attempt is made soon",
}


class RendezvousRejectedError(TraversalError):
    """The node that was to introduce the peers declined, or the peer put the attempt off; traffic stays on the relay.

    ``reason`` is ``"rate-limited"``, ``"unknown-reflex"``, ``"no-session"`` or ``"address-mismatch"``, as the
    coordinator says, or ``"busy"``, as the peer does: the next attempt is soon.
    """

    kind = "rendezvous-rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        meaning = _REJECTIONS.get(self.reason)
        why = f"{self.reason}: {meaning}" if meaning else self.reason
        who = "the peer put us off" if self.reason == "busy" else "the coordinator declined to introduce us"
        return f"{who} ({why}); {self._consequence}"


class PunchFailedError(TraversalError):
    """No probe got through within the deadline, or the NATs of both ends leave none a chance.

    Traffic stays on the relay; it is tried again when a network changes, and from time to time.
    """

    kind = "punch-failed"
    _summary = "no probe got through to the peer"


class PortMapUnavailableError(TraversalError):
    """No router granted a port mapping (UPnP, NAT-PMP and PCP were tried).

    Fewer peers find a shorter path to us by themselves; all reach us as before, at worst over the relay.
    """

    kind = "port-map-unavailable"
    _summary = "no router granted a port mapping"
    _consequence = "peers reach this node as before, over the relay where need be"


class UnsupportedError(TraversalError):
    """The peer does not offer NAT traversal (it lacks the tag ``nat-traversal``), or it is switched off here.

    Traffic stays on the relay, as that peer or this program asked for.
    """

    kind = "unsupported"
    _summary = "NAT traversal is switched off at one of the two ends"
