"""``watch``: events and rates for programs and pipes, a picture on a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from netmesh_trio import Identity, open_node
from netmesh_trio.cli.watch_view import Sampler
from netmesh_trio.testing import VirtualInternet
from tests.cli.program import running

LOOPBACK = ("--bind", "127.0.0.1:0")


@pytest.fixture
def mesh() -> Iterator[tuple[str, str]]:
    """The URI of a relay, and the peer id of a node that stays on it."""
    with running("node", *LOOPBACK) as relay:
        (uri,) = relay.wait_for("ready")["addresses"]
        with running("node", *LOOPBACK, "--bootstrap", uri, "--no-direct") as node:
            yield uri, node.wait_for("ready")["peer_id"]


def test_rates_for_programs(mesh: tuple[str, str]) -> None:
    uri, peer_id = mesh
    with running("watch", peer_id, *LOOPBACK, "--bootstrap", uri, "-i", 0.1) as watch:
        watch.wait_for("path", peer_id=peer_id, kind="relayed")
        rates: dict[str, Any] = {}
        found: list[dict[str, Any]] = []
        while not found:  # until the pings show
            rates = watch.wait_for("rates")
            found = [peer for peer in rates["peers"] if peer["peer_id"] == peer_id and peer["received"]]
        assert found[0]["kind"] == "relayed"
        assert str(found[0]["via"]) in uri
        assert rates["received"] > 0
        watch.process.send_signal(signal.SIGTERM)
        assert watch.finish() == 0


def test_oneself_cannot_be_watched(tmp_path: Path) -> None:
    peer_id = Identity.load_or_create(tmp_path / "key").peer_id
    with running("watch", peer_id, "--identity", tmp_path / "key", "--bind", "127.0.0.1:0") as watch:
        assert watch.finish() == 1
        assert "own peer id" in watch.last("error")["message"]
        assert watch.errors.count("own peer id") == 1


def test_lines_in_a_pipe(mesh: tuple[str, str]) -> None:
    command = [sys.executable, "-W", "error", "-m", "netmesh_trio.cli", "watch", *LOOPBACK, "--bootstrap", mesh[0]]
    with subprocess.Popen([*command, "-i", "0.1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = ""
        while not line.startswith("rates"):
            line = process.stdout.readline()
        process.terminate()
    assert re.fullmatch(
        r"rates  \d peers?, [\d.]+ k?(bytes|B)/s in, [\d.]+ k?(bytes|B)/s out, 0 bytes/s relayed\n", line
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_the_picture(mesh: tuple[str, str]) -> None:
    import fcntl
    import pty
    import termios

    uri, peer_id = mesh
    terminal, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, "-W", "error", "-m", "netmesh_trio.cli", "watch", peer_id, *LOOPBACK, "--bootstrap", uri]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen([*command, "-i", "0.3"], stdin=far, stdout=far, stderr=far, env=environment)
    os.close(far)
    shown = ""

    def expect(pattern: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 60
        while not re.search(pattern, shown):
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 1)[0]:
                # colors and movements are not of interest
                shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(terminal, 65536).decode(errors="ignore"))

    try:
        expect("out +│")
        expect(f"{peer_id[:8]}  relayed by {uri[10:18]} .* ms +[1-9][0-9.]* bytes/s")
        expect("path   to ")
        lines = {len(line) for line in re.findall("│.*│", shown)}
        assert lines == {80}
        process.send_signal(signal.SIGINT)
        expect("stopped by Ctrl-C")
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


async def test_rates_are_bytes_a_second(autojump_clock: trio.abc.Clock) -> None:
    net = VirtualInternet()
    here, there = net.host("here"), net.host("there")
    sampler = Sampler()
    async with net, open_node(Identity.generate(), network=here) as a:
        async with open_node(Identity.generate(), network=there) as b, b.listen("sink") as listener:
            peer = await a.connect(b.addresses[0])
            async with await peer.open_stream("sink") as stream, await listener.accept() as incoming:
                await trio.sleep(1)
                assert sampler.look(a).sent == 0  # the first look
                await stream.send_all(bytes(100_000))
                received = 0
                while received < 100_000:
                    received += len(await incoming.receive_some())
                await trio.sleep(10 - trio.current_time() % 1)
                before = trio.current_time()
                rates = sampler.look(a)
                of_peer = rates.peers[peer.peer_id]
                assert 100_000 < of_peer[1] * 10 < 130_000
                assert rates.sent == pytest.approx(of_peer[1])
                await trio.sleep(5)
                assert trio.current_time() == before + 5
                assert sampler.look(a).sent * 5 < 2000
        await trio.sleep(10)
        assert sampler.look(a).known == ()
