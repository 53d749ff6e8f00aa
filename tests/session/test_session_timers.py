"""Deadlines that must not spin, paths that must not flap, sizes that stop getting through."""

from __future__ import annotations

import random

import pytest

from netmesh_trio.paths.path import Path
from netmesh_trio.session.events import Closed, PathQuiet, PathSuspect
from netmesh_trio.session.session import SessionTimes
from tests.session.pair import KEY_A, KEY_B, Pair, Wire


class Watched(Pair):
    """Fails when time stands still."""

    stuck = 0

    def step(self, until: float = float("inf")) -> bool:
        before = self.now
        more = super().step(until)
        self.stuck = self.stuck + 1 if more and self.now == before else 0
        assert self.stuck < 2000, "deadlines in the past"
        return more


def test_a_keep_alive_that_a_full_window_holds_back_does_not_spin() -> None:
    pair = Watched(times=SessionTimes(keep_alive=0.5, dead_peer=60.0))
    pair.transfer(bytes(50_000))
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.wire.down = True
    pair.a.write(sid, bytes(1_000_000))
    pair.run(pair.now + 30)
    assert pair.a.closed == Closed("timeout", "silent for more than two keep-alives")


@pytest.mark.parametrize("seed", range(20))
def test_any_conditions_end_in_quiet(seed: int) -> None:
    rng = random.Random(seed)
    pair = Watched(
        seed,
        wire=Wire(delay=rng.choice((0.0, 0.01, 0.3)), loss=rng.choice((0.0, 0.1, 0.4)), jitter=rng.choice((0, 0.1))),
        times=SessionTimes(keep_alive=rng.choice((0.5, 25.0)), dead_peer=rng.choice((2.0, 30.0)), rekey=3.0),
        window=rng.choice((4096, 1 << 20)),
    )
    for _ in range(10):
        for side in pair.sides:
            sid = side.open_stream(rng.randrange(8))
            if sid is not None and side.closed is None:
                side.write(sid, bytes(rng.choice((1, 3000, 100_000))))
                if rng.random() < 0.5:
                    side.finish(sid)
            for known in list(side.streams.receiving):
                side.read(known, 1 << 20)
        pair.wire.down = rng.random() < 0.2
        pair.run(pair.now + rng.choice((0.01, 0.2, 4.0)))
    pair.wire.down = True
    pair.run(pair.now + 200)
    assert pair.a.closed is not None
    assert pair.b.closed is not None


def test_without_a_path_the_session_waits_quietly_and_then_ends() -> None:
    pair = Watched()
    pair.transfer(b"hello")
    pair.run(1.0)
    pair.a.remove_path(pair.a.paths[KEY_A], pair.now)
    pair.b.remove_path(pair.b.paths[KEY_B], pair.now)
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, b"x")
    pair.run(200)
    assert pair.a.closed is not None
    assert pair.a.closed.why == "timeout"


def test_windows_are_given_back_whatever_becomes_of_the_streams() -> None:
    rng = random.Random(1)
    pair = Watched(wire=Wire(loss=0.05, delay=0.005), window=30_000)
    for _ in range(60):
        for side in pair.sides:
            sid = side.open_stream(3)
            if sid is not None:
                side.write(sid, bytes(rng.choice((0, 10, 40_000))))
                rng.choice((side.finish, lambda s, side=side: side.reset_stream(s, 5)))(sid)
        pair.run(pair.now + 0.05)
        for side in pair.sides:
            for sid in list(side.streams.receiving):
                if rng.random() < 0.3:
                    side.stop_stream(sid, 9)
                side.read(sid, 20_000)
                side.finish(sid)
    for _ in range(200):
        pair.run(pair.now + 0.1)
        for side in pair.sides:
            for sid in list(side.streams.receiving):
                side.read(sid, 1 << 20)
                side.finish(sid)
    for side, other in (pair.sides, pair.sides[::-1]):
        assert side.closed is None
        assert not side.streams.receiving
        assert not side.streams.sending
        assert side.streams.received == side.streams.consumed == other.streams.sent
        assert side.streams.peer_open == 0


def test_a_path_that_works_one_way_only_does_not_make_the_answering_side_flap() -> None:
    pair = Watched(seed=3, window=10_000)
    a, b = pair.a, pair.b
    circuit = b"circuit1"
    pair.wires[circuit] = Wire(delay=0.03)
    pair.transfer(bytes(20_000))
    a.queue_challenge(a.add_path(circuit, b.peer_id, pair.now), pair.now)
    pair.run(pair.now + 1)
    assert a.path is not None
    assert a.path.key == KEY_A
    send = pair._send

    def one_way(i: int, path: Path, packet: bytes) -> None:
        if not (i == 1 and path.key == KEY_B):
            send(i, path, packet)

    pair._send = one_way  # type: ignore[method-assign]
    back, forth = b.open_stream(3), a.open_stream(3)
    assert back is not None
    assert forth is not None
    before = b.stats.path_switches
    end = pair.now + 10
    got = 0
    while pair.now < end:
        for side, sid in ((a, forth), (b, back)):
            if side.streams.sending[sid].unsent < 1000:
                side.write(sid, bytes(1000))
        assert pair.step()
        b.read(forth, 1 << 20)
        if back in a.streams.receiving:
            got += len(a.read(back, 1 << 20))
    assert b.stats.path_switches - before <= 2
    assert a.stats.path_switches <= 2
    assert got > 500_000


