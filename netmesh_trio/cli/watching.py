"""``netmesh-trio watch``: peers, paths, rates and events of a node as they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from netmesh_trio.cli.options import NodeOptions, Number, node_options, parse_peer, relay_option
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    from netmesh_trio import Node
    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.cli.watch_view import Sampler
    from netmesh_trio.identity import PeerId

__all__ = ["watch"]


@click.command()
@click.argument("peers", metavar="[PEER]...", nargs=-1, callback=parse_peer)
@click.option(
    "-i",
    "--interval",
    metavar="S",
    type=Number(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds from one look to the next.",
)
@relay_option("off")
@node_options
@click.pass_obj
def watch(reporter: Reporter, peers: tuple[PeerId | MeshUri, ...], interval: float, node: NodeOptions) -> int:
    """Watch peers, paths, rates and events of a node.

    Runs a node and shows, on a terminal as a picture that changes, elsewhere line by line, with whom it has sessions,
    over which paths, and how much they carry.  Each PEER is connected and pinged.  It runs until it is stopped.

    \b
    Examples:
        netmesh-trio watch --bootstrap URI
        netmesh-trio watch PEER --bootstrap URI --interval 5 >> paths.log
        netmesh-trio watch --relay any --identity relay.key --bind 0.0.0.0:4650
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, _Watch(reporter, peers, interval, node).run, until_stopped=True)


@attrs.define
class _Watch:
    reporter: Reporter
    targets: tuple[PeerId | MeshUri, ...]
    interval: float
    options: NodeOptions

    async def run(self) -> bool:
        import sys

        import trio

        from netmesh_trio.cli.session import running_node
        from netmesh_trio.cli.watch_view import Sampler, View

        picture = self.reporter.terminal and sys.stdout is not None and sys.stdout.isatty()
        view = View() if picture else None
        reporter = self.reporter if view is None else view.reporter()
        async with running_node(self.options, reporter) as node:
            sampler = Sampler()
            async with trio.open_nursery() as nursery:
                for target in self.targets:
                    nursery.start_soon(self._keep, node, target, reporter)
                if view is not None:
                    await view.show(node, sampler, self.interval)
                else:
                    await self._lines(node, sampler)
        return True

    async def _lines(self, node: Node, sampler: Sampler) -> None:
        """One line, or event, each time."""
        import trio

        sampler.look(node)
        while True:
            await trio.sleep(self.interval)
            rates = sampler.look(node)
            self.reporter.event("rates", f"rates  {rates}", **rates.fields())

    async def _keep(self, node: Node, target: PeerId | MeshUri, reporter: Reporter) -> None:
        """Have a session with a peer, and use it."""
        import trio

        from netmesh_trio.cli.ping import PAYLOAD, PING_SERVICE
        from netmesh_trio.cli.session import open_stream
        from netmesh_trio.errors import AddressError, NetmeshError

        while True:
            try:
                async with await open_stream(
                    node, target, PING_SERVICE, float("inf"), self.options, reporter
                ) as stream:
                    while True:
                        await stream.send_all(bytes(PAYLOAD))
                        left = PAYLOAD
                        while left and (data := await stream.receive_some(left)):
                            left -= len(data)
                        if left:
                            break
                        await trio.sleep(self.interval)
            except AddressError:
                raise  # the node's own peer id: it stays that
            except (NetmeshError, trio.BrokenResourceError) as error:
                reporter.note(str(error))
            await trio.sleep(self.interval)
