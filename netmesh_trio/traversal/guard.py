"""What a node lets others make it do: which introductions and acknowledgements it believes.

An introduction makes the receiver send a train of probes to an address that somebody else names.  So it must name a
host at which that very peer is known to be, and there is a budget; see :class:`IntroduceGuard`.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

from ..identity import PeerId
from .budgets import WindowBudget
from .rendezvous import PunchIntroduce

__all__ = ["IntroduceGuard", "PunchRequests", "Verdict", "judge_introduce"]


class Verdict(enum.Enum):
    """What became of an introduction; all but the first are dropped and counted."""

    ACCEPTED = "accepted"
    NO_SESSION = "no-session"
    """We have no session with the peer, so there is nothing to make shorter."""
    FOREIGN_ADDRESS = "foreign-address"
    """It names a host that the peer neither announced nor told us."""
    UNEXPECTED = "unexpected"
    """It says that we asked for it, but we did not ask this coordinator for this peer."""
    REPEATED = "repeated"
    """A train of that id is under way."""
    RATE_LIMITED = "rate-limited"
    """This introducer's budget is used up."""
    BUSY = "busy"
    """As many trains as may be are under way or wait for their turn."""


def judge_introduce(introduce: PunchIntroduce, known_hosts: Collection[str] | None) -> Verdict:
    """Whether the address may be sent to at all.

    ``known_hosts`` are the hosts (without port) of the peer's announcement and of the candidates that it told us
    itself; None if there is no session with it.
    """
    if known_hosts is None:
        return Verdict.NO_SESSION
    if introduce.reflex.host not in known_hosts:
        return Verdict.FOREIGN_ADDRESS
    return Verdict.ACCEPTED


class PunchRequests:
    """Requests to coordinators that were not answered yet: ``punch_id`` ties the answer to them.

    The caller ends each with :meth:`take` or :meth:`cancel`; ``limit`` at once.
    """

    __slots__ = ("_limit", "_requests", "unmatched")

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._requests: dict[bytes, tuple[PeerId, PeerId]] = {}
        #: Answers to nothing that was asked.
        self.unmatched: int = 0

    def expect(self, punch_id: bytes, coordinator: PeerId, target: PeerId) -> bool:
        """We ask ``coordinator`` for ``target``; False if too many requests are open."""
        if len(self._requests) >= self._limit or punch_id in self._requests:
            return False
        self._requests[punch_id] = (coordinator, target)
        return True

    def target_of(self, punch_id: bytes, sender: PeerId) -> PeerId | None:
        """Whom we asked ``sender`` for under that id, if anybody."""
        coordinator, target = self._requests.get(punch_id, (None, None))
        return target if coordinator == sender else None

    def take(self, punch_id: bytes, sender: PeerId) -> PeerId | None:
        """As :meth:`target_of`, and the request is answered: a second answer belongs to nothing."""
        target = self.target_of(punch_id, sender)
        if target is None:
            self.unmatched += 1
        else:
            del self._requests[punch_id]
        return target

    def cancel(self, punch_id: bytes) -> None:
        """Nobody waits for the answer any more."""
        self._requests.pop(punch_id, None)

    def __len__(self) -> int:
        return len(self._requests)


class IntroduceGuard:
    """Admits introductions, and knows whose train is under way or waits for its turn.

    Of trains that others ask for, 4 per introducer in 10 s.  An introduction that the peer itself spoke of inside its
    session is no charge on the introducer, for the peer's own budget was: so one relay may introduce a crowd.  Who
    admits a train that others asked for ends it with :meth:`finished`.
    """

    __slots__ = ("_budget", "_max_trains", "_trains", "dropped", "requests")

    def __init__(
        self, *, limit: int = 4, period: float = 10.0, max_trains: int = 256, max_introducers: int = 4096
    ) -> None:
        self._budget: WindowBudget[PeerId] = WindowBudget(limit, period, max_introducers)
        self._max_trains = max_trains
        self._trains: set[bytes] = set()
        #: Our own requests.
        self.requests: PunchRequests = PunchRequests()
        #: Introductions dropped, by verdict.
        self.dropped: dict[Verdict, int] = {verdict: 0 for verdict in Verdict if verdict is not Verdict.ACCEPTED}

    def on_introduce(
        self,
        introduce: PunchIntroduce,
        introducer: PeerId,
        known_hosts: Collection[str] | None,
        now: float,
        *,
        expected: bool = False,
    ) -> Verdict:
        """Whether to begin a train; ``known_hosts`` as in :func:`judge_introduce`.

        ``expected``: the peer told us of an attempt of that id, within its budget, and this is the first introduction
        for it.  One that answers a request of ours uses that up, unless it is dropped for its address: the next answer
        of the same coordinator may be right.
        """
        verdict = self._admit(introduce, introducer, known_hosts, now, expected)
        if verdict is not Verdict.ACCEPTED:
            self.dropped[verdict] += 1
        elif introduce.initiator:
            self.requests.take(introduce.punch_id, introducer)
        else:
            self._trains.add(introduce.punch_id)
        return verdict

    def _admit(
        self,
        introduce: PunchIntroduce,
        introducer: PeerId,
        known_hosts: Collection[str] | None,
        now: float,
        expected: bool,
    ) -> Verdict:
        if introduce.initiator:
            if self.requests.target_of(introduce.punch_id, introducer) != introduce.peer:
                return Verdict.UNEXPECTED
        elif introduce.punch_id in self._trains:
            return Verdict.REPEATED
        elif not expected and not self._budget.take(introducer, now):
            # before the address is looked at: a flood of wrong ones is to cost no more than one of right ones
            return Verdict.RATE_LIMITED
        elif len(self._trains) >= self._max_trains:
            return Verdict.BUSY
        return judge_introduce(introduce, known_hosts)

    def finished(self, punch_id: bytes) -> None:
        """The train is over, however it ended.  Harmless to repeat."""
        self._trains.discard(punch_id)

    def __len__(self) -> int:
        """Trains that others asked for, under way or waiting."""
        return len(self._trains)