def test_a_black_hole_for_large_packets_is_seen_though_small_ones_get_through() -> None:
    pair = Watched(wire=Wire(delay=0.01))
    pair.transfer(bytes(200_000))
    a = pair.a
    assert a.path is not None
    assert a.path.mtu.current == 1400
    pair.wire.mtu = 1250
    sid = a.open_stream(3)
    assert sid is not None
    a.write(sid, bytes(100_000))
    a.finish(sid)
    got = 0
    started = pair.now
    next_ping = pair.now
    while got < 100_000:
        if pair.now >= next_ping:
            next_ping += 0.02
            a.send_datagram(b"x", b"small")
        if not pair.step(next_ping):
            pair.now = next_ping
        if sid in pair.b.streams.receiving:
            got += len(pair.b.read(sid, 1 << 20))
        assert pair.now - started < 6, got
    assert a.path.mtu.current <= 1250


@pytest.mark.parametrize(("gap", "arrivals", "quiet"), [(0.1, 20, True), (0.1, 5, False), (1.0, 20, False)])
def test_only_a_flow_that_stops_is_asked_about_at_once(gap: float, arrivals: int, quiet: bool) -> None:
    pair = Pair()
    sid = pair.a.open_stream(3)
    assert sid is not None
    for _ in range(arrivals):
        pair.a.write(sid, b"x" * 100)
        pair.run(pair.now + gap)
    pair.run(pair.now + 1.0)
    path = pair.b.path
    assert path is not None
    assert [event for event in pair.events[1] if isinstance(event, PathQuiet)] == quiet * [PathQuiet(path)]
    sent = pair.b.stats.packets_sent
    pair.run(pair.now + 20.0)
    # the path works, as the answer to the first question showed
    assert sum(isinstance(event, PathQuiet) for event in pair.events[1]) == quiet
    assert pair.b.stats.packets_sent - sent <= 6


def test_a_flow_that_broke_off_is_asked_about_until_there_is_an_answer() -> None:
    pair = Pair()
    sid = pair.a.open_stream(3)
    assert sid is not None
    for _ in range(20):
        pair.a.write(sid, b"x" * 100)
        pair.run(pair.now + 0.1)
    pair.wire.down = True
    pair.run(pair.now + 0.5)
    assert sum(isinstance(event, PathQuiet) for event in pair.events[1]) == 1
    pair.run(pair.now + 2.5)
    assert sum(isinstance(event, PathQuiet) for event in pair.events[1]) == 3


def _unanswered(silence: float) -> Pair:
    """A session of which one side has been waiting for so long for the first answer to what it wrote."""
    pair = Watched(times=SessionTimes(dead_peer=60.0))
    pair.transfer(b"hello")
    pair.run(1.0)
    pair.wire.down = True
    sid = pair.a.open_stream(3)
    assert sid is not None
    pair.a.write(sid, b"x")
    pair.run(1.0 + silence)
    return pair


def test_an_unanswered_packet_is_asked_about_by_two() -> None:
    pair = _unanswered(0.0)
    sent = pair.a.stats.packets_sent
    pair.step()
    assert pair.a.stats.packets_sent == sent + 2


def test_who_is_known_to_be_there_is_asked_again_at_once() -> None:
    pair = _unanswered(5.0)
    pair.wire.down = False
    assert pair.a.next_deadline() > pair.now + 1
    pair.a.encourage(pair.now)
    pair.run(pair.now + 3 * pair.wire.delay)
    assert not pair.a.unfinished


def test_a_session_that_lacks_no_answer_is_not_asked() -> None:
    pair = Watched()
    pair.transfer(b"hello")
    pair.run(1.0)
    sent = pair.a.stats.packets_sent
    pair.a.encourage(pair.now)
    pair.run(pair.now + 1)
    assert pair.a.stats.packets_sent == sent


@pytest.mark.parametrize("mtu", [1300, 1450, 1500])
def test_a_probe_that_is_too_large_says_nothing_about_the_path(mtu: int) -> None:
    pair = Pair(wire=Wire(delay=0.02, mtu=mtu), mtu=9000)
    pair.transfer(b"a question")
    pair.run(pair.now + 20)  # nothing else is under way when the larger ones are lost
    path = pair.a.path
    assert path is not None
    assert path.mtu.current == max(size for size in (1232, 1350, 1400, 1452, 1472) if size <= mtu)
    assert path.eliciting_in_flight == path.congestion.in_flight == 0
    for events in pair.events:
        assert not [event for event in events if isinstance(event, PathSuspect)]


def _talkative(silence: float) -> Pair:
    """A session whose one side is heard once a second, and for so long gets nothing."""
    pair = Watched(times=SessionTimes(keep_alive=10.0, dead_peer=60.0))
    pair.b.times = SessionTimes(keep_alive=1000.0, dead_peer=600.0)  # it is patient
    pair.transfer(b"hello")
    pair.run(1.0)
    pair.wires[KEY_A] = Wire(down=True)
    pair.a.ping()
    while pair.now < 1.0 + silence and pair.a.closed is None:
        pair.b.ping()
        for _ in range(10):
            if pair.a.closed is None:
                pair.run(pair.now + 0.1)
    return pair


def test_a_peer_that_talks_and_never_acknowledges_is_given_up() -> None:
    pair = _talkative(100.0)
    assert pair.a.closed == Closed("timeout", "nothing was acknowledged for more than two keep-alives")
    assert 26.0 < pair.now < 26.5


def test_a_peer_that_acknowledges_again_is_kept() -> None:
    pair = _talkative(20.0)
    pair.wires.clear()
    pair.run(pair.now + 100.0)
    assert pair.a.closed is None
    assert pair.b.closed is None
