"""Throughput of one stream and round-trip time of a small message between two processes on loopback.

Run ``python benchmarks/bench_loopback.py``.  Beside netmesh_trio it measures, in turn and in the same run:

* ``limit``: bare UDP sockets with the same batches and one AEAD a packet, without streams, acknowledgements, loss
  recovery or congestion control: what the machine allows;
* ``tcp``: a kernel TCP connection through trio's sockets, not encrypted: what most programs use today.

Only ratios within one run mean something: machines differ, and so do hours.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

import netmesh_trio
from netmesh_trio.session.keys import pack_nonce

_KEY = bytes(32)
_MESSAGE = bytes(100)
_WRITE = 1 << 20
_BATCH = 44
_HEADER = 16
_UDP_SEGMENT = 103
_UDP_GRO = 104

Client = Callable[[str, int, int, int], Awaitable[tuple[float, list[float]]]]


# netmesh_trio


async def _serve_netmesh(size: int) -> None:
    config = netmesh_trio.NodeConfig(max_datagram_size=size)
    async with netmesh_trio.open_node(netmesh_trio.Identity.generate(), ("127.0.0.1", 0), config=config) as node:

        async def sink(stream: netmesh_trio.Stream) -> None:
            async with stream:
                total = 0
                while data := await stream.receive_some():
                    total += len(data)
                await stream.send_all(total.to_bytes(8, "big"))

        async def echo(stream: netmesh_trio.Stream) -> None:
            async with stream:
                while data := await stream.receive_some():
                    await stream.send_all(data)

        async with node.listen("sink") as bulk, node.listen("echo") as small, trio.open_nursery() as nursery:
            print(node.addresses[0], flush=True)
            nursery.start_soon(trio.serve_listeners, sink, [bulk])
            nursery.start_soon(trio.serve_listeners, echo, [small])


async def _netmesh(where: str, size: int, total: int, count: int) -> tuple[float, list[float]]:
    config = netmesh_trio.NodeConfig(max_datagram_size=size)
    async with netmesh_trio.open_node(netmesh_trio.Identity.generate(), ("127.0.0.1", 0), config=config) as node:
        peer = await node.connect(where)
        async with await peer.open_stream("echo") as stream:
            times = await _round_trips(stream, count)
        data = os.urandom(_WRITE)
        async with await peer.open_stream("sink") as stream:
            started = time.perf_counter()
            for _ in range(total // _WRITE):
                await stream.send_all(data)
            await stream.send_eof()
            got = await stream.receive_some()
            rate = int.from_bytes(got, "big") / (time.perf_counter() - started)
        return rate, times


async def _round_trips(stream: trio.abc.Stream, count: int) -> list[float]:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await stream.send_all(_MESSAGE)
        left = len(_MESSAGE)
        while left:
            left -= len(await stream.receive_some(left))
        times.append(time.perf_counter() - started)
    return times


# kernel TCP


async def _serve_tcp(size: int) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            kind = await stream.receive_some(1)
            total = 0
            while data := await stream.receive_some(1 << 18):
                total += len(data)
                if kind == b"e":
                    await stream.send_all(data)
            if kind == b"b":
                await stream.send_all(total.to_bytes(8, "big"))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(serve, listeners)


async def _tcp(where: str, size: int, total: int, count: int) -> tuple[float, list[float]]:
    stream = await trio.open_tcp_stream("127.0.0.1", int(where))
    async with stream:
        await stream.send_all(b"e")
        times = await _round_trips(stream, count)
    stream = await trio.open_tcp_stream("127.0.0.1", int(where))
    async with stream:
        await stream.send_all(b"b")
        data = os.urandom(_WRITE)
        started = time.perf_counter()
        for _ in range(total // _WRITE):
            await stream.send_all(data)
        await stream.send_eof()
        got = await stream.receive_some()
        return int.from_bytes(got, "big") / (time.perf_counter() - started), times


# the limit: batches and one AEAD a packet


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind(("127.0.0.1", 0))
    return sock


async def _serve_limit(size: int) -> None:
    sock = _udp()
    sock.setsockopt(17, _UDP_GRO, 1)
    print(sock.getsockname()[1], flush=True)
    cipher = ChaCha20Poly1305(_KEY)
    buffer = memoryview(bytearray(65536))
    received = number = 0
    while True:
        length, _, _, source = sock.recvmsg_into([buffer], 64)
        if length < 200:
            if buffer[0] == 1:  # asks how much came
                sock.sendto(received.to_bytes(8, "big"), source)
                received = 0
            else:
                plain = cipher.decrypt(pack_nonce(number), buffer[_HEADER:length], None)
                sock.sendto(bytes(_HEADER) + cipher.encrypt(pack_nonce(number), plain, None), source)
            continue
        for at in range(0, length, size):
            received += len(cipher.decrypt(pack_nonce(number), buffer[at + _HEADER : min(at + size, length)], None))


async def _limit(where: str, size: int, total: int, count: int) -> tuple[float, list[float]]:
    sock = _udp()
    sock.settimeout(5)
    sock.connect(("127.0.0.1", int(where)))
    cipher = ChaCha20Poly1305(_KEY)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        sock.send(bytes(_HEADER) + cipher.encrypt(pack_nonce(0), _MESSAGE, None))
        cipher.decrypt(pack_nonce(0), sock.recv(2048)[_HEADER:], None)
        times.append(time.perf_counter() - started)
    batch = min(_BATCH, 65000 // size)
    chunk = size - _HEADER - 16
    data = os.urandom(chunk)
    header = bytes(_HEADER)
    started = time.perf_counter()
    control = [(17, _UDP_SEGMENT, size.to_bytes(2, sys.byteorder))]
    for _ in range(total // (batch * chunk)):
        pieces = []
        for _ in range(batch):
            pieces.append(header)
            pieces.append(cipher.encrypt(pack_nonce(0), data, None))
        sock.sendmsg(pieces, control)
    elapsed = time.perf_counter() - started
    # what the receiver was too slow for is lost: only what came counts
    sock.send(b"\x01")
    return int.from_bytes(sock.recv(64), "big") / max(elapsed, time.perf_counter() - started), times


_SUBJECTS: dict[str, tuple[Callable[[int], Awaitable[None]], Client]] = {
    "netmesh_trio": (_serve_netmesh, _netmesh),
    "limit": (_serve_limit, _limit),
    "tcp": (_serve_tcp, _tcp),
}


def _measure(name: str, size: int, total: int, count: int) -> tuple[float, list[float]]:
    command = [sys.executable, __file__, "--serve", name, "--datagram", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            where = server.stdout.readline().strip()
            return trio.run(_SUBJECTS[name][1], where, size, total, count)
        finally:
            server.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datagram", type=int, default=1400, help="largest UDP payload, bytes (default 1400)")
    parser.add_argument("--megabytes", type=int, default=200, help="bulk transfer (default 200)")
    parser.add_argument("--messages", type=int, default=3000, help="round trips (default 3000)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn (default 3)")
    parser.add_argument("--serve", choices=_SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(_SUBJECTS[options.serve][0], options.datagram)
        return
    names = [n for n in _SUBJECTS if n != "limit" or sys.platform == "linux"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    p50: dict[str, list[float]] = {name: [] for name in names}
    p99: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.runs):
        for name in names:
            rate, times = _measure(name, options.datagram, options.megabytes * 1_000_000, options.messages)
            times.sort()
            rates[name].append(rate / 1e6)
            p50[name].append(times[len(times) // 2] * 1e6)
            p99[name].append(times[math.ceil(len(times) * 0.99) - 1] * 1e6)
    print(
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"netmesh_trio {netmesh_trio.__version__}, trio {trio.__version__}"
    )
    print(f"datagrams of {options.datagram} bytes, {options.runs} runs, medians (min to max)\n")
    print(f"{'':14}{'one stream, MB/s':>26}{'to us':>9}{'100 B round trip p50, us':>28}{'to us':>9}{'p99, us':>10}")
    ours = statistics.median(rates["netmesh_trio"]), statistics.median(p50["netmesh_trio"])
    for name in names:
        rate, trip = statistics.median(rates[name]), statistics.median(p50[name])
        print(
            f"{name:14}{f'{rate:.0f} ({min(rates[name]):.0f} to {max(rates[name]):.0f})':>26}{rate / ours[0]:>9.2f}"
            f"{f'{trip:.0f} ({min(p50[name]):.0f} to {max(p50[name]):.0f})':>28}{trip / ours[1]:>9.2f}"
            f"{statistics.median(p99[name]):>10.0f}"
        )


if __name__ == "__main__":
    main()
