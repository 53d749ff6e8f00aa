"""Runs the async part of a command: signals, errors, exit codes."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable

import trio

from netmesh_trio.cli.output import OutputError, Reporter
from netmesh_trio.cli.transfer.outcome import leaves
from netmesh_trio.errors import NetmeshError

__all__ = ["CommandError", "run_async"]


_EXPECTED = (NetmeshError, OutputError, trio.BrokenResourceError)


class CommandError(NetmeshError):
    """The command cannot do what it was asked to; ``kind`` says which sort of trouble it is."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def run_async(
    reporter: Reporter,
    command: Callable[[], Awaitable[bool]],
    *,
    until_stopped: bool = False,
    raises_interrupts: bool = False,
) -> int:
    """Run a command to its end; the exit code.

    ``command`` returns whether it did what it says; what it raises of ours becomes one line.  A
    SIGTERM ends it gracefully, which is its proper end if it runs ``until_stopped``.
    Ctrl-C ends it as gracefully, by cancellation: a KeyboardInterrupt, which can come between any two steps of the
    program, is raised only at the second one, or for a command that ``raises_interrupts`` because it has an answer to
    them.  One that runs ``until_stopped`` goes on while its output cannot be written.
    """
    reporter.goes_on = until_stopped
    # without -v not even a warning of the log is shown: what people want to know, the reporter says
    logger, silent = logging.getLogger("netmesh_trio"), logging.NullHandler()
    logger.addHandler(silent)
    try:
        numbers = (signal.SIGTERM,) if raises_interrupts else (signal.SIGTERM, signal.SIGINT)
        finished = trio.run(_with_signals, command, numbers)
    except BaseException as error:
        found = list(leaves(error))
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
            reporter.interrupted()
            return 128 + signal.SIGINT
        for leaf in found:
            if isinstance(leaf, BrokenPipeError):
                raise leaf from None
        expected = [leaf for leaf in found if isinstance(leaf, _EXPECTED)]
        if len(expected) != len(found):
            raise  # a mistake of this program: the traceback is wanted
        first = next((leaf for leaf in expected if isinstance(leaf, OutputError)), expected[0])
        kind = "session-closed" if isinstance(first, trio.BrokenResourceError) else first.kind
        reporter.error(kind, str(first) or "the connection to the peer broke; try again")
        return 1
    finally:
        logger.removeHandler(silent)
    if finished is signal.SIGTERM:
        reporter.note("stopped by SIGTERM")
        return 0 if until_stopped else 128 + signal.SIGTERM
    if finished is signal.SIGINT:
        reporter.interrupted()
        return 128 + signal.SIGINT
    return 0 if finished else 1


async def _with_signals(
    command: Callable[[], Awaitable[bool]], numbers: tuple[signal.Signals, ...]
) -> bool | signal.Signals:
    """What the command returns, or the signal that came first."""
    finished: bool | signal.Signals = False

    with trio.open_signal_receiver(*numbers) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                nonlocal finished
                async for number in signals:
                    finished = signal.Signals(number)
                    if signal.SIGINT in numbers:  # should the end take long, the next one is not to wait for it
                        signal.signal(signal.SIGINT, signal.default_int_handler)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            finished = await command()
            nursery.cancel_scope.cancel()
    return finished
