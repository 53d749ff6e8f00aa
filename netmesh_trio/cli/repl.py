"""``netmesh-trio repl``: a Python prompt with a running node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from netmesh_trio.cli.options import NodeOptions, quiet_node_options
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    from code import InteractiveConsole

    from netmesh_trio import Node

__all__ = ["repl"]

_PATIENCE = 10.0  # seconds for the bootstrap nodes


@click.command()
@quiet_node_options
@click.pass_obj
def repl(reporter: Reporter, node: NodeOptions) -> int:
    """Play with a running node at a Python prompt.

    The prompt is trio's: "await" works as it stands, and Tab completes.  There are "node", "trio", all names of
    netmesh_trio, and helpers that helpers() lists.  The node runs while the prompt waits; exit() or Ctrl-D ends both.

    \b
    Examples:
        netmesh-trio repl --bootstrap URI
        >>> peer = await connect("PEER")
        >>> await ping(peer)
    """
    from netmesh_trio.cli.runner import run_async

    left = SystemExit()

    async def prompt() -> bool:
        nonlocal left
        left = await _repl(reporter, node)
        return True

    return run_async(reporter, prompt, raises_interrupts=True) or _exit_code(reporter, left)


def _exit_code(reporter: Reporter, left: SystemExit) -> int:
    """What ``exit()`` was called with, as Python has it: a number, or a last word, which makes 1."""
    if left.code is None or isinstance(left.code, int):
        return (left.code or 0) & 0xFF
    reporter.note(str(left.code))
    return 1


async def _repl(reporter: Reporter, options: NodeOptions) -> SystemExit:
    import io

    import trio

    from netmesh_trio.cli.repl_helpers import Helpers
    from netmesh_trio.cli.runner import CommandError
    from netmesh_trio.cli.session import running_node

    try:
        # Not public, but all that trio offers, and the same since trio 0.26.
        from trio._repl import TrioInteractiveConsole
    except ImportError:
        raise CommandError("repl", f"trio {trio.__version__} has no prompt that this version knows") from None
    # What happens to the node would come between what one types; "node" has it all.
    quiet = Reporter(stdout=io.StringIO())
    async with running_node(options, quiet, timeout=_PATIENCE) as node, trio.open_nursery() as nursery:
        names = Helpers(node, nursery, reporter.line).names()
        _complete(names)
        console = TrioInteractiveConsole(names)
        nursery.start_soon(_end_when_cancelled, console)
        left = SystemExit()
        try:
            # not abandoned when cancelled: that is how a Ctrl-C gets to what was typed
            await trio.to_thread.run_sync(console.interact, _banner(node), "")
        except SystemExit as error:
            left = error
        nursery.cancel_scope.cancel()
    return left


async def _end_when_cancelled(console: InteractiveConsole) -> None:
    """Have the line after a cancellation, as by a SIGTERM, end the prompt: the thread that reads cannot be woken."""
    import trio

    read, over = console.raw_input, False

    def raw_input(prompt: str = "") -> str:
        line = read(prompt)
        if over:
            raise EOFError
        return line

    console.raw_input = raw_input  # type: ignore[method-assign]
    try:
        await trio.sleep_forever()
    finally:
        over = True


def _banner(node: Node) -> str:
    import sys

    import trio

    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f'Python {python}, trio {trio.__version__}: use "await" as it stands\n'
        f"node is {node!r}\nhelpers() lists what helps, exit() ends it"
    )


def _complete(names: dict[str, Any]) -> None:
    """Have Tab complete these names and their attributes."""
    try:
        import readline
    except ImportError:  # as on Windows
        return
    import rlcompleter

    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
