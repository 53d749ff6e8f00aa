"""What the commands print: one JSON object a line for programs, short lines for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from netmesh_trio.cli.transfer import Failure, Outcome

__all__ = ["OutputError", "Reporter", "flush_output", "human_bytes", "path_in_words"]

PROGRAM = "netmesh-trio"


def human_bytes(count: float) -> str:
    """``1.5 MB``: decimal units, as disks and networks are sold."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def path_in_words(kind: str, addr: str | None, via: str | None) -> str:
    """``direct at 192.0.2.1:5`` or ``relayed by k5qge5rb``."""
    return f"direct at {addr}" if kind == "direct" else f"relayed by {(via or '?')[:8]}"


def _color() -> bool | None:
    """Colors on a terminal only, and not there if NO_COLOR (https://no-color.org) is set."""
    return False if os.environ.get("NO_COLOR") else None


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


class OutputError(Exception):
    """What a command says cannot be written to stdout, as on a full disk."""

    kind = "output"

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write output: {error.strerror or error}")


def flush_output(out: TextIO | None) -> OSError | None:
    """Write what is left for stdout or stderr.  What cannot be written is dropped for good, and the error comes back:
    the interpreter would meet it again at its end.
    """
    if out is None or out.closed:
        return None
    try:
        out.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
        return error
    return None


