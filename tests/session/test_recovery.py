"""The books by runs against books by packets, under any pattern of acknowledgements and losses."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.paths.path import Path
from netmesh_trio.paths.rtt import RttEstimator
from netmesh_trio.session.recovery import LostLately, Sent, SentPackets
from netmesh_trio.session.send_stream import SendStream

Packet = tuple[int, int, int, float]  # path, size, offset (or -1), time


def expand(records: list[Sent], paths: list[Path]) -> dict[int, Packet]:
    out = {}
    for r in records:
        for n in range(r.first, r.last + 1):
            assert n not in out
            offset = r.offset + (n - r.first) * r.chunk if r.stream is not None else -1
            out[n] = (paths.index(r.path), r.size, offset, r.time)
    return out


@pytest.mark.parametrize("seed", range(150))
def test_runs_keep_the_same_books_as_packets(seed: int) -> None:
    rng = random.Random(seed)
    paths = [Path((0, Address("192.0.2.1", i + 1)), via=None, mtu_limit=1400, now=0.0) for i in range(2)]
    for path in paths:
        path.rtt.sample(0.1, 0.0)
    stream = SendStream(0, 1 << 40, 3)
    sent = SentPackets()
    model: dict[int, Packet] = {}
    number = offset = 0
    now = 0.0
    for _ in range(120):
        now += rng.choice((0.001, 0.02, 0.1))
        action = rng.randrange(10)
        if action < 4:
            number += rng.randrange(3)  # acknowledgements of ours take numbers too
            count = rng.choice((1, 1, 2, 10, 40))
            which = rng.choice((0, 0, 0, 1))
            single = count == 1 and rng.random() < 0.5
            record = Sent(
                number, number + count - 1, 1400, paths[which], now, None if single else stream, offset, 1000, ()
            )
            sent.records.append(record)
            assert record.total == count * 1400
            for i in range(count):
                model[number + i] = (which, 1400, -1 if single else offset + i * 1000, now)
            number += count
            offset += 0 if single else count * 1000
        elif action < 8 and number:
            runs = []
            top = number - 1 - rng.choice((0, 0, rng.randrange(number)))
            for _ in range(rng.randrange(1, 6)):
                first = max(0, top - rng.choice((0, 1, 5, 60)))
                runs.append((first, top))
                top = first - 2 - rng.choice((0, 1, 7))
                if top < 0:
                    break
            taken = expand(sent.acknowledge(runs), paths)
            expected = {n: p for n, p in model.items() if any(low <= n <= high for low, high in runs)}
            assert taken == expected
            for n, packet in expected.items():
                del model[n]
                path = paths[packet[0]]
                path.largest_acked = max(path.largest_acked, n)
        elif action == 8:
            for path in paths:
                path.loss_time = float("inf")
            top = max(p.largest_acked for p in paths)
            lost = expand(sent.detect_lost(top, now, len({p[0] for p in model.values()})), paths)
            expected = {}
            times = [float("inf")] * 2
            for n, packet in model.items():
                path = paths[packet[0]]
                deadline = packet[3] + path.rtt.loss_delay()
                if n >= path.largest_acked:
                    continue
                if n <= path.largest_acked - 3 or deadline <= now:
                    expected[n] = packet
                else:
                    times[packet[0]] = min(times[packet[0]], deadline)
            assert lost == expected
            assert [p.loss_time for p in paths] == times
            for n in expected:
                del model[n]
        elif rng.random() < 0.2:
            which = rng.randrange(2)
            taken = expand(sent.take_path(paths[which]), paths)
            assert taken == {n: p for n, p in model.items() if p[0] == which}
            for n in taken:
                del model[n]
        assert expand(sent.records, paths) == model
        firsts = [r.first for r in sent.records]
        assert firsts == sorted(firsts)
        for which, path in enumerate(paths):
            oldest = sent.oldest(path)
            numbers = [n for n, p in model.items() if p[0] == which]
            assert (oldest.first if oldest else None) == (min(numbers) if numbers else None)


def test_what_is_not_lost_is_not_gone_through_for_every_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who acknowledges every other packet, and has shown that the network reorders, leaves thousands of records."""
    paths = [Path((0, Address("192.0.2.1", i + 1)), via=None, mtu_limit=1400, now=0.0) for i in range(2)]
    for path in paths:
        path.rtt.sample(10.0, 0.0)
        path.packet_threshold = 4096
    sent = SentPackets()
    sent.records = [Sent(n, n, 1200, paths[n == 1], 1.0, None, 0, 0, ()) for n in range(4000)]
    looked = 0
    loss_delay = RttEstimator.loss_delay

    def counted(rtt: RttEstimator, patience: float) -> float:
        nonlocal looked
        looked += 1
        return loss_delay(rtt, patience)

    monkeypatch.setattr(RttEstimator, "loss_delay", counted)
    for n in range(3, 4000, 2):
        sent.acknowledge([(n, n)])
        paths[0].largest_acked = n
        assert sent.detect_lost(n, 1.5, waiting=2) == []
    assert looked <= 2000
    assert len(sent.records) == 2001
    assert len(sent.detect_lost(3999, 100.0, waiting=2)) == 2000
    assert [record.first for record in sent.records] == [1]


def test_late_acknowledgements_of_nothing_that_was_lost_leave_the_books_alone() -> None:
    path = Path((0, Address("192.0.2.1", 1)), via=None, mtu_limit=1400, now=0.0)
    lately = LostLately()
    lately.add([Sent(n, n + 1, 1400, path, 0.0, None, 0, 0, ()) for n in range(0, 40, 4)])
    assert lately.take([(42, 50), (38, 39), (2, 3)]) == []
    assert len(lately.records) == 10
    found = lately.take([(36, 36), (9, 12), (8, 8)])
    assert [(record.first, whole) for record, whole in found] == [(36, False), (12, False), (8, False)]


def test_what_was_taken_for_lost_and_arrives() -> None:
    path = Path((0, Address("192.0.2.1", 1)), via=None, mtu_limit=1400, now=0.0)
    lately = LostLately()
    lately.add([Sent(a, b, 1400, path, 0.0, None, 0, 0, ()) for a, b in ((20, 29), (5, 5), (10, 12))])
    assert lately.take([(30, 40), (13, 19), (6, 9), (0, 4)]) == []
    found = lately.take([(25, 40), (11, 19), (0, 9)])
    assert [(record.first, whole) for record, whole in found] == [(20, False), (10, False), (5, True)]
    assert lately.records == []
    lately.add([Sent(n, n, 1400, path, 0.0, None, 0, 0, ()) for n in range(100)])
    assert len(lately.records) == 64
    assert [record.first for record, _ in lately.take([(98, 120), (0, 36)])] == [99, 98, 36]


def test_a_path_that_reorders_waits_longer_until_it_does_no_more() -> None:
    path = Path((0, Address("192.0.2.1", 1)), via=None, mtu_limit=1400, now=0.0)
    path.rtt.sample(0.1, 0.0)
    path.largest_acked = 50
    path.on_late(30, 1.0, 1.13)
    assert path.packet_threshold == 21
    assert path.patience == pytest.approx(0.33)
    path.on_late(49, 1.0, 1.05)  # sooner than that: nothing to learn
    assert path.packet_threshold == 21
    assert path.patience == pytest.approx(0.33)
    path.on_late(-10_000, 1.0, 9.0)
    assert (path.packet_threshold, path.patience) == (4096, 1.0)
    for _ in range(15):
        path.on_cut()
    assert path.packet_threshold == 4096
    path.on_cut()
    assert (path.packet_threshold, path.patience) == (3, 0.125)
