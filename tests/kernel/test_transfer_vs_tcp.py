"""One stream beside one TCP connection of the kernel, on the same link."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

from netmesh_trio.testing.namespaces import Host, KernelInternet, LinkShape, tcp_seconds

pytestmark = pytest.mark.kernel

PORT = 4650
BULK = (sys.executable, "-m", "tests.kernel.scripts.bulk")


def our_seconds(sender: Host, receiver: Host, size: int) -> float:
    """Like `tcp_seconds`: from the first packet to the answer that all has been read."""
    server = receiver.popen([*BULK, "serve", str(PORT)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server.stdout:
        peer_id = server.stdout.readline().decode().strip()
    try:
        target = f"netmesh://{peer_id}@{receiver.address}:{PORT}"
        done = sender.run([*BULK, "send", target, str(size)], timeout=100)
    finally:
        server.kill()
        server.wait()
    return float(json.loads(done.stdout)["seconds"])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        pytest.param(LinkShape(delay=0.020, loss=0.01), 3_000_000, id="1 percent, 40 ms"),
        pytest.param(LinkShape(delay=0.020), 20_000_000, id="no loss, 40 ms"),
        pytest.param(LinkShape(delay=0.020, rate=50e6, queue=625_000), 10_000_000, id="50 Mbit per s, 100 ms of queue"),
    ],
)
def test_beside_tcp(kernel: None, shape: LinkShape, size: int) -> None:
    """Which packets are lost is chance, and so is what a transfer takes: the bound is far from what is usual."""
    tcp, ours = [], []
    for seed in range(3 if shape.loss else 1):
        with KernelInternet(seed=seed) as lab:
            a, r = lab.host("a", shape=shape), lab.host("r")
            tcp.append(tcp_seconds(a, r, size))
            ours.append(our_seconds(a, r, size))
    ratio = statistics.median(tcp) / statistics.median(ours)
    print(f"TCP {statistics.median(tcp):.2f} s, one stream {statistics.median(ours):.2f} s: ratio {ratio:.2f}")
    assert ratio >= 0.3
