"""All commands, and what becomes of their errors.

Exit codes: 0 when the command did what it says, 1 when it could not, 2 for a wrong command line,
130 after Ctrl-C, 143 when terminated before it was done.
"""

from __future__ import annotations

import errno
import sys

import click

from netmesh_trio.cli.bench import bench
from netmesh_trio.cli.demo import demo
from netmesh_trio.cli.files import receive, send
from netmesh_trio.cli.identity import identity
from netmesh_trio.cli.netcheck import netcheck
from netmesh_trio.cli.options import behind_command, verbose_option
from netmesh_trio.cli.output import OutputError, Reporter, flush_output
from netmesh_trio.cli.ping import ping
from netmesh_trio.cli.repl import repl
from netmesh_trio.cli.serve import node
from netmesh_trio.cli.tunnels import expose, forward
from netmesh_trio.cli.watching import watch

__all__ = ["cli", "run"]

_WRITING = (errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)


class _Commands(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, behind_command(args))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(package_name="netmesh-trio", prog_name="netmesh-trio")
@verbose_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Talk to any peer by its key: encrypted, over a relay or directly."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


for _command in (identity, node, netcheck, ping, watch, send, receive, expose, forward, bench, repl, demo):
    cli.add_command(_command)


def run(arguments: list[str]) -> int:
    """Do what a command line says; the exit code.  Every error is one line on stderr."""
    reporter = Reporter("--json" in arguments)
    code = _run(arguments, reporter)
    error = flush_output(sys.stdout)
    if error is not None and code == 0 and not reporter.goes_on:
        reporter.error(OutputError.kind, str(OutputError(error)))
        code = 1
    flush_output(sys.stderr)  # there is nobody left to tell
    return code


def _run(arguments: list[str], reporter: Reporter) -> int:
    try:
        code: int | None = cli.main(arguments, prog_name="netmesh-trio", standalone_mode=False, obj=reporter)
        return code or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "netmesh-trio"
        message = error.format_message().rstrip(".")
        reporter.error("usage", f"{message} (see {where} --help)")
        return 2
    except (KeyboardInterrupt, click.Abort):
        reporter.interrupted()
        return 130
    except BrokenPipeError:
        return 1  # whoever read our output has gone; there is nobody to tell
    except OutputError as error:
        reporter.error(error.kind, str(error))
        return 1
    except OSError as error:
        # click's own words, as those of --help
        if error.filename is not None or error.errno not in _WRITING:
            raise
        reporter.error(OutputError.kind, str(OutputError(error)))
        return 1
