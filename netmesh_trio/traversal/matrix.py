"""What to do about a pair of NATs: go straight, punch, or leave it at the relay."""

from __future__ import annotations

import enum

import attrs

from .classify import NatType
from .report import Dependence

__all__ = ["PairHints", "PunchAction", "pair_action", "refine"]


class PunchAction(str, enum.Enum):
    """How two peers look for a direct path.  Their traffic rides the relay meanwhile, and afterwards if need be."""

    DIRECT = "direct"
    """No timing needs coordinating: whichever end is behind a NAT speaks first."""
    PUNCH = "punch"
    """A coordinator introduces the two, and both send at once."""
    SKIP = "skip"
    """There is no chance without guessing ports."""


_O, _C, _S, _U = NatType.OPEN, NatType.CONE, NatType.SYMMETRIC, NatType.UNKNOWN
_D, _P, _X = PunchAction.DIRECT, PunchAction.PUNCH, PunchAction.SKIP

_MATRIX = {
    # local: remote open, cone, symmetric, unknown
    _O: {_O: _D, _C: _D, _S: _P, _U: _D},
    _C: {_O: _D, _C: _P, _S: _P, _U: _P},
    _S: {_O: _P, _C: _P, _S: _X, _U: _X},
    _U: {_O: _D, _C: _P, _S: _X, _U: _D},
}


def pair_action(local: NatType, remote: NatType) -> PunchAction:
    """What the two announced kinds call for."""
    return _MATRIX[local][remote]


@attrs.frozen(kw_only=True)
class PairHints:
    """What the two ends know beyond their kinds; what neither knows is None or False."""

    told: bool = False
    """The other end has told its candidates: it looks for a direct path, too."""
    local_filtering: Dependence | None = None
    remote_filtering: Dependence | None = None
    same_public_host: bool = False
    """Others see both at one address: they may be in one network."""
    common_network: bool = False
    """An address of the other lies on a network of ours."""
    both_ipv6: bool = False
    """Both have a global IPv6 address."""


def refine(local: NatType, remote: NatType, hints: PairHints) -> PunchAction:
    """As :func:`pair_action`, but a skip becomes a try where more is known; never the reverse.

    A pair is skipped where the mapping of at least one end depends on the destination, and of the other may.  Then
    a packet arrives from an address that nobody announced.

    *One kind is unknown.*  Its mapping may well be the same for everybody.  Then what the symmetric end lets in does
    not matter, for it is sent to from where it sends to; and the other end lets it in unless its filter looks at
    ports.

    *Both are symmetric.*  One end has to let in anybody, and the other anybody at an address that it has sent to.
    """
    action = pair_action(local, remote)
    if action is not PunchAction.SKIP:
        return action
    if hints.same_public_host or hints.common_network or hints.both_ipv6:
        return PunchAction.DIRECT
    strict = Dependence.ADDRESS_AND_PORT_DEPENDENT
    filters = (hints.local_filtering, hints.remote_filtering)
    if NatType.UNKNOWN in (local, remote):
        filtering = hints.local_filtering if local is NatType.UNKNOWN else hints.remote_filtering
        possible = hints.told and filtering is not strict
    else:
        possible = Dependence.ENDPOINT_INDEPENDENT in filters and strict not in filters
    return PunchAction.PUNCH if possible else action
