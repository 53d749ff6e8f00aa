"""``netmesh-trio node``: a node that stays up, as a relay or just to be reachable."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import click

from netmesh_trio.cli.options import NodeOptions, node_options, parse_value, relay_option
from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.settings import config_option

if TYPE_CHECKING:
    from netmesh_trio import Node
    from netmesh_trio.cli.tunnel import Endpoint

__all__ = ["node"]


def _parse_metrics(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from netmesh_trio.cli.tunnel import parse_endpoint

    return None if value is None else parse_value(value, parse_endpoint, ctx, param)


@click.command()
@relay_option("any")
@config_option
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    envvar="NETMESH_METRICS",
    callback=_parse_metrics,
    help="Serve all counters as OpenMetrics text at http://HOST:PORT/metrics. [default: do not]",
)
@click.option("--qr", is_flag=True, help="Show the ticket as a QR code, too.")
@node_options
@click.pass_obj
def node(reporter: Reporter, metrics: Endpoint | None, qr: bool, node: NodeOptions) -> int:
    """Run a node: a relay for others, a peer to ping.

    It runs until it is stopped, and prints a ticket: what others give as --bootstrap, or as PEER of any command.  A
    relay wants an address that others can reach and a key that stays, so that its ticket stays.

    \b
    Examples:
        netmesh-trio node --identity relay.key --bind 0.0.0.0:4650
        netmesh-trio node --config /etc/netmesh/relay.toml --metrics 127.0.0.1:9464
        netmesh-trio node --bootstrap URI --qr
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, _Serve(reporter, metrics, qr, node).run, until_stopped=True)


@attrs.define
class _Serve:
    reporter: Reporter
    metrics: Endpoint | None
    qr: bool
    options: NodeOptions

    async def run(self) -> bool:
        import trio

        from netmesh_trio.cli.session import running_node
        from netmesh_trio.cli.systemd import notify

        if self.qr:
            _segno()  # before anything else, so that its lack is told at once
        try:
            async with running_node(self.options, self.reporter, brief=True, announce=self._ticket) as node:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._operate, node)
                    await node.wait_connected()
                    notify("STATUS=in the mesh")
        finally:
            notify("STOPPING=1")
        return True

    async def _operate(self, node: Node) -> None:
        """What begins once the sockets are open, whether or not others can be reached yet; lasts for ever."""
        import trio

        from netmesh_trio.cli.systemd import notify

        notify("READY=1\nSTATUS=open, no bootstrap node has answered yet")
        if self.metrics is not None:
            from netmesh_trio.cli.metrics import render, serve_metrics

            await serve_metrics(self.metrics, lambda: render(node), self._metrics_ready)
        await trio.sleep_forever()

    def _metrics_ready(self, bound: list[Endpoint]) -> None:
        addresses = [str(address) for address in bound]
        where = ", ".join(a if a.startswith("unix:") else f"http://{a}/metrics" for a in addresses)
        self.reporter.event("metrics", f"       metrics at {where}", addresses=addresses)

    def _ticket(self, node: Node) -> None:
        """What to copy to other machines."""
        if self.reporter.as_json:
            return  # the ready event has it
        addresses = [str(uri) for uri in node.addresses]
        best = addresses[0]
        self.reporter.line(f"ticket {best}")
        for other in addresses[1:]:
            self.reporter.line(f"       or {other}")
        if self.qr:
            self.reporter.line(_qr_code(best))
        self.reporter.line(f"       try it from elsewhere: netmesh-trio ping '{best}'")


def _segno() -> ModuleType:
    from netmesh_trio.cli.runner import CommandError

    try:
        import segno
    except ImportError:
        raise CommandError("qr", "--qr needs the package segno: pip install 'netmesh-trio[qr]'") from None
    return segno


def _qr_code(text: str) -> str:
    """Half-block characters; light on dark, as most terminals are, with a quiet zone."""
    import io

    out = io.StringIO()
    _segno().make(text, error="l", micro=False).terminal(out, compact=True, border=2)
    return out.getvalue().rstrip("\n")
