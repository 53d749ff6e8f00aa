"""Floods addresses with packets that mean no good: ``blast.py RATE SECONDS HOST:PORT...``.

On stdin come captured packets, one in hex a line.  Sends garbage, cut, bent, replayed and oversized packets, in bursts
(``UDP_SEGMENT``) and singly, about RATE a second in all; prints how many it sent in how many seconds.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time

UDP_SEGMENT = 103
BURST = 40
HEADERS = [bytes((kind,)) for kind in (1, 2, 3, 4, 5, 6, 255)]


def bent(chance: random.Random, captured: list[bytes]) -> list[bytes]:
    """Packets of one size, that of the first."""
    seed = chance.choice(captured) if captured else os.urandom(200)
    how = chance.randrange(7)
    if how == 0:  # noise behind a plausible first byte
        return [chance.choice(HEADERS) + os.urandom(chance.choice((3, 15, 31, 200, 639, 1199)))] * BURST
    if how == 1:  # cut
        return [seed[: chance.randrange(1, max(2, len(seed)))]] * BURST
    if how == 2:  # as captured
        return [seed] * BURST
    if how == 3:  # the right receiver, any counter, noise
        size = max(40, len(seed))
        return [seed[:8] + os.urandom(size - 8) for _ in range(BURST)]
    if how == 4:  # one bit
        at = chance.randrange(len(seed))
        return [seed[:at] + bytes((seed[at] ^ 1 << chance.randrange(8),)) + seed[at + 1 :]] * BURST
    if how == 5:  # a circuit, a handshake, noise inside
        return [b"\x05\0\0\0" + os.urandom(8) + chance.choice(HEADERS) + os.urandom(640)] * BURST
    return [(seed + os.urandom(1400))[:1400]] * BURST  # longer than it was


def main() -> None:
    rate, seconds = float(sys.argv[1]), float(sys.argv[2])
    targets = [(host, int(port)) for host, _, port in (text.rpartition(":") for text in sys.argv[3:])]
    captured = [bytes.fromhex(line) for line in sys.stdin]
    chance = random.Random(1)
    ready = [bent(chance, captured) for _ in range(2000)]
    large = os.urandom(60000)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sent = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if sent > rate * (now - began):
            time.sleep(0.0005)
            continue
        packets = chance.choice(ready)
        target = chance.choice(targets)
        size = len(packets[0])
        draw = chance.random()
        if draw < 0.9:
            # at most 64 kB in one call
            packets = packets[: 65000 // size]
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder))]
            sock.sendmsg(packets, control, 0, target)
            sent += len(packets)
        elif draw < 0.99:
            sock.sendto(packets[0], target)
            sent += 1
        else:
            sock.sendto(large, target)  # in fragments
            sent += 1
    print(sent, time.monotonic() - began)


if __name__ == "__main__":
    main()
