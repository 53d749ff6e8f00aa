"""Two sessions on a seeded, lossy, reordering wire in virtual time, stepping from deadline to deadline."""

from __future__ import annotations

import heapq
import itertools
import random

import attrs

from netmesh_trio.addresses import Address
from netmesh_trio.identity import Identity
from netmesh_trio.paths.path import Path, PathKey
from netmesh_trio.session.events import Event
from netmesh_trio.session.keys import KeyRing
from netmesh_trio.session.session import Session, SessionTimes
from netmesh_trio.wire.hello import Hello

KEY_A: PathKey = (0, Address("192.0.2.2", 1))
KEY_B: PathKey = (0, Address("192.0.2.1", 1))


@attrs.define
class Wire:
    """What happens to a datagram on the way."""

    delay: float = 0.02
    loss: float = 0.0
    jitter: float = 0.0
    duplicate: float = 0.0
    mtu: int = 1500
    down: bool = False


class Pair:
    """Session ``a`` opened by ``a`` to ``b``; :meth:`run` steps until a condition holds."""

    def __init__(
        self,
        seed: int = 0,
        *,
        wire: Wire | None = None,
        mtu: int = 1400,
        window: int = 1 << 20,
        times: SessionTimes | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.wire = wire or Wire()
        self.wires: dict[PathKey, Wire] = {}
        self._heap: list[tuple[float, int, int, PathKey, bytes, int]] = []
        self._tie = itertools.count()
        self.delivered = 0
        key_a, key_b, secret = (self.rng.randbytes(32) for _ in range(3))
        ids = [Identity.generate().peer_id for _ in range(2)]
        hellos = [
            Hello(
                boot_id=self.rng.randbytes(8),
                max_datagram_size=mtu,
                session_window=2 * window,
                stream_window=window,
                max_streams=64,
            )
            for _ in range(2)
        ]
        self.sides = tuple(
            Session(
                peer_id=ids[1 - i],
                initiator=i == 0,
                local_index=10 + i,
                remote_index=11 - i,
                keys=KeyRing(*((key_a, key_b), (key_b, key_a))[i], secret, i == 0, self.rng.randbytes),
                local=hellos[i],
                remote=hellos[1 - i],
                times=times or SessionTimes(),
                random_bytes=self.rng.randbytes,
                now=0.0,
            )
            for i in range(2)
        )
        self.a, self.b = self.sides
        self.events: tuple[list[Event], list[Event]] = ([], [])
        for side, key in zip(self.sides, (KEY_A, KEY_B), strict=True):
            side.validate(side.add_path(key, None, 0.0), 0.0)

    def _peer_key(self, side: int, path: Path) -> PathKey:
        if path.key == KEY_A:
            return KEY_B
        if path.key == KEY_B:
            return KEY_A
        return path.key  # circuits have one id at both ends

    def flush(self) -> None:
        for i, side in enumerate(self.sides):
            idle = side.out.is_idle(self.now)
            while (batch := side.transmit(self.now)) is not None:
                assert not idle or side.sent.records[-1].probe  # which only looks for a larger size
                data = b"".join(batch.pieces)
                assert len(data) == batch.total
                for at in range(0, len(data), batch.size):
                    self._send(i, batch.path, data[at : at + batch.size])
            self.events[i].extend(side.events)
            side.events.clear()

    def _send(self, i: int, path: Path, packet: bytes) -> None:
        wire = self.wires.get(path.key, self.wire)
        rng = self.rng
        if wire.down or len(packet) > wire.mtu or rng.random() < wire.loss:
            return
        for _ in range(2 if rng.random() < wire.duplicate else 1):
            at = self.now + wire.delay + rng.random() * wire.jitter
            key = self._peer_key(i, path)
            heapq.heappush(self._heap, (at, next(self._tie), 1 - i, key, packet, len(path.prefix)))

    def step(self, until: float = float("inf")) -> bool:
        """Deliver the next datagram or deadline; False when nothing happens before ``until``."""
        self.flush()
        deadline = min(side.next_deadline() for side in self.sides)
        at = min(self._heap[0][0] if self._heap else float("inf"), deadline)
        if at == float("inf") or at > until:
            return False
        self.now = max(self.now, at)
        if self._heap and self._heap[0][0] <= self.now:
            _, _, to, key, packet, skip = heapq.heappop(self._heap)
            side = self.sides[to]
            path = side.add_path(key, None, self.now)
            side.receive(memoryview(packet), skip, len(packet), path, self.now)
            self.delivered += 1
        for side in self.sides:
            if side.next_deadline() <= self.now:
                side.on_timeout(self.now)
        self.flush()
        return True

    def run(self, until: float) -> None:
        while self.step(until):
            pass
        self.now = max(self.now, until)

    def transfer(self, data: bytes, sid: int | None = None, *, limit: float = 600.0) -> bytes:
        """Send ``data`` and its end from a to b; return what b read."""
        if sid is None:
            opened = self.a.open_stream(3)
            assert opened is not None
            sid = opened
        got = bytearray()
        at = 0
        end = self.now + limit
        while self.now < end:
            send = self.a.streams.sending.get(sid)
            if send is not None and not send.fin and send.unsent < 65536:
                part = data[at : at + self.rng.choice((100, 5000, 40000))]
                at += len(part)
                if part:
                    self.a.write(sid, part)
                if at == len(data):
                    self.a.finish(sid)
            receive = self.b.streams.receiving.get(sid)
            if receive is not None:
                got += self.b.read(sid, self.rng.choice((1000, 100000)))
                if receive.at_end:
                    return bytes(got)
            if not self.step():
                break
            assert (self.a.closed, self.b.closed) == (None, None)
        raise AssertionError(f"{len(got)} of {len(data)} bytes at t={self.now}")
