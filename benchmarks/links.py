"""How flows behave on links that lose, delay and queue: beside the kernel's TCP CUBIC, and beside each other.

Run ``python -m benchmarks.links``; Linux and root only.  Each *cell* is a link with a rate, a round-trip time, a queue
and a chance of loss, made of network namespaces and a forwarder (:mod:`netmesh_trio.testing.namespaces`).  In every
cell run, one after the other, for some seconds each:

* ``tcp``: one TCP connection of the kernel with CUBIC;
* ``ours``: one stream of netmesh_trio;
* ``tcp+tcp``, ``ours+ours``, ``ours+tcp``: two at once, the second one joins while the first is running.

Reported are the goodput of each flow over the last two thirds of the time in which both run, its share, and how long
packets waited in the queue on average.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import attrs
import trio

import netmesh_trio
from netmesh_trio.testing.namespaces import Host, KernelInternet, LinkShape, unavailable_reason

_PIECE = 1 << 17
_TICK = 0.1
_GRACE = 3.0


@attrs.frozen(kw_only=True)
class Cell:
    """One kind of link; seconds, bits per second, and the chance that a packet is lost."""

    rtt: float
    queue: float
    loss: float = 0.0
    rate: float = 20e6

    def shape(self) -> LinkShape:
        """The link as the laboratory makes it."""
        return LinkShape(
            delay=self.rtt / 2, loss=self.loss, rate=self.rate, queue=max(4500, int(self.queue * self.rate / 8))
        )

    def __str__(self) -> str:
        return (
            f"{self.rate / 1e6:g} Mbit/s, {self.rtt * 1e3:g} ms, queue {self.queue * 1e3:g} ms, "
            f"loss {self.loss * 100:g} %"
        )


GRID = tuple(
    Cell(rtt=rtt, queue=queue, loss=loss)
    for rtt in (0.001, 0.02, 0.1, 0.2)
    for queue in (0.02, 0.2)
    for loss in (0.0, 0.001, 0.01, 0.05)
)


@attrs.frozen(kw_only=True)
class Outcome:
    """What the flows of one run did."""

    flows: tuple[str, ...]
    goodputs: tuple[float, ...]
    """Bytes a second that the receivers' programs got, one for each flow."""
    waited: float
    """Seconds that a packet waited in the queue, on average over the whole run."""
    dropped: float
    """Part of the packets that found the queue full."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Each flow's part of the sum."""
        total = sum(self.goodputs) or 1.0
        return tuple(goodput / total for goodput in self.goodputs)


# The programs at the ends: each receiver prints where it is, and in the end what it had got by when.


def _report(timeline: list[tuple[float, int]]) -> None:
    print(json.dumps(timeline), flush=True)


def _tcp_receive(seconds: float) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        timeline = [(time.monotonic(), 0)]
        buffer = bytearray(_PIECE)
        total = 0
        with connection:
            connection.settimeout(seconds + _GRACE)
            while count := connection.recv_into(buffer):
                total += count
                if time.monotonic() >= timeline[-1][0] + _TICK:
                    timeline.append((time.monotonic(), total))
                if time.monotonic() >= timeline[0][0] + seconds:
                    break
    _report(timeline)


