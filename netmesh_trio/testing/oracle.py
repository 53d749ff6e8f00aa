"""Is a direct path possible at all?  The answer from what the NATs do, without trying.

A test compares with it what a program achieved: where the oracle says no, relaying is the right
outcome; where it says yes, a program that stays on the relay has missed something.

Assumed: both ends know their own addresses and what a peer on the internet sees of them, tell each
other, speak first when asked to, go on doing so, and answer an unexpected source (RFC 8445 calls it
a peer-reflexive candidate).  Not assumed: guessing ports.  *Possible* means that packets get
through both ways between one pair of addresses learned so: each end sends to where the packets of
the other come from.  (Between two NATs that map by address and port, one of which lets in anybody,
packets would get through both ways if each end sent to another address than it receives from.
Paths of a session are not like that.)
"""

from __future__ import annotations

from collections.abc import Sequence

from netmesh_trio.testing.behavior import Dependence, NatBehavior, as_chain

__all__ = ["direct_path_possible"]

_LEVEL = {
    Dependence.ENDPOINT_INDEPENDENT: 0,
    Dependence.ADDRESS_DEPENDENT: 1,
    Dependence.ADDRESS_AND_PORT_DEPENDENT: 2,
}


def direct_path_possible(
    a: str | NatBehavior | Sequence[NatBehavior] | None,
    b: str | NatBehavior | Sequence[NatBehavior] | None,
    *,
    shared: int = 0,
) -> bool:
    """Whether two hosts behind ``a`` and ``b`` can have a direct path.

    Each is a name in :data:`~netmesh_trio.testing.KINDS`, one behavior, a sequence of behaviors
    from the host outward, or None for a host on the internet itself.  ``shared`` is how many of the
    outermost boxes are one and the same box for both: two hosts behind one home router have
    ``shared=1``.

    >>> direct_path_possible("symmetric", "address-restricted")
    True
    >>> direct_path_possible("symmetric", "port-restricted")
    False
    >>> direct_path_possible("symmetric", "symmetric", shared=1)
    True

    :raises ValueError: for an unknown name, or if the shared boxes are not the same.
    """
    chain_a, chain_b = as_chain(a), as_chain(b)
    common = chain_a[len(chain_a) - shared :]
    if not 0 <= shared <= min(len(chain_a), len(chain_b)) or common != chain_b[len(chain_b) - shared :]:
        raise ValueError(f"the {shared} outermost boxes of both ends are not the same")
    if shared and _meet_inside(_Judged(chain_a[:-shared]), _Judged(chain_b[:-shared])):
        return True
    while common and not common[-1].translates:
        # What the internet sees of both lies on this side of a firewall: packets never cross it.
        chain_a, chain_b, common = chain_a[:-1], chain_b[:-1], common[:-1]
    if common and not common[-1].hairpin:
        return False
    return _punches(_Judged(chain_a), _Judged(chain_b))


class _Judged:
    """A chain of boxes as one.

    ``mapping``: the worst of all.  ``early`` and ``late``: the strictest filter before and after
    the way out has become dependent on the destination.  An early box lets in whatever the host has
    sent to; a late one keeps its books for each destination, so only that destination gets in.
    """

    __slots__ = ("early", "late", "mapping", "translates")

    def __init__(self, chain: tuple[NatBehavior, ...]) -> None:
        self.mapping = self.early = self.late = 0
        self.translates = any(box.translates for box in chain)
        for box in chain:
            if box.translates:
                self.mapping = max(self.mapping, _LEVEL[box.mapping])
            level = _LEVEL[box.filtering]
            if self.mapping:
                self.late = max(self.late, level)
            else:
                self.early = max(self.early, level)

    @property
    def filtering(self) -> int:
        return max(self.early, self.late)


def _meet_inside(a: _Judged, b: _Judged) -> bool:
    """In the network where the two ways meet, judged by what is between it and each end.

    Nobody there tells an end how it looks from there.  One that is not translated knows.
    """
    if a.translates and b.translates:
        return False
    if not a.translates and not b.translates:
        return True
    known = b if a.translates else a
    # The other one speaks first, unannounced, and is answered at the source that was seen.
    return known.filtering == 0


def _punches(a: _Judged, b: _Judged) -> bool:
    if not a.mapping and not b.mapping:
        return True  # each is where the other one thinks, and has sent there
    if not a.mapping:
        return a.filtering <= 1  # b comes from another port than a has sent to, of the same address
    if not b.mapping:
        return b.filtering <= 1
    return _reaches_reflexive(a, b) or _reaches_reflexive(b, a)


def _reaches_reflexive(a: _Judged, b: _Judged) -> bool:
    """Both map by destination: a gets in where b was seen, and b's answer gets back to a.

    The answer comes from another port of b than a has sent to.  When a sends there, it does so from the same port as
    before, or b goes on to send from the same, if one of the two maps by address only.
    """
    return not b.late and b.early <= 1 and a.filtering <= 1 and min(a.mapping, b.mapping) == 1
