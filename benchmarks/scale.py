"""What a node, an announcement and a circuit cost, and how that grows with the mesh.

``python -m benchmarks.scale relay``: one relay process, and up to 1,000 nodes with sockets of their own in this
process, all on loopback; then up to 200 circuits that carry small messages, and one that carries bulk.

``python -m benchmarks.scale mesh``: up to 5,000 nodes of the real code on the virtual internet, each with sessions with
two of a few relays that are connected in a ring; a twentieth of them leaves and comes back; routes are asked for.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from trio.testing import MockClock

import netmesh_trio
from netmesh_trio import Identity, Node, NodeConfig, TraversalConfig, open_node
from netmesh_trio.testing import Host, VirtualInternet

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Seconds: nodes announce themselves anew every 200.
_ROUND = 200.0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


class _Crowd:
    """Nodes that are opened one by one and stay until the block is left."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.nodes: list[Node] = []
        self._scopes: list[trio.CancelScope] = []

    async def add(self, bind: tuple[str, int], bootstrap: Sequence[str], network: Host | None = None) -> Node:
        node: Node = await self._nursery.start(self._run, bind, bootstrap, network)
        return node

    async def remove(self, index: int) -> None:
        self.nodes.pop(index)
        self._scopes.pop(index).cancel()

    async def _run(
        self,
        bind: tuple[str, int],
        bootstrap: Sequence[str],
        network: Host | None,
        *,
        task_status: trio.TaskStatus[Node],
    ) -> None:
        config = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))
        with trio.CancelScope() as scope:
            async with open_node(Identity.generate(), bind, bootstrap, config, network=network) as node:
                await node.wait_connected()
                self.nodes.append(node)
                self._scopes.append(scope)
                task_status.started(node)
                async with node.listen("echo") as listener:
                    await trio.serve_listeners(_echo, [listener])


async def _echo(stream: netmesh_trio.Stream) -> None:
    async with stream:
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return


# One relay on loopback


async def _relay() -> None:
    async with open_node(Identity.generate(), ("127.0.0.1", 0)) as node:
        print(node.addresses[0], flush=True)
        async for _ in _lines():
            stats = node.statistics()
            print(
                json.dumps({"sent": stats.packets_sent, "relayed": stats.relayed_packets, "circuits": stats.circuits})
            )
            sys.stdout.flush()


async def _lines() -> AsyncGenerator[bytes, None]:
    stdin = trio.lowlevel.FdStream(os.dup(0))
    while data := await stdin.receive_some():
        for _ in range(data.count(b"\n")):
            yield b""


class _Relay:
    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.scale", "--relay-process"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.uri = self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def counters(self) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._read())
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


async def _span(relay: _Relay, seconds: float) -> dict[str, float]:
    """What relay and nodes spend in so many seconds, per second."""
    before, own, theirs, began = relay.counters(), _cpu(os.getpid()), _cpu(relay.pid), time.monotonic()
    await trio.sleep(seconds)
    took = time.monotonic() - began
    after = relay.counters()
    return {
        "relay_cpu": (_cpu(relay.pid) - theirs) / took,
        "nodes_cpu": (_cpu(os.getpid()) - own) / took,
        "relay_packets": (after["sent"] - before["sent"]) / took,
        "relayed_packets": (after["relayed"] - before["relayed"]) / took,
    }


