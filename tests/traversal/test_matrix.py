from __future__ import annotations

import itertools

import pytest

from netmesh_trio.traversal import Dependence, NatType, PunchAction, pair_action
from netmesh_trio.traversal.matrix import PairHints, refine

O, C, S, U = NatType.OPEN, NatType.CONE, NatType.SYMMETRIC, NatType.UNKNOWN  # noqa: E741
DIRECT, PUNCH, SKIP = PunchAction.DIRECT, PunchAction.PUNCH, PunchAction.SKIP
EI, AD, APD = Dependence

CELLS = [
    (O, O, DIRECT),
    (O, C, DIRECT),
    (O, S, PUNCH),
    (O, U, DIRECT),
    (C, O, DIRECT),
    (C, C, PUNCH),
    (C, S, PUNCH),
    (C, U, PUNCH),
    (S, O, PUNCH),
    (S, C, PUNCH),
    (S, S, SKIP),
    (S, U, SKIP),
    (U, O, DIRECT),
    (U, C, PUNCH),
    (U, S, SKIP),
    (U, U, DIRECT),
]


@pytest.mark.parametrize(("local", "remote", "action"), CELLS)
def test_cells(local: NatType, remote: NatType, action: PunchAction) -> None:
    assert pair_action(local, remote) is action
    assert pair_action(remote, local) is action  # both ends come to the same
    assert refine(local, remote, PairHints()) is action


def test_all_cells_are_there() -> None:
    assert {(local, remote) for local, remote, _ in CELLS} == set(itertools.product(NatType, NatType))


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (PairHints(), SKIP),
        (PairHints(remote_filtering=EI), PUNCH),
        (PairHints(local_filtering=EI), PUNCH),
        (PairHints(local_filtering=EI, remote_filtering=EI), PUNCH),
        (PairHints(local_filtering=EI, remote_filtering=AD), PUNCH),
        (PairHints(local_filtering=EI, remote_filtering=APD), SKIP),
        (PairHints(local_filtering=APD, remote_filtering=EI), SKIP),
        (PairHints(local_filtering=AD, remote_filtering=AD), SKIP),
        (PairHints(remote_filtering=AD), SKIP),
        (PairHints(told=True), SKIP),
        (PairHints(same_public_host=True, local_filtering=APD, remote_filtering=APD), DIRECT),
        (PairHints(common_network=True), DIRECT),
        (PairHints(both_ipv6=True), DIRECT),
    ],
)
def test_two_symmetric_ends(hints: PairHints, expected: PunchAction) -> None:
    assert refine(S, S, hints) is expected


@pytest.mark.parametrize(
    ("known", "unknown", "expected"),
    [
        (APD, None, PUNCH),
        (APD, EI, PUNCH),
        (APD, AD, PUNCH),
        (None, None, PUNCH),
        (EI, APD, SKIP),
        (None, APD, SKIP),
    ],
)
def test_symmetric_with_an_unknown_kind(
    known: Dependence | None, unknown: Dependence | None, expected: PunchAction
) -> None:
    """What the end of unknown kind lets in is what matters, and that it told anything at all."""
    assert refine(S, U, PairHints(told=True, local_filtering=known, remote_filtering=unknown)) is expected
    assert refine(U, S, PairHints(told=True, local_filtering=unknown, remote_filtering=known)) is expected
    assert refine(S, U, PairHints(local_filtering=known, remote_filtering=unknown)) is SKIP
    assert refine(U, S, PairHints(common_network=True)) is DIRECT


def test_a_try_never_becomes_a_skip() -> None:
    known = (None, EI, AD, APD)
    for local, remote, action in CELLS:
        if action is not SKIP:
            for ours, theirs, yes in itertools.product(known, known, (True, False)):
                hints = PairHints(told=yes, local_filtering=ours, remote_filtering=theirs, same_public_host=yes)
                assert refine(local, remote, hints) is action