def _tcp_send(host: str, port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        connection.connect((host, int(port)))
        piece = bytes(_PIECE)
        try:
            while True:
                connection.sendall(piece)
        except OSError:
            return


async def _ours_receive(seconds: float) -> None:
    async with netmesh_trio.open_node(netmesh_trio.Identity.generate()) as node:
        async with node.listen("bulk") as listener:
            print(f"{node.peer_id} {node.addresses[0].address.port}", flush=True)  # type: ignore[union-attr]
            stream = await listener.accept()
            timeline = [(time.monotonic(), 0)]
            total = 0
            with trio.move_on_after(seconds + _GRACE):
                while data := await stream.receive_some(_PIECE):
                    total += len(data)
                    if time.monotonic() >= timeline[-1][0] + _TICK:
                        timeline.append((time.monotonic(), total))
                    if time.monotonic() >= timeline[0][0] + seconds:
                        break
            _report(timeline)


async def _ours_send(host: str, peer_id: str, port: str) -> None:
    async with netmesh_trio.open_node(netmesh_trio.Identity.generate()) as node:
        peer = await node.connect(f"netmesh://{peer_id}@{host}:{port}")
        stream = await peer.open_stream("bulk")
        piece = bytes(_PIECE)
        try:
            while True:
                await stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


# The laboratory


class _Flow:
    def __init__(self, kind: str, sender: Host, receiver: Host, seconds: float) -> None:
        self.kind = kind
        self._sender = sender
        self._host = receiver.address
        self._receiver = receiver.popen([*_program(kind, "receive"), str(seconds)], stdout=subprocess.PIPE)
        self._where = self._line().split()
        self._running: subprocess.Popen[bytes] | None = None

    def _line(self) -> str:
        assert self._receiver.stdout is not None
        return self._receiver.stdout.readline().decode()

    def start(self) -> None:
        self._running = self._sender.popen([*_program(self.kind, "send"), self._host, *self._where])

    def timeline(self) -> list[tuple[float, int]]:
        """When the receiver had how much; waits for its end."""
        found: list[tuple[float, int]] = json.loads(self._line() or "[]")
        self.end()
        return found

    def end(self) -> None:
        for process in (self._running, self._receiver):
            if process is not None:
                process.kill()
                process.wait()
        if self._receiver.stdout is not None:
            self._receiver.stdout.close()


def _program(kind: str, role: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.links", f"--{kind}-{role}"]


def _got(timeline: Sequence[tuple[float, int]], at: float) -> float:
    """Bytes got by ``at``, between two entries in proportion."""
    before = (timeline[0][0], 0)
    for entry in timeline:
        if entry[0] >= at:
            part = (at - before[0]) / max(entry[0] - before[0], 1e-9)
            return before[1] + (entry[1] - before[1]) * min(max(part, 0.0), 1.0)
        before = entry
    return timeline[-1][1]


def run_cell(cell: Cell, flows: Sequence[str], seconds: float, *, apart: float = 0.0, seed: int = 0) -> Outcome:
    """Run the flows, each from a host of its own to one behind the link, the next ``apart`` seconds after the one
    before; ``seconds`` is how long all of them run together."""
    with KernelInternet(seed=seed) as lab:
        receiver = lab.host("r", shape=cell.shape())
        senders = [lab.host(f"s{i}") for i in range(len(flows))]
        lasting = seconds + apart * (len(flows) - 1)
        running = [
            _Flow(kind, sender, receiver, lasting - apart * i)
            for i, (kind, sender) in enumerate(zip(flows, senders, strict=True))
        ]
        for i, flow in enumerate(running):
            if i:
                time.sleep(apart)
            flow.start()
        timelines = [flow.timeline() for flow in running]
        link = receiver.link.stats()["down"]
    if not all(timelines):
        return Outcome(flows=tuple(flows), goodputs=(0.0,) * len(flows), waited=0.0, dropped=0.0)
    stop = min(timeline[-1][0] for timeline in timelines)
    start = max(timeline[0][0] for timeline in timelines)
    start += (stop - start) / 3 if len(flows) > 1 else 0.0
    goodputs = tuple((_got(t, stop) - _got(t, start)) / (stop - start) for t in timelines)
    packets = max(1, link.forwarded)
    return Outcome(
        flows=tuple(flows),
        goodputs=goodputs,
        waited=link.waited / packets,
        dropped=link.queue_drops / (packets + link.queue_drops),
    )


def measure(cells: Sequence[Cell], mixes: Sequence[str], seconds: float) -> Iterator[tuple[Cell, Outcome]]:
    """Run every mix (such as ``ours+tcp``) in every cell."""
    for number, cell in enumerate(cells):
        for mix in mixes:
            kinds = mix.split("+")
            yield cell, run_cell(cell, kinds, seconds, apart=seconds / 6 if len(kinds) > 1 else 0.0, seed=number)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the flows of a cell run together")
    parser.add_argument("--mixes", default="tcp,ours,tcp+tcp,ours+ours,ours+tcp")
    parser.add_argument("--rtt", type=float, nargs="*", help="only cells with these round-trip times, seconds")
    parser.add_argument("--queue", type=float, nargs="*")
    parser.add_argument("--loss", type=float, nargs="*")
    parser.add_argument("--json", help="write the results to this file, too")
    for role in ("tcp-receive", "ours-receive"):
        parser.add_argument(f"--{role}", type=float, help=argparse.SUPPRESS)
    for role in ("tcp-send", "ours-send"):
        parser.add_argument(f"--{role}", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tcp_receive:
        _tcp_receive(options.tcp_receive)
    elif options.tcp_send:
        _tcp_send(*options.tcp_send)
    elif options.ours_receive:
        trio.run(_ours_receive, options.ours_receive)
    elif options.ours_send:
        trio.run(_ours_send, *options.ours_send)
    elif (reason := unavailable_reason()) is not None:
        print(f"skipped: {reason}")
    else:
        cells = [
            cell
            for cell in GRID
            if all(
                wanted is None or value in wanted
                for value, wanted in (
                    (cell.rtt, options.rtt),
                    (cell.queue, options.queue),
                    (cell.loss, options.loss),
                )
            )
        ]
        results = []
        for cell, outcome in measure(cells, options.mixes.split(","), options.seconds):
            rates = " ".join(f"{goodput / 1e6:6.3f}" for goodput in outcome.goodputs)
            share = f"{outcome.shares[0]:.2f}" if len(outcome.flows) > 1 else ""
            print(
                f"{cell!s:55} {'+'.join(outcome.flows):10} {rates:14} MB/s  share {share:5} "
                f"queue {outcome.waited * 1e3:6.1f} ms  full {outcome.dropped * 100:5.2f} %",
                flush=True,
            )
            results.append({"cell": attrs.asdict(cell), **attrs.asdict(outcome)})
        if options.json:
            with open(options.json, "w") as file:
                json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