async def measure_relay(sizes: Sequence[int], circuits: Sequence[int], seconds: float) -> dict[str, Any]:
    """One relay with nodes around it, and circuits through it."""
    relay = _Relay()
    results: dict[str, Any] = {"nodes": [], "circuits": []}
    empty = _memory(relay.pid)
    try:
        async with trio.open_nursery() as nursery:
            crowd = _Crowd(nursery)
            for size in sizes:
                theirs, began, had = _cpu(relay.pid), time.monotonic(), len(crowd.nodes)
                while len(crowd.nodes) < size:
                    number = len(crowd.nodes)
                    await crowd.add((f"127.1.{number // 250}.{number % 250 + 1}", 0), [relay.uri])
                joined = {
                    "join_cpu": (_cpu(relay.pid) - theirs) / (size - had),
                    "join_seconds": (time.monotonic() - began) / (size - had),
                }
                await trio.sleep(5)  # what belongs to joining
                memory = (_memory(relay.pid) - empty) / size
                idle = await _span(relay, seconds)
                row = {"nodes": size, "session_bytes": memory, **joined, **idle}
                results["nodes"].append(row)
                _show(row)
            streams: list[netmesh_trio.Stream] = []
            before_circuits = _memory(relay.pid)
            for count in circuits:
                while len(streams) < count:
                    a, b = crowd.nodes[2 * len(streams)], crowd.nodes[2 * len(streams) + 1]
                    try:
                        peer = await a.connect(b.peer_id)
                    except netmesh_trio.PeerUnreachableError:
                        continue  # on a machine that is busy with other things its session may just be coming back
                    streams.append(await peer.open_stream("echo"))
                memory = (_memory(relay.pid) - before_circuits) / count
                trips: list[float] = []
                async with trio.open_nursery() as pings:
                    for stream in streams:
                        pings.start_soon(_ping, stream, trips)
                    busy = await _span(relay, seconds)
                    pings.cancel_scope.cancel()
                trips.sort()
                row = {
                    "circuits": relay.counters()["circuits"],
                    "circuit_bytes": memory,
                    "p50": trips[len(trips) // 2],
                    "p99": trips[len(trips) * 99 // 100],
                    **busy,
                }
                results["circuits"].append(row)
                _show(row)
            nursery.cancel_scope.cancel()
    finally:
        relay.close()
    return results


async def _ping(stream: netmesh_trio.Stream, trips: list[float]) -> None:
    message = bytes(100)
    await trio.sleep(random.random())
    while True:
        began = trio.current_time()
        await stream.send_all(message)
        got = 0
        while got < len(message):
            got += len(await stream.receive_some())
        trips.append(trio.current_time() - began)
        await trio.sleep(1.0)


# A mesh on the virtual internet


@attrs.define
class _Counts:
    """Sums over all nodes."""

    packets: int = 0
    announcements: int = 0
    verified: int = 0


def _count(nodes: Sequence[Node]) -> _Counts:
    counts = _Counts()
    for node in nodes:
        stats = node._store.stats()
        counts.packets += node.statistics().packets_sent
        counts.announcements += sum(stats.verdicts.values())
        counts.verified += stats.verified
    return counts


async def measure_mesh(sizes: Sequence[int], relays: int, seed: int = 1) -> dict[str, Any]:
    """A ring of relays, and nodes with two of them each."""
    chance = random.Random(seed)
    rows: list[dict[str, float]] = []
    async with _mesh(relays, seed) as (net, crowd, uris):
        base = _memory(os.getpid())
        number = 0

        async def join() -> None:
            nonlocal number
            host = net.host(f"n{number}", behind=chance.choice(("port-restricted", "symmetric", None)))
            number += 1
            await crowd.add(("0.0.0.0", 4650), chance.sample(uris, 2), host)

        for size in sizes:
            cpu, had, before = time.process_time(), len(crowd.nodes) - relays, _count(crowd.nodes)
            while len(crowd.nodes) - relays < size:
                await join()
            await trio.sleep(60)
            after = _count(crowd.nodes)
            row: dict[str, float] = {
                "nodes": size,
                "join_cpu": (time.process_time() - cpu) / (size - had),
                "join_announcements": (after.announcements - before.announcements) / (size - had),
            }
            gc.collect()
            row["node_bytes"] = (_memory(os.getpid()) - base) / size
            cpu, before = time.process_time(), _count(crowd.nodes)
            await trio.sleep(_ROUND)
            after = _count(crowd.nodes)
            row["idle_cpu"] = (time.process_time() - cpu) / _ROUND / size
            row["idle_packets"] = (after.packets - before.packets) / _ROUND / size
            row["announcements_of_one"] = (after.announcements - before.announcements) / size
            row["hubs"] = sum("hub:" in " ".join(node._store._own.announcement.tags) for node in crowd.nodes)  # type: ignore[union-attr]
            cpu = time.process_time()
            for _ in range(size // 20):
                await crowd.remove(chance.randrange(relays, len(crowd.nodes)))
            for _ in range(size // 20):
                await join()
            await trio.sleep(10)
            row["churn_cpu"] = (time.process_time() - cpu) / (size // 20)
            took: list[float] = []
            cpu = time.process_time()
            for _ in range(50):
                a, b = chance.sample(crowd.nodes[relays:], 2)
                began = trio.current_time()
                await a.connect(b.peer_id)
                took.append(trio.current_time() - began)
            row["connect_cpu"] = (time.process_time() - cpu) / 50
            row["connect_seconds"] = max(took)
            rows.append(row)
            _show(row)
    return {"relays": relays, "nodes": rows}


@asynccontextmanager
async def _mesh(relays: int, seed: int) -> AsyncGenerator[tuple[VirtualInternet, _Crowd, list[str]], None]:
    async with VirtualInternet(seed=seed, segments=44, delay=0.01, resolution=0.001, log_limit=0) as net:
        async with trio.open_nursery() as nursery:
            crowd = _Crowd(nursery)
            uris: list[str] = []
            for number in range(relays):
                host = net.host(f"relay{number}")
                known = [uris[-1]] if uris else []
                if number == relays - 1 and number > 1:
                    known.append(uris[0])
                node = await crowd.add(("0.0.0.0", 4650), known, host)
                uris.append(f"netmesh://{node.peer_id}@{host.address}:4650")
            await trio.sleep(60)
            yield net, crowd, uris
            nursery.cancel_scope.cancel()


def _show(row: dict[str, float]) -> None:
    print(json.dumps({name: round(value, 6) for name, value in row.items()}), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("relay", "mesh"), default="relay")
    parser.add_argument("--sizes", type=int, nargs="*")
    parser.add_argument("--circuits", type=int, nargs="*", default=(25, 50, 100, 200))
    parser.add_argument("--relays", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", help="write the results to this file, too")
    parser.add_argument("--relay-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay_process:
        trio.run(_relay)
        return
    if options.what == "relay":
        sizes = options.sizes or (125, 250, 500, 1000)
        results = trio.run(measure_relay, sizes, options.circuits, options.seconds)
    else:
        sizes = options.sizes or (312, 625, 1250, 2500, 5000)
        results = trio.run(measure_mesh, sizes, options.relays, clock=MockClock(autojump_threshold=0))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
