from __future__ import annotations

import itertools

import pytest

from netmesh_trio.traversal import Dependence, NatType, PunchAction, pair_action
from netmesh_trio.traversal.matrix import FirstSpeaker, PairHints, first_speaker, refine

O, C, S, U = NatType.OPEN, NatType.CONE, NatType.SYMMETRIC, NatType.UNKNOWN  # noqa: E741
DIRECT, PUNCH, SKIP = PunchAction.DIRECT, PunchAction.PUNCH, PunchAction.SKIP
LOCAL, REMOTE, BOTH = FirstSpeaker.LOCAL, FirstSpeaker.REMOTE, FirstSpeaker.BOTH
EI, AD, APD = Dependence

CELLS = [
    (O, O, DIRECT, BOTH),
    (O, C, DIRECT, REMOTE),
    (O, S, PUNCH, REMOTE),
    (O, U, DIRECT, BOTH),
    (C, O, DIRECT, LOCAL),
    (C, C, PUNCH, BOTH),
    (C, S, PUNCH, BOTH),
    (C, U, PUNCH, BOTH),
    (S, O, PUNCH, LOCAL),
    (S, C, PUNCH, BOTH),
    (S, S, SKIP, BOTH),
    (S, U, SKIP, BOTH),
    (U, O, DIRECT, BOTH),
    (U, C, PUNCH, BOTH),
    (U, S, SKIP, BOTH),
    (U, U, DIRECT, BOTH),
]


@pytest.mark.parametrize(("local", "remote", "action", "speaker"), CELLS)
def test_cells(local: NatType, remote: NatType, action: PunchAction, speaker: FirstSpeaker) -> None:
    assert pair_action(local, remote) is action
    assert pair_action(remote, local) is action  # both ends come to the same
    assert first_speaker(local, remote) is speaker


def test_all_cells_are_there() -> None:
    assert {(local, remote) for local, remote, *_ in CELLS} == set(itertools.product(NatType, NatType))


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
        (PairHints(same_public_host=True, local_filtering=APD, remote_filtering=APD), PUNCH),
        (PairHints(common_network=True), PUNCH),
        (PairHints(both_ipv6=True), PUNCH),
    ],
)
def test_a_skip_may_become_a_try(hints: PairHints, expected: PunchAction) -> None:
    assert refine(SKIP, hints) is expected


@pytest.mark.parametrize("action", [DIRECT, PUNCH])
def test_a_try_never_becomes_a_skip(action: PunchAction) -> None:
    known = (None, EI, AD, APD)
    for local, remote, shared in itertools.product(known, known, (True, False)):
        hints = PairHints(local_filtering=local, remote_filtering=remote, same_public_host=shared)
        assert refine(action, hints) is action
