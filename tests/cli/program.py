"""Runs the command line in processes of its own, and follows its JSON events."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Program:
    """One running command."""

    def __init__(self, *arguments: object, prefix: tuple[str, ...] = ()) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        command = [*prefix, sys.executable, "-W", "error", "-m", "netmesh_trio.cli"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments), "--json"],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.events: list[dict[str, Any]] = []

    def wait_for(self, event: str, **fields: object) -> dict[str, Any]:
        """The next event of that name with these values; fails when the program ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: dict[str, Any] = json.loads(line)
            self.events.append(found)
            if found["event"] == event and fields.items() <= found.items():
                return found
        raise AssertionError(f"no {event} in {self.events}; stderr: {self.errors!r}")

    @property
    def errors(self) -> str:
        """All that is on stderr."""
        self._errors.seek(0)
        return self._errors.read()

    def finish(self, timeout: float = 60) -> int:
        """Wait for the end; the exit code."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
        return self.process.wait(timeout)

    def last(self, event: str) -> dict[str, Any]:
        """The last event of that name so far."""
        return next(found for found in reversed(self.events) if found["event"] == event)

    def close(self) -> None:
        """End it, however it stands."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


@contextmanager
def running(*arguments: object, prefix: tuple[str, ...] = ()) -> Iterator[Program]:
    """Run a command for the length of a block."""
    program = Program(*arguments, prefix=prefix)
    try:
        yield program
    finally:
        program.close()