class Reporter:
    """Where a command says what happens.

    With ``as_json`` every event is an object on ``stdout`` with ``event`` and ``t``, the seconds
    since start; else the events that people care about are lines there.  Errors, warnings and
    hints are lines on ``stderr`` either way, and errors are events, too.

    Where stdout is closed nothing is written there.  Where it is full, OutputError says so once,
    unless ``goes_on``: then the lines are dropped, and a note on stderr says so once.
    """

    def __init__(
        self,
        as_json: bool = False,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.as_json = as_json
        self._stdout = stdout
        self._stderr = stderr
        self._clock = clock
        self._start = clock()
        self.goes_on = False
        self._full = False

    @property
    def seconds(self) -> float:
        """Since start."""
        return self._clock() - self._start

    @property
    def terminal(self) -> bool:
        """Whether a person watches ``stderr``, where live displays go."""
        return not self.as_json and _is_terminal(self._stderr or sys.stderr)

    def event(self, event: str, human: str | None = None, /, **fields: Any) -> None:
        """Report an event: ``fields`` to programs, ``human`` (if any) to people."""
        if self.as_json:
            record = {"event": event, "t": round(self.seconds, 3), **fields}
            self._write(json.dumps(record, ensure_ascii=False))
        elif human is not None:
            self._write(human)

    def line(self, text: str) -> None:
        """A line on stdout for people; nothing for programs."""
        if not self.as_json:
            self._write(text)

    def prose(self, text: str) -> None:
        """Sentences for people, as :meth:`line`, broken between words where a terminal is too narrow."""
        import shutil
        import textwrap

        if _is_terminal(self._stdout or sys.stdout):
            text = textwrap.fill(text, max(20, shutil.get_terminal_size().columns - 1))
        self.line(text)

    def note(self, text: str) -> None:
        """A warning or hint on stderr."""
        with contextlib.suppress(OSError):  # as stderr in a file on a full disk: there is nobody left to tell
            click.echo(f"{PROGRAM}: {text}", err=True, file=self._stderr, color=_color())

    def error(self, kind: str, message: str) -> None:
        """What went wrong, in one line on stderr, and as an event."""
        message = " ".join(message.split())
        self.note(f"{click.style('error', fg='red')}: {message}")
        if self.as_json:
            # It is told already; that stdout is full or closed is no reason to hide it.
            with contextlib.suppress(OutputError, BrokenPipeError):
                self.event("error", kind=kind, message=message)

    def interrupted(self) -> None:
        """Somebody pressed Ctrl-C."""
        if _is_terminal(self._stderr or sys.stderr):
            click.echo(err=True, file=self._stderr)  # the terminal has shown ^C
        self.note("stopped by Ctrl-C")

    def _write(self, text: str) -> None:
        out = self._stdout or sys.stdout
        if out is None or (self._full and not self.goes_on):
            return
        try:
            try:
                click.echo(text, file=out, color=_color())
            except UnicodeEncodeError:
                # Names of files and peers may hold what the terminal's encoding does not.
                click.echo(text.encode("ascii", "backslashreplace").decode(), file=out)
            out.flush()
        except BrokenPipeError:
            raise  # whoever read it has gone, and ends us as any program
        except OSError as error:
            told, self._full = self._full, True
            failure = OutputError(error)
            if not self.goes_on:
                raise failure from None
            if not told:
                self.note(f"{failure}; it goes on without")
        else:
            self._full = False

    # -- events that several commands have

    def ready(self, peer_id: str, addresses: Sequence[str], *, brief: bool = False) -> None:
        """The node is up; ``brief`` leaves the addresses out for people."""
        lines = [f"{click.style('ready', fg='green')}  this node is {peer_id}"]
        if not brief:
            lines += [f"       reachable as {address}" for address in addresses]
        self.event("ready", "\n".join(lines), peer_id=peer_id, addresses=list(addresses))

    def mesh(self, addresses: Sequence[str]) -> None:
        """Tell people that the first bootstrap node has answered, and the addresses if they are others now."""
        lines = [f"{click.style('mesh', fg='green')}   connected"]
        lines += [f"       reachable as {address}" for address in addresses]
        self.line("\n".join(lines))

    def path(
        self,
        *,
        peer_id: str,
        kind: str,
        addr: str | None,
        via: str | None,
        rtt_ms: float | None,
        reason: str | None,
        quiet: bool = False,
    ) -> None:
        """The path to a peer is now this one; ``quiet`` tells only programs."""
        how = path_in_words(kind, addr, via)
        took = "" if rtt_ms is None else f", {rtt_ms:.1f} ms"
        why = f" ({reason})" if reason else ""
        color = "green" if kind == "direct" else "cyan"
        self.event(
            "path",
            None if quiet else f"{click.style('path', fg=color)}   to {peer_id[:8]}: {how}{took}{why}",
            peer_id=peer_id,
            kind=kind,
            addr=addr,
            via=via,
            rtt_ms=None if rtt_ms is None else round(rtt_ms, 3),
            reason=reason,
        )

    def nat(self, nat_type: str, reflex_addr: str | None) -> None:
        """What is known of the NAT in front of this node."""
        seen = f", seen from outside as {reflex_addr}" if reflex_addr else ""
        self.event("nat", f"nat    {nat_type}{seen}", nat_type=nat_type, reflex_addr=reflex_addr)

    def transferred(self, verb: str, outcome: Outcome, peer_id: str, who: str = "") -> None:
        """A transfer is over: ``done`` if every file is in place, else one error for each.  ``who`` tells people
        of the other side.
        """
        for path in outcome.skipped:
            self.note(f"left out {path!r}: links and special files are not sent")
        if outcome.failures:
            self._failures(outcome.failures, outcome.files)
            return
        files = f"{outcome.files:,} files, " if outcome.is_dir else ""
        resumed = outcome.bytes - outcome.moved
        already = f", {human_bytes(resumed)} of it was there already" if resumed else ""
        self.event(
            "done",
            f"{click.style('done', fg='green')}   {verb} {outcome.root!r}{who}: {files}"
            f"{human_bytes(outcome.bytes)} in {outcome.seconds:.2f} s, "
            f"{outcome.mb_per_s:.1f} MB/s{already}\n       BLAKE2b-256:\n       {outcome.digest}",
            peer_id=peer_id,
            name=outcome.root,
            files=outcome.files,
            bytes=outcome.bytes,
            moved=outcome.moved,
            seconds=round(outcome.seconds, 3),
            mb_per_s=round(outcome.mb_per_s, 3),
            hash=outcome.digest,
        )

    def _failures(self, failures: Sequence[Failure], good: int) -> None:
        for failure in failures[:10]:
            self.error(failure.kind, failure.message)
        if len(failures) > 1 or good:
            not_there = "1 file was" if len(failures) == 1 else f"{len(failures):,} files were"
            in_place = "1 is" if good == 1 else f"{good:,} are"
            self.error(failures[0].kind, f"{not_there} not transferred, {in_place} in place and verified")

    def table(self, rows: Mapping[str, str]) -> None:
        """Names and values in two columns, for people."""
        width = max(map(len, rows), default=0)
        for name, value in rows.items():
            self.line(f"{name:<{width}}  {value}")
