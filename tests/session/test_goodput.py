"""How fast a session is, in virtual time: random loss, a bottleneck with a queue, two flows that share it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

import pytest

from netmesh_trio.paths.path import Path
from tests.session.pair import Pair, Wire


class Bottleneck:
    """A link of ``rate`` bytes/s behind a queue that takes ``depth`` seconds of it, and drops what is more."""

    def __init__(self, rate: float, depth: float) -> None:
        self.rate = rate
        self.depth = depth
        self.free_at = 0.0
        self.dropped = 0

    def leaves(self, size: int, now: float) -> float | None:
        """When a packet of ``size`` bytes is through, or None if the queue is full."""
        self.free_at = max(self.free_at, now)
        if self.free_at - now + size / self.rate > self.depth:
            self.dropped += 1
            return None
        self.free_at += size / self.rate
        return self.free_at


class Flow(Pair):
    """A pair whose a-to-b direction goes through a bottleneck that it may share."""

    def __init__(self, seed: int, delay: float, link: Bottleneck, window: int = 8 << 20) -> None:
        super().__init__(seed, wire=Wire(delay=delay), window=window)
        self.link = link
        opened = self.a.open_stream(3)
        assert opened is not None
        self.sid = opened
        self.got = 0
        self.zeros = bytes(1 << 18)

    def _send(self, i: int, path: Path, packet: bytes) -> None:
        at = self.now
        if i == 0:
            leaves = self.link.leaves(len(packet), at)
            if leaves is None:
                return
            at = leaves
        key = self._peer_key(i, path)
        heapq.heappush(self._heap, (at + self.wire.delay, next(self._tie), 1 - i, key, packet, len(path.prefix)))

    def next_time(self) -> float:
        deadline = min(side.next_deadline() for side in self.sides)
        return max(self.now, min(self._heap[0][0] if self._heap else float("inf"), deadline))

    def advance(self) -> None:
        send = self.a.streams.sending[self.sid]
        if send.unsent < 1 << 18:
            self.a.write(self.sid, self.zeros)
        self.step()
        if self.sid in self.b.streams.receiving:
            self.got += len(self.b.read(self.sid, 1 << 20))
        assert self.a.closed is None
        assert self.b.closed is None


def run(flows: Sequence[Flow], until: float, hook: Callable[[float], None] = lambda _: None) -> None:
    """Step all flows in the order of time, so that they see each other's queue."""
    tie = itertools.count()
    for flow in flows:
        flow.advance()
    order = [(flow.next_time(), next(tie), flow) for flow in flows]
    heapq.heapify(order)
    while order[0][0] < until:
        at, _, flow = heapq.heappop(order)
        for _ in range(20):
            flow.advance()
            if flow.next_time() > at + 0.0005:
                break
        hook(flow.now)
        heapq.heappush(order, (flow.next_time(), next(tie), flow))


def test_one_percent_of_random_loss_at_40_ms() -> None:
    """At this loss CUBIC is in its Reno-friendly region: sqrt(3/2/p) segments a round trip, that is 0.42 MB/s."""
    rates = []
    for seed in range(3):
        pair = Pair(seed, wire=Wire(delay=0.02, loss=0.01), window=8 << 20)
        sid = pair.a.open_stream(3)
        assert sid is not None
        got = 0
        while pair.now < 30.0:
            if pair.a.streams.sending[sid].unsent < 1 << 18:
                pair.a.write(sid, bytes(1 << 18))
            pair.step()
            if sid in pair.b.streams.receiving:
                got += len(pair.b.read(sid, 1 << 20))
        rates.append(got / pair.now)
    assert sum(rates) / len(rates) > 0.9 * 0.42e6


@pytest.mark.parametrize("depth", [0.02, 0.05, 0.2])
def test_a_link_is_filled(depth: float) -> None:
    link = Bottleneck(10e6, depth)
    flow = Flow(1, 0.02, link)
    run([flow], 2.0)
    before = flow.got
    run([flow], 6.0)
    rate = (flow.got - before) / 4.0
    assert rate > 0.85 * link.rate
    assert flow.a.stats.packets_lost < 1.5 * link.dropped + 50


@pytest.mark.parametrize(("round_trip", "depth"), [(0.02, 0.02), (0.02, 0.1), (0.1, 0.05)])
def test_two_flows_share_fairly(round_trip: float, depth: float) -> None:
    """The second one begins when the first has the whole link.  CUBIC takes some epochs to hand over half of it."""
    link = Bottleneck(0.5e6, depth)
    flows = [Flow(1, round_trip / 2, link), Flow(2, round_trip / 2, link)]
    run(flows[:1], 3.0)
    flows[1].now = flows[0].now
    run(flows, 30.0)
    before = [flow.got for flow in flows]
    run(flows, 45.0)
    rates = [(flow.got - b) / 15.0 for flow, b in zip(flows, before, strict=True)]
    assert sum(rates) > 0.85 * link.rate
    assert max(rates) < 0.6 * sum(rates)


@pytest.mark.parametrize("jitter", [0.002, 0.01])
def test_a_wire_that_reorders_is_not_taken_for_one_that_loses(jitter: float) -> None:
    pair = Pair(1, wire=Wire(delay=0.02, jitter=jitter), window=8 << 20)
    sid = pair.a.open_stream(3)
    assert sid is not None
    got = 0
    while pair.now < 2.0:
        if pair.a.streams.sending[sid].unsent < 1 << 18:
            pair.a.write(sid, bytes(1 << 18))
        pair.step()
        if sid in pair.b.streams.receiving:
            got += len(pair.b.read(sid, 1 << 20))
    assert got > 4e6  # 0.3 MB if every late packet cut the window
    assert pair.a.stats.packets_lost < 100
