"""A flood of packets that mean no good, while a file is on its way."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from netmesh_trio.testing.namespaces import Host, KernelInternet
from tests.kernel.mesh import PORT, Mesh, growth, make_file, memory

pytestmark = pytest.mark.kernel

RATE = 100_000
SECONDS = 3.0
SIZE = 400_000_000
ETH_P_IP = 0x0800


def capture(host: Host, count: int) -> tuple[list[bytes], dict[str, int]]:
    """Datagrams as they pass a host, and the port that each other host mostly sent those to its node from."""
    found: list[bytes] = []
    # A node may ask from a spare socket, too, how long the router keeps a binding: the transfer's port is the busiest.
    ports: defaultdict[str, Counter[int]] = defaultdict(Counter)
    with host.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as tap:
        tap.bind(("eth0", ETH_P_IP))
        tap.settimeout(5)
        while len(found) < count:
            packet = tap.recv(65535)
            header = (packet[0] & 15) * 4
            source, destination = struct.unpack_from(">HH", packet, header)
            if destination == PORT:
                ports[socket.inet_ntoa(packet[12:16])][source] += 1
            found.append(packet[header + 8 :][:1400])
    return found, {address: counts.most_common(1)[0][0] for address, counts in ports.items()}


def test_a_flood_ends_no_session_and_grows_no_memory(lab: KernelInternet, tmp_path: Path) -> None:
    r1, evil = lab.host("r1"), lab.host("evil")
    # full cone: the flood gets through to the nodes behind
    a = lab.nat("na", kind="full-cone").host("a")
    b = lab.nat("nb", kind="full-cone").host("b")
    file = make_file(tmp_path / "data.bin", SIZE)
    inbox = tmp_path / "in"
    with Mesh(tmp_path) as mesh, growth(inbox) as grown:
        relay = mesh.relay(r1)
        receive, peer_id = mesh.receiver(b, inbox, "--once", "--no-direct")
        send = mesh.sender(a, file, peer_id, "--no-direct")
        grown.wait_for(SIZE // 50)
        captured, sources = capture(r1, 300)
        targets = [f"{host}:{port}" for host, port in (*sources.items(), (r1.address, PORT))]
        assert len(targets) == 3
        programs = (send, receive, relay)
        before = [memory(program) for program in programs]
        flood = evil.popen(
            [sys.executable, "-m", "tests.kernel.scripts.blast", str(RATE), str(SECONDS), *targets],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert flood.stdin is not None
        assert flood.stdout is not None
        with flood.stdin:
            flood.stdin.write(b"\n".join(packet.hex().encode() for packet in captured))
        began, start = time.monotonic(), grown.size
        most = before
        while flood.poll() is None and all(now := [memory(program) for program in programs]):
            most = [max(pair) for pair in zip(most, now, strict=True)]
            time.sleep(0.02)
        speed = (grown.size - start) / (time.monotonic() - began)
        with flood.stdout:
            count, seconds = flood.stdout.read().split()
        more = [round((now - was) / 1e6, 1) for now, was in zip(most, before, strict=True)]
        print(f"{int(count) / float(seconds):,.0f} packets/s; {speed / 1e6:.0f} MB/s go on; MB more: {more}")
        assert send.finish() == receive.finish() == 0, (send.errors, receive.errors)
        assert max(more) < 20
        assert (inbox / "data.bin").stat().st_size == SIZE
        for program in (send, receive):
            # when all is done either may be the first to leave; nothing may have ended before that
            gone = [e["reason"] for e in program.events if e["event"] == "peer" and e["state"] != "connected"]
            assert set(gone) <= {"closed"}, gone
            done = next(e["t"] for e in program.events if e["event"] == "done")
            assert not [e for e in program.events if e["event"] == "peer" and e["t"] < done - 1 and e["reason"]]
        assert relay.process.poll() is None
        assert relay.errors == ""
