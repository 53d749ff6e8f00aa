"""The table of announcements: what is new, what is passed on, and what is forgotten when.

Flooding as link-state protocols do it (RFC 2328, section 13): each announcement is taken once, by
origin and sequence number, and goes to all neighbors but the one it came from.  A node that
restarts with a low number heals itself: its neighbor answers with the newer one that it holds, and
the node goes on from there.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import attrs

from netmesh_trio.buckets import TokenBucket
from netmesh_trio.identity import PeerId
from netmesh_trio.routing.announcements import (
    MAX_ANNOUNCEMENT_HOPS,
    Announcement,
    Envelope,
)
from netmesh_trio.routing.graph import MeshGraph
from netmesh_trio.routing.shares import Shares

__all__ = ["AnnouncementStore", "Decision", "StoreLimits", "StoreStats", "Verdict"]

# For so many seconds another copy of an announcement may show that the first one lied about its age or way; by so much.
_IMPROVED_FOR = 30.0
_MUCH_YOUNGER = 5.0
_FAR = MAX_ANNOUNCEMENT_HOPS // 2


class Verdict(enum.Enum):
    """What became of an announcement that came in."""

    NEW = "new"
    """Taken into the table; to be passed on."""
    DUPLICATE = "duplicate"
    STALE = "stale"
    """Older than what is known, or past its lifetime."""
    INVALID = "invalid"
    """The signature or the hop count is wrong: the neighbor is at fault, or was itself too
    trusting."""
    RATE_LIMITED = "rate-limited"
    """Its origin announces too often, or the neighbor has spent its share of signature checks."""
    OVERFULL = "overfull"
    """The table is full, and nobody has more in it than who sent this, all of that nearer or fresher."""
    OWN = "own"
    """Ours, and not what we said last: from an earlier life, or of another program with our key.  Announce again, with
    a higher number."""


@attrs.frozen(kw_only=True)
class Decision:
    """What to do with an announcement that came in."""

    verdict: Verdict
    forward: Envelope | None = None
    """To be sent to all neighbors but the one it came from."""
    reply: Envelope | None = None
    """To be sent back to the neighbor it came from."""


@attrs.frozen(kw_only=True)
class StoreLimits:
    """Bounds on memory and work."""

    capacity: int = 10_000
    """Origins in the table, those withdrawn or expired but still remembered included."""
    origin_rate: float = 0.5
    """Announcements per second of one origin, in the long run."""
    origin_burst: float = 5.0
    verify_rate: float = 200.0
    """Signature checks per second for one neighbor, some 50 microseconds each."""
    verify_burst: float = 400.0
    rank_lifetime: float = 600.0
    """Of longer lifetimes no more counts when the table is full: that of honest nodes."""
    max_neighbors: int = 4096
    """Neighbors whose budget is kept."""
    tombstone: float = 600.0
    """Seconds for which a withdrawn or expired announcement is remembered, so that no copy revives
    it."""


@attrs.frozen(kw_only=True)
class StoreStats:
    """Counters of an :class:`AnnouncementStore` at one moment; the first two are sizes, the rest
    only grow."""

    live: int
    remembered: int
    """Withdrawn or expired, kept as tombstones."""
    verdicts: Mapping[str, int]
    """Announcements that came in, by :class:`Verdict`, every verdict present."""
    verified: int
    """Signatures checked."""
    expired: int
    evicted: int


@attrs.define(eq=False)
class _Entry:
    envelope: Envelope
    received: float
    until: float
    """When it leaves its shelf."""
    shelf: int
    bucket: TokenBucket
    share: Hashable
    """Whose place it takes."""
    rank: float
    """Like *until*, but for no longer than others ask for: the lower goes first."""
    first: float
    """When the first copy of it came."""

    def age(self, now: float) -> float:
        return self.envelope.age + max(0.0, now - self.received)


def _until(entry: _Entry) -> float:
    return entry.until


def _improves(envelope: Envelope, known: _Entry, now: float) -> bool:
    """Whether a copy of what is known tells of much less age, or of much fewer hops, than the first did.

    Neither is signed: whoever passes an announcement on can say that it is nearly over, or has gone far, and who is
    quick could so keep it from others.  The copies of honest nodes come within seconds, and what they say differs by
    less.  What is said is halved each time, so it is not passed on often.
    """
    announcement = known.envelope.announcement
    if announcement.is_withdrawal or now - known.first > _IMPROVED_FOR or envelope.age >= announcement.lifetime_s:
        return False
    age = known.envelope.age
    younger = age - envelope.age >= _MUCH_YOUNGER and 2 * envelope.age <= age
    hops = known.envelope.hops
    return younger or (hops >= _FAR and 2 * envelope.hops <= hops and known.shelf != _TOMBSTONES)


def _farthest(entry: _Entry) -> tuple[int, float]:
    return -entry.shelf, entry.rank


class _Shelf:
    """Entries with those first that are to leave first: a heap whose dead items are skipped and swept."""

    def __init__(self, key: Callable[[_Entry], Any] = _until) -> None:
        self.entries: dict[PeerId, _Entry] = {}
        self._key = key
        self._heap: list[tuple[Any, int, _Entry]] = []
        self._counter = 0  # so that the heap never compares entries

    def add(self, entry: _Entry) -> None:
        self.entries[entry.envelope.announcement.peer_id] = entry
        self._counter += 1
        heapq.heappush(self._heap, (self._key(entry), self._counter, entry))
        if len(self._heap) > 2 * len(self.entries) + 32:
            self._heap = [item for item in self._heap if self._alive(item[2])]
            heapq.heapify(self._heap)

    def remove(self, entry: _Entry) -> None:
        del self.entries[entry.envelope.announcement.peer_id]

    def first(self) -> _Entry | None:
        while self._heap:
            entry = self._heap[0][2]
            if self._alive(entry):
                return entry
            heapq.heappop(self._heap)
        return None

    def _alive(self, entry: _Entry) -> bool:
        return self.entries.get(entry.envelope.announcement.peer_id) is entry


_TOMBSTONES = MAX_ANNOUNCEMENT_HOPS + 1  # the shelf that is emptied first; the others are numbered by hops


class AnnouncementStore:
    """All that is known of other nodes, and our own announcement beside it.

    Call :meth:`expire` every few seconds: it costs nothing when nothing is due.  :attr:`graph` is as of the last call.
    """

    def __init__(self, self_id: PeerId, limits: StoreLimits | None = None) -> None:
        self.self_id = self_id
        self.limits: StoreLimits = StoreLimits() if limits is None else limits
        self.graph: MeshGraph = MeshGraph()
        """The living announcements, for :func:`~netmesh_trio.routing.find_next_hops`; not to be
        changed by others."""
        self._entries: dict[PeerId, _Entry] = {}
        self._shelves = [_Shelf() for _ in range(_TOMBSTONES + 1)]
        # the living once more, by whose share they count for
        self._shares: Shares[Hashable] = Shares()
        self._shared: dict[Hashable, _Shelf] = {}
        self._neighbors: dict[PeerId, TokenBucket] = {}
        self._own: Envelope | None = None
        self._own_since = 0.0
        self._verdicts = {verdict.value: 0 for verdict in Verdict}
        self._verified = 0
        self._expired = 0
        self._evicted = 0

    def get(self, peer_id: PeerId) -> Announcement | None:
        """The living announcement of *peer_id*, if there is one."""
        return self.graph.live.get(peer_id)

    # Our own.

    def publish(self, own: Envelope, now: float) -> None:
        """Take *own* as our announcement from now on (the caller sends it to all neighbors).

        Raises :class:`ValueError` if it is not ours or not newer than the last.
        """
        if own.announcement.peer_id != self.self_id:
            raise ValueError("that is the announcement of another node")
        if self._own is not None and own.announcement.sequence <= self._own.announcement.sequence:
            raise ValueError("the sequence number of our announcement has to grow")
        self._own = own
        self._own_since = now

    # What comes in.

    def accept(self, envelope: Envelope, neighbor: PeerId, now: float, share: Hashable = None) -> Decision:
        """Judge an announcement that *neighbor* sent; the cheap tests come before the signature.

        It counts for *share*, by default the neighbor's own: when the table is full, who has most in it makes room.
        So name all neighbors alike that may be one and the same.
        """
        decision = self._judge(envelope, neighbor, now, neighbor if share is None else share)
        self._verdicts[decision.verdict.value] += 1
        return decision

    def _judge(self, envelope: Envelope, neighbor: PeerId, now: float, share: Hashable) -> Decision:
        announcement = envelope.announcement
        origin = announcement.peer_id
        from_origin = origin == neighbor
        if from_origin != (envelope.hops == 0):
            return Decision(verdict=Verdict.INVALID)
        if origin == self.self_id:
            return self._judge_own(envelope, neighbor, now)

        known = self._entries.get(origin)
        if known is not None and announcement.sequence <= known.envelope.announcement.sequence:
            if envelope.body == known.envelope.body:
                if _improves(envelope, known, now):
                    return self._improve(envelope, known, now, share)
                self._vouch(known, share)
                return Decision(verdict=Verdict.DUPLICATE)
            # The origin restarted and counts from below (or made two with one number): let it know.
            reply = known.envelope.passed_on(known.age(now)) if from_origin else None
            return Decision(verdict=Verdict.STALE, reply=reply)

        withdrawn = announcement.is_withdrawal
        until = now - envelope.age
        rank = until + min(announcement.lifetime_s, self.limits.rank_lifetime)
        until += self.limits.tombstone if withdrawn else announcement.lifetime_s
        if until <= now:
            return Decision(verdict=Verdict.STALE)
        shelf = _TOMBSTONES if withdrawn else envelope.hops
        victim: _Entry | None = None
        if known is not None:
            bucket = known.bucket
            if bucket.available(now) < 1.0:
                return Decision(verdict=Verdict.RATE_LIMITED)
        else:
            bucket = TokenBucket(self.limits.origin_rate, self.limits.origin_burst)
            if len(self._entries) >= self.limits.capacity:
                victim = self._victim(shelf, rank, share)
                if victim is None:
                    return Decision(verdict=Verdict.OVERFULL)
        failure = self._verify(envelope, neighbor, now)
        if failure is not None:
            return Decision(verdict=failure)

        bucket.take(now)  # only now: what is forged must not use up the origin's budget
        if victim is not None:
            self._drop(victim)
            self._evicted += 1
        if known is not None:
            self._drop(known)
        self._keep(_Entry(envelope, now, until, shelf, bucket, share, rank, now))
        self.graph.update(announcement)
        return Decision(verdict=Verdict.NEW, forward=envelope.passed_on(envelope.age))

    def _improve(self, envelope: Envelope, known: _Entry, now: float, share: Hashable) -> Decision:
        """Another copy has spent much less: take that instead, and pass it on.  The signature was checked."""
        announcement = known.envelope.announcement
        age = min(envelope.age, known.age(now))
        until = now - age + announcement.lifetime_s
        rank = now - age + min(announcement.lifetime_s, self.limits.rank_lifetime)
        better = attrs.evolve(known.envelope, age=age, hops=min(envelope.hops, known.envelope.hops))
        if known.shelf != _TOMBSTONES:
            share = known.share
        self._drop(known)
        self._keep(_Entry(better, now, until, better.hops, known.bucket, share, rank, known.first))
        self.graph.update(announcement)
        return Decision(verdict=Verdict.NEW, forward=better.passed_on(age))

    def _judge_own(self, envelope: Envelope, neighbor: PeerId, now: float) -> Decision:
        sequence = envelope.announcement.sequence
        if self._own is not None:
            if envelope.body == self._own.body:
                return Decision(verdict=Verdict.DUPLICATE)
            if sequence < self._own.announcement.sequence:
                return Decision(verdict=Verdict.STALE)
        failure = self._verify(envelope, neighbor, now)
        if failure is not None:
            return Decision(verdict=failure)
        return Decision(verdict=Verdict.OWN)

    def _verify(self, envelope: Envelope, neighbor: PeerId, now: float) -> Verdict | None:
        budget = self._neighbors.get(neighbor)
        if budget is None:
            if len(self._neighbors) >= self.limits.max_neighbors:
                full = [peer for peer, bucket in self._neighbors.items() if bucket.is_full(now)]
                for peer in full:
                    del self._neighbors[peer]
                if not full:
                    return Verdict.RATE_LIMITED
            budget = TokenBucket(self.limits.verify_rate, self.limits.verify_burst)
            self._neighbors[neighbor] = budget
        if not budget.take(now):
            return Verdict.RATE_LIMITED
        self._verified += 1
        return None if envelope.verify() else Verdict.INVALID

    def _victim(self, shelf: int, rank: float, share: Hashable) -> _Entry | None:
        """Whom to forget for a newcomer: a tombstone, else of whoever has most in the table the
        farthest, of these the soonest to expire.

        A tombstone never displaces anything.  Of those that have most nobody displaces others, nor
        what is nearer of its own.
        """
        if shelf == _TOMBSTONES:
            return None
        first = self._shelves[_TOMBSTONES].first()
        if first is not None:
            return first
        if self._shares.held(share) < self._shares.most:
            return self._shared[self._shares.greatest()].first()
        first = self._shared[share].first()
        return first if first is not None and _farthest(first) < (-shelf, rank) else None

    def _vouch(self, entry: _Entry, share: Hashable) -> None:
        """Another neighbor sent the same.  What counts for whoever makes room now, counts for that one from now on if
        it has less: else who is quick to pass on what others say could have it forgotten."""
        if entry.shelf == _TOMBSTONES or len(self._entries) < self.limits.capacity:
            return
        held = self._shares.held(entry.share)
        if held == self._shares.most and self._shares.held(share) + 1 < held:
            self._unshare(entry)
            entry.share = share
            self._share(entry)

    # What goes out, and time.

    def forget_neighbor(self, neighbor: PeerId) -> None:
        """The session with *neighbor* is gone: forget its budget (not what it announced, which
        others may carry)."""
        self._neighbors.pop(neighbor, None)

    def all_for(self, neighbor: PeerId) -> list[PeerId]:
        """The origins that a new neighbor should hear of, ourselves first, then the nearest,
        withdrawals last.

        Send :meth:`envelope` of each, paced to stay under the other end's ``verify_rate``.
        """
        origins = [] if self._own is None else [self.self_id]
        for shelf in self._shelves:
            origins += [
                origin for origin, entry in shelf.entries.items() if origin != neighbor and self._is_told(entry)
            ]
        return origins

    def envelope(self, origin: PeerId, now: float) -> Envelope | None:
        """What to send about *origin*, with its age of now; None if there is nothing (any more) to
        say."""
        if origin == self.self_id:
            if self._own is None:
                return None
            age = self._own.age + max(0.0, now - self._own_since)
            return attrs.evolve(self._own, age=age)
        entry = self._entries.get(origin)
        if entry is None or entry.until <= now or not self._is_told(entry):
            return None
        return entry.envelope.passed_on(entry.age(now))

    def expire(self, now: float) -> list[PeerId]:
        """Drop what is past its time; returns the origins whose living announcement ended."""
        ended: list[PeerId] = []
        for number, shelf in enumerate(self._shelves):
            while (entry := shelf.first()) is not None and entry.until <= now:
                self._drop(entry)
                if number == _TOMBSTONES:
                    continue
                origin = entry.envelope.announcement.peer_id
                ended.append(origin)
                self._expired += 1
                until = entry.until + self.limits.tombstone
                if until > now:
                    self._keep(attrs.evolve(entry, until=until, shelf=_TOMBSTONES))
        return ended

    def stats(self) -> StoreStats:
        """A snapshot of the counters."""
        remembered = len(self._shelves[_TOMBSTONES].entries)
        return StoreStats(
            live=len(self._entries) - remembered,
            remembered=remembered,
            verdicts=dict(self._verdicts),
            verified=self._verified,
            expired=self._expired,
            evicted=self._evicted,
        )

    def _is_told(self, entry: _Entry) -> bool:
        return entry.shelf != _TOMBSTONES or entry.envelope.announcement.is_withdrawal

    def _keep(self, entry: _Entry) -> None:
        self._entries[entry.envelope.announcement.peer_id] = entry
        self._shelves[entry.shelf].add(entry)
        if entry.shelf != _TOMBSTONES:
            self._share(entry)

    def _drop(self, entry: _Entry) -> None:
        origin = entry.envelope.announcement.peer_id
        del self._entries[origin]
        self._shelves[entry.shelf].remove(entry)
        if entry.shelf != _TOMBSTONES:
            self._unshare(entry)
            self.graph.remove(origin)

    def _share(self, entry: _Entry) -> None:
        shelf = self._shared.get(entry.share)
        if shelf is None:
            shelf = self._shared[entry.share] = _Shelf(_farthest)
        shelf.add(entry)
        self._shares.add(entry.share)

    def _unshare(self, entry: _Entry) -> None:
        shelf = self._shared[entry.share]
        shelf.remove(entry)
        if not shelf.entries:
            del self._shared[entry.share]
        self._shares.remove(entry.share)
