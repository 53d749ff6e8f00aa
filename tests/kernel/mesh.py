"""Nodes of the command line in a kernel laboratory: relays, and a file on its way between two hosts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from netmesh_trio.testing.namespaces import Host
from tests.cli.program import Program

PORT = 4650


class Mesh:
    """Programs on hosts; all are ended when the block is left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.relays: dict[str, Program] = {}
        self.bootstrap: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, host: Host, *arguments: object) -> Program:
        """Start a command on a host."""
        program = Program(*arguments, prefix=tuple(host.command([])))
        self._stack.callback(program.close)
        return program

    def relay(self, host: Host) -> Program:
        """Start a node that others bootstrap from; its events end up in nobody's way."""
        identity = self.directory / f"{host.name}.key"
        program = self.run(host, "node", "--bind", f"0.0.0.0:{PORT}", "--identity", identity)
        peer_id = program.wait_for("ready")["peer_id"]
        self.bootstrap += ["--bootstrap", f"netmesh://{peer_id}@{host.address}:{PORT}"]
        self.relays[peer_id] = program
        threading.Thread(target=_discard, args=(program,), daemon=True).start()
        return program

    def receiver(self, host: Host, directory: Path, *arguments: object) -> tuple[Program, str]:
        """Start ``receive``; the program and the peer id to send to."""
        program = self.run(host, "receive", directory, *arguments, *self.bootstrap)
        return program, program.wait_for("ready")["peer_id"]

    def sender(self, host: Host, file: Path, peer_id: str, *arguments: object) -> Program:
        """Start ``send``."""
        return self.run(host, "send", file, peer_id, *arguments, *self.bootstrap)


def _discard(program: Program) -> None:
    assert program.process.stdout is not None
    try:
        for _ in program.process.stdout:
            pass
    except ValueError:  # closed while reading
        pass


def make_file(path: Path, size: int) -> Path:
    """A file of random bytes."""
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(os.urandom(min(size, 1 << 20)))
    return path


def bytes_in(directory: Path) -> int:
    """What lies in a directory, hidden files too."""
    total = 0
    for entry in os.scandir(directory):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:  # it got its name between the two calls
            return bytes_in(directory)
    return total


class Growth:
    """How the files in a directory grew, sampled every few milliseconds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.samples: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.005):
            size = bytes_in(self._directory) if self._directory.exists() else 0
            if not self.samples or size > self.samples[-1][1]:
                self.samples.append((time.monotonic(), size))

    @property
    def size(self) -> int:
        """Bytes there now."""
        return self.samples[-1][1] if self.samples else 0

    def wait_for(self, size: int, timeout: float = 60) -> None:
        """Wait until so many bytes are there."""
        deadline = time.monotonic() + timeout
        while self.size < size:
            assert time.monotonic() < deadline, f"only {self.size} bytes after {timeout} s"
            time.sleep(0.002)

    def longest_pause(self, after: float = 0.0) -> float:
        """Seconds of the longest time without growth that ended after ``after``, on the monotonic clock."""
        times = [time for time, size in self.samples if size]
        return max((b - a for a, b in pairwise(times) if b >= after), default=0.0)


@contextmanager
def growth(directory: Path) -> Iterator[Growth]:
    """Watch a directory for the length of a block."""
    watching = Growth(directory)
    watching._thread.start()
    try:
        yield watching
    finally:
        watching._over.set()
        watching._thread.join()


def memory(program: Program) -> int:
    """Bytes of memory that a program occupies now; 0 once it is over."""
    for line in Path(f"/proc/{program.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(program: Program) -> float:
    """Processor time that a program has used."""
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
