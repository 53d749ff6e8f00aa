"""Which path a session uses: values in, a path out."""

from __future__ import annotations

from collections.abc import Iterable

from .path import Path, PathKind

__all__ = ["better_path", "choose_path"]

# A path takes the place of a working one of its kind only if it is this much faster.
_HYSTERESIS = 0.8
_MARGIN = 0.005


def better_path(candidate: Path, present: Path) -> bool:
    """Whether ``candidate`` should take over from ``present``, both being usable and answering.

    A direct path beats a relayed one, and one within the same network another; else the round-trip time decides, with a
    margin, so that two equal paths do not alternate.  The present path is judged by the best that it ever did: what it
    does now includes the queue that our own traffic makes on it, and would make on the other.
    """
    if candidate.kind is not present.kind:
        return candidate.kind is PathKind.DIRECT
    if candidate.rank != present.rank:
        return candidate.rank < present.rank
    new, old = candidate.rtt, present.rtt
    if not new.samples or not old.samples:
        return False
    return new.smoothed < _HYSTERESIS * old.minimum - _MARGIN


def choose_path(present: Path | None, paths: Iterable[Path], *, controlling: bool) -> Path | None:
    """The path to use, given the present one.

    A present path that answers is only left by the controlling side, and for a better one; one that does not answer
    is left by either side for any that does.
    """
    answering = [p for p in paths if p.usable and not p.suspect]
    if present is not None and present.usable and not present.suspect:
        if not controlling:
            return present
        best = present
    elif answering:
        best = answering[0]
    else:
        return present if present is not None and present.usable else None
    for path in answering:
        if better_path(path, best):
            best = path
    return best
