"""A wire with delay, loss and a rate: the program that carries frames between two tap devices.

Run by path with ``python -I -S kernel_forwarder.py TAP TAP CONTROL SEED`` where the first three
are inherited descriptors; it uses only the standard library, so that it starts in some 15 ms. A
line of JSON on the control socket sets some of the shape and is answered by a line with the
counters; its end ends the program, so no forwarder outlives the laboratory. The kernel here need
not have ``tc netem``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import sys
import time
from collections import deque

MAX_FRAME = 9216
"""Longest frame carried, bytes: the MTU of a shaped link is at most 9000."""

MAX_IN_FLIGHT = 64 * 1024 * 1024
"""Bytes on the wire in one direction at most, whatever delay and rate: a bound on memory."""

_ARP = b"\x08\x06"
_BATCH = 128


class Direction:
    """One direction of the wire: frames in order, each with the time at which it comes out."""

    def __init__(self, source: int, sink: int, seed: int) -> None:
        self.source = source
        self.sink = sink
        self.random: random.Random = random.Random(seed)
        self.delay: float = 0.0
        self.loss: float = 0.0
        self.rate: float | None = None  # bytes per second
        self.queue: int = 0  # bytes that may wait for the rate
        self.wire: deque[tuple[float, bytes]] = deque()
        self.in_flight: int = 0
        self.free_at: float = 0.0
        self.counters: dict[str, float] = {
            "forwarded": 0,
            "bytes": 0,
            "lost": 0,
            "queue_drops": 0,
            "refused": 0,
            "waited": 0.0,
        }

    def pull(self, now: float) -> None:
        """Take what waits at the source, at most a batch: the other direction wants its turn."""
        source, loss, chance, wire = (self.source, self.loss, self.random.random, self.wire)
        counters = self.counters
        for _ in range(_BATCH):
            try:
                frame = os.read(source, MAX_FRAME)
            except OSError:  # drained, or the interface is down for the moment
                return
            if frame[12:14] == _ARP:
                # Address resolution is an artifact of the laboratory: it costs no round trip and
                # no luck.
                self.write(frame)
                continue
            if loss and chance() < loss:
                counters["lost"] += 1
                continue
            size = len(frame)
            due = now
            if self.rate is not None:
                start = max(now, self.free_at)
                if (start - now) * self.rate + size > self.queue:
                    counters["queue_drops"] += 1
                    continue
                counters["waited"] += start - now
                due = self.free_at = start + size / self.rate
            if self.in_flight + size > MAX_IN_FLIGHT:
                counters["queue_drops"] += 1
                continue
            self.in_flight += size
            wire.append((due + self.delay, frame))

    def push(self, now: float) -> None:
        """Put out what has arrived by ``now``."""
        wire = self.wire
        while wire and wire[0][0] <= now:
            _, frame = wire.popleft()
            self.in_flight -= len(frame)
            self.write(frame)

    def write(self, frame: bytes) -> None:
        """Put one frame out."""
        try:
            os.write(self.sink, frame)
        except OSError:  # the far interface is down: the frame is lost, as on a pulled cable
            self.counters["refused"] += 1
        else:
            self.counters["forwarded"] += 1
            self.counters["bytes"] += len(frame)


def run(first: int, second: int, control: socket.socket, seed: int) -> None:
    """Carry frames until the control socket ends."""
    directions = [Direction(first, second, seed), Direction(second, first, seed ^ 0x5DEECE66D)]
    commands = b""
    handle = control.fileno()
    while True:
        now = time.monotonic()
        due = [direction.wire[0][0] for direction in directions if direction.wire]
        # select, not poll or epoll: its timeout has microseconds.
        timeout = max(0.0, min(due) - now) if due else None
        ready = select.select([first, second, handle], [], [], timeout)[0]
        now = time.monotonic()
        for direction in directions:
            if direction.source in ready:
                direction.pull(now)
            direction.push(now)
        if handle in ready:
            data = control.recv(4096)
            if not data:
                return
            commands += data
            *lines, commands = commands.split(b"\n")
            for line in lines:
                for name, value in json.loads(line).items():
                    for direction in directions:
                        setattr(direction, name, value)
                counters = [direction.counters for direction in directions]
                control.sendall(json.dumps(counters).encode() + b"\n")


if __name__ == "__main__":
    # Being scheduled late is delay that nobody asked for.
    with contextlib.suppress(OSError):
        os.nice(-15)
    run(int(sys.argv[1]), int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3])), int(sys.argv[4]))
