"""How far a transfer is: a bar for people, an event a second for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.transfer import Progress
from netmesh_trio.cli.transfer.outcome import ProgressHook

__all__ = ["show_progress", "show_waiting"]

_EVERY = 1.0


@contextmanager
def show_progress(reporter: Reporter, verb: str) -> Iterator[ProgressHook]:
    """Show it for the length of the block; gives the hook that a transfer wants."""
    if reporter.terminal:
        with _bar(verb) as hook:
            yield hook
    else:
        yield _Events(reporter)


@contextmanager
def show_waiting(reporter: Reporter, what: str) -> Iterator[None]:
    """Tell people at a terminal, for the length of the block, what takes so long."""
    if not reporter.terminal:
        yield
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bars(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    ) as bars:
        bars.add_task(what, total=None)
        yield


class _Events:
    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        self._reporter.event(
            "progress",
            name=progress.root,
            bytes=progress.done,
            total=progress.total,
            files=progress.files_done,
            total_files=progress.files,
        )


@contextmanager
def _bar(verb: str) -> Iterator[ProgressHook]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        # lines go above the bar if both are on the terminal; stdout in a file or pipe stays there
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )
    with bars:
        task = bars.add_task(verb, total=None)

        def update(progress: Progress) -> None:
            files = f" {progress.files_done}/{progress.files}" if progress.files > 1 else ""
            # A name from the other side is text, not markup.
            name = progress.root.replace("[", r"\[")
            bars.update(
                task,
                description=f"{verb} {name}{files}",
                completed=progress.done,
                total=progress.total,
            )

        yield update
