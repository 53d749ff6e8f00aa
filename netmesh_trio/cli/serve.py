"""``netmesh-trio node``: a node that stays up, as a relay or just to be reachable."""

from __future__ import annotations

import click

from netmesh_trio.cli.options import NodeOptions, node_options, relay_option
from netmesh_trio.cli.output import Reporter

__all__ = ["node"]


@click.command()
@relay_option("any")
@node_options
@click.pass_obj
def node(reporter: Reporter, node: NodeOptions) -> int:
    """Run a node: a relay for others, a peer to ping.

    It runs until it is stopped.

    A relay wants an address that others can reach and a key that stays, so that its URI stays:

    \b
        netmesh-trio node --identity relay.key --bind 0.0.0.0:4650
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, lambda: _node(reporter, node), until_stopped=True)


async def _node(reporter: Reporter, options: NodeOptions) -> bool:
    import trio

    from netmesh_trio.cli.session import running_node

    async with running_node(options, reporter):
        await trio.sleep_forever()
    return True
