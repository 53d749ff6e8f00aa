from __future__ import annotations

import copy
import pickle

import pytest

from netmesh_trio.errors import NetmeshError
from netmesh_trio.traversal import (
    PeerNotReachableError,
    PortMapUnavailableError,
    PunchFailedError,
    ReflexTimeoutError,
    RendezvousNoRelayError,
    RendezvousRejectedError,
    TransportError,
    TraversalError,
    UnsupportedError,
)
from netmesh_trio.traversal.rendezvous import RejectReason

KINDS = {
    ReflexTimeoutError: "reflex-timeout",
    PeerNotReachableError: "peer-not-reachable",
    TransportError: "transport",
    RendezvousNoRelayError: "rendezvous-no-relay",
    RendezvousRejectedError: "rendezvous-rejected",
    PunchFailedError: "punch-failed",
    PortMapUnavailableError: "port-map-unavailable",
    UnsupportedError: "unsupported",
}


@pytest.mark.parametrize(("error", "kind"), KINDS.items(), ids=list(KINDS.values()))
def test_kinds_and_texts(error: type[TraversalError], kind: str) -> None:
    made = error("some detail")
    assert made.kind == kind == error.kind
    assert isinstance(made, NetmeshError)
    assert "some detail" in str(made)
    assert "\n" not in str(made)
    for twin in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(twin) is error
        assert str(twin) == str(made)
        assert twin.__dict__ == made.__dict__


@pytest.mark.parametrize("error", KINDS)
def test_none_says_that_peers_cannot_communicate(error: type[TraversalError]) -> None:
    made = str(error("x"))
    assert any(word in made for word in ("relay", "path it has"))
    assert any(word in (error.__doc__ or "").lower() for word in ("relay", "made shorter"))
    assert not any(word in made for word in ("connection failed", "unreachable", "cannot connect"))


def test_no_other_kinds() -> None:
    assert set(TraversalError.__subclasses__()) == set(KINDS)


@pytest.mark.parametrize("reason", RejectReason)
def test_every_reason_of_a_rejection_is_explained(reason: RejectReason) -> None:
    error = RendezvousRejectedError(reason.value)
    assert error.reason == reason.value
    assert f"({reason.value}: " in str(error)


def test_an_unknown_reason_is_told_as_it_is() -> None:
    assert "(shy)" in str(RendezvousRejectedError("shy"))
    assert "()" not in str(PunchFailedError())
