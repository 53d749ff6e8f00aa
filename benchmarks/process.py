"""One end of a subject in a process of its own, as the suite sees it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.places import Spot
from benchmarks.subject import NotOffered

__all__ = ["End", "Failed", "running"]

_ROOT = str(Path(__file__).resolve().parent.parent)
_START = 30.0
_LINES_OF_ERROR = 4


class Failed(Exception):
    """An end broke or took too long; the text is the last that it said."""


class End:
    """A running :mod:`benchmarks.child`."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while reading
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def wait_ready(self) -> str:
        """The address that it serves at."""
        return str(self._next("ready", _START))

    def wait_result(self, timeout: float) -> dict[str, Any]:
        """What it measured."""
        result = self._next("result", timeout)
        assert isinstance(result, dict)
        return result

    def _next(self, key: str, timeout: float) -> object:
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"no {key} within {timeout:g} s; {self._last_words()}") from None
            if line is None:
                self._process.wait(5)
                raise Failed(f"ended with code {self._process.returncode}: {self._last_words()}")
            if not line.startswith("{"):
                continue  # some packages print
            said = json.loads(line)
            if "not_offered" in said:
                raise NotOffered(said["not_offered"])
            if key in said:
                return said[key]

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return " | ".join(lines[-_LINES_OF_ERROR:])[-400:] or "it said nothing"

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time so far, of all its threads; None where /proc does not tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float | None:
        """Resident bytes now; None where /proc does not tell."""
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return None
        found = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:")]
        return int(found[0]) * 1024.0 if found else None


@contextmanager
def running(role: str, subject: str, spot: Spot, task: dict[str, Any]) -> Iterator[End]:
    """Run an end for the length of the block."""
    command = [*spot.prefix, sys.executable, "-m", "benchmarks.child", role, subject, json.dumps(task)]
    path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        with process:
            try:
                yield End(process, errors)
            finally:
                process.kill()
