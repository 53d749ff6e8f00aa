"""TCP services over the mesh while the path under them becomes direct, and is lost again."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netmesh_trio.testing.namespaces import Host, KernelInternet
from tests.cli.program import Program
from tests.kernel.mesh import Mesh, make_file

pytestmark = pytest.mark.kernel

SIZE = 40_000_000
SSH, WEB = 2222, 8080
ECHO = f"""
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.request.setsockopt(6, 1, 1)
        for line in self.rfile:
            self.wfile.write(line)
        self.wfile.write(b"bye")
socketserver.ThreadingTCPServer(("127.0.0.1", {SSH}), Echo).serve_forever()
"""


def connect(host: Host, port: int) -> socket.socket:
    """A TCP connection to the host's own loopback address, as soon as somebody listens there."""
    deadline = time.monotonic() + 30
    while True:
        made = host.socket(kind=socket.SOCK_STREAM)
        made.settimeout(30)
        try:
            made.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            made.close()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made


class Typist:
    """Somebody at a remote shell: a line, its echo, the next line; until told to stop."""

    def __init__(self) -> None:
        self.lines = 0
        self.slowest = 0.0
        self.farewell = b""
        self.wrong: list[bytes] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, host: Host, port: int) -> None:
        self._thread = threading.Thread(target=self._run, args=(connect(host, port),))
        self._thread.start()

    def finish(self) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(30)

    def _run(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as answers:
            while not self._stop.is_set():
                line = b"%d %s\n" % (self.lines, os.urandom(20).hex().encode())
                start = time.monotonic()
                connection.sendall(line)
                if (echo := answers.readline()) != line:
                    self.wrong.append(echo)
                    return
                self.slowest = max(self.slowest, time.monotonic() - start)
                self.lines += 1
            connection.shutdown(socket.SHUT_WR)
            self.farewell = answers.read()


class Download(threading.Thread):
    """Somebody who fetches a large file over HTTP."""

    def __init__(self, host: Host, port: int) -> None:
        super().__init__()
        self._http = http.client.HTTPConnection("127.0.0.1", port)
        self._http.sock = connect(host, port)
        self.size = 0
        self.digest = ""

    def run(self) -> None:
        self._http.request("GET", "/data.bin")
        answer = self._http.getresponse()
        digest = hashlib.blake2b()
        while piece := answer.read(1 << 16):
            digest.update(piece)
            self.size += len(piece)
        self.digest = digest.hexdigest()
        self._http.close()


class Follow(threading.Thread):
    """Collects what a program reports, so that several may wait for it."""

    def __init__(self, program: Program) -> None:
        super().__init__(daemon=True)
        self.program = program
        self.start()

    def run(self) -> None:
        self.program.finish()

    def find(self, **fields: object) -> list[int]:
        """Where in its events those with these values are."""
        return [i for i, event in enumerate(self.program.events) if fields.items() <= event.items()]

    def wait_for(self, count: int = 1, **fields: object) -> None:
        wait(lambda: len(self.find(**fields)) >= count)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sessions_stay_when_the_path_changes(lab: KernelInternet, tmp_path: Path) -> None:
    relay = lab.host("r", delay=0.02)
    a = lab.nat("na", kind="port-restricted").host("a", delay=0.02, rate=80e6)
    b = lab.nat("nb", kind="port-restricted").host("b", delay=0.02, rate=80e6)
    file = make_file(tmp_path / "data.bin", SIZE)
    b.popen([sys.executable, "-c", ECHO])
    web = "from http.server import *; SimpleHTTPRequestHandler.protocol_version = 'HTTP/1.1'; "
    web += f"ThreadingHTTPServer(('127.0.0.1', {WEB}), SimpleHTTPRequestHandler).serve_forever()"
    b.popen([sys.executable, "-c", web], cwd=tmp_path, stderr=subprocess.DEVNULL)
    for port in (SSH, WEB):
        connect(b, port).close()
    typist = Typist()
    with Mesh(tmp_path) as mesh:
        mesh.relay(relay)
        exposes = [
            mesh.run(b, "expose", name, f"127.0.0.1:{port}", *mesh.bootstrap)
            for name, port in (("ssh", SSH), ("web", WEB))
        ]
        peers = [program.wait_for("ready")["peer_id"] for program in exposes]
        time.sleep(1)  # they have found out about their NAT
        follows = []
        ports = []
        for name, peer_id in zip(("ssh", "web"), peers, strict=True):
            forward = mesh.run(a, "forward", "127.0.0.1:0", peer_id, name, *mesh.bootstrap)
            ports.append(int(forward.wait_for("listening")["addresses"][0].split(":")[1]))
            follows.append(Follow(forward))
            if name == "ssh":
                typist.start(a, ports[0])
        download = Download(a, ports[1])
        download.start()
        for follow, peer_id in zip(follows, peers, strict=True):
            follow.wait_for(event="path", kind="direct", peer_id=peer_id)
        upgraded = typist.lines, download.size
        assert download.size < SIZE // 2
        wait(lambda: download.size > SIZE // 2)
        lab.block(a, b)
        for follow, peer_id in zip(follows, peers, strict=True):
            follow.wait_for(2, event="path", kind="relayed", peer_id=peer_id)
        blocked = typist.lines, download.size
        assert download.size < SIZE
        download.join(60)
        assert download.digest == hashlib.blake2b(file.read_bytes()).hexdigest()
        wait(lambda: typist.lines > blocked[0] + 10)
        typist.finish()
        assert (typist.wrong, typist.farewell) == ([], b"bye")
        print(
            f"direct after {upgraded[0]} lines, {upgraded[1]:,} bytes; blocked and relayed after {blocked[0]} lines, "
            f"{blocked[1]:,} bytes; {typist.lines} lines in all, the slowest took {typist.slowest:.2f} s"
        )
        for follow, peer_id in zip(follows, peers, strict=True):
            follow.wait_for(event="connection", state="closed", number=1)
            (opened,) = follow.find(event="connection", state="open")
            (closed,) = follow.find(event="connection", state="closed")
            direct = follow.find(event="path", kind="direct", peer_id=peer_id)
            assert opened < direct[0] < closed
            assert follow.program.events[closed]["reason"] is None
            assert follow.program.errors == ""
