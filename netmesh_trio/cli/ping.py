"""``netmesh-trio ping``: round trips to a peer, and the echo that all nodes of ours serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from netmesh_trio.cli.options import NodeOptions, node_options, parse_peer
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    import trio

    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.identity import PeerId

__all__ = ["PING_SERVICE", "echo", "ping"]

PING_SERVICE = "netmesh.ping"
PAYLOAD = 56  # bytes, as the ping that everybody knows


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    """Serve one stream of :data:`PING_SERVICE`: send back what comes, then end."""
    import trio

    try:
        async with stream:
            while data := await stream.receive_some(4096):
                await stream.send_all(data)
            await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the pinging side went away


@click.command()
@click.argument("peer", callback=parse_peer)
@click.option("-c", "--count", metavar="N", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "-i",
    "--interval",
    metavar="S",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds from one ping to the next.",
)
@click.option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the peer to be reachable, and for each answer.",
)
@node_options
@click.pass_obj
def ping(
    reporter: Reporter,
    peer: PeerId | MeshUri,
    count: int,
    interval: float,
    timeout: float,
    node: NodeOptions,
) -> int:
    """Measure round trips to a peer.

    PEER is a peer id, or a netmesh:// URI if it is not in the mesh of the bootstrap nodes.
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, lambda: _ping(reporter, peer, count, interval, timeout, node))


async def _ping(
    reporter: Reporter,
    target: PeerId | MeshUri,
    count: int,
    interval: float,
    timeout: float,
    options: NodeOptions,
) -> bool:
    import os

    import trio

    from netmesh_trio.cli.runner import CommandError
    from netmesh_trio.cli.session import open_stream, running_node

    rtts: list[float] = []
    async with running_node(options, reporter, timeout=timeout, brief=True) as node:
        stream = await open_stream(node, target, PING_SERVICE, timeout, reporter)
        async with stream:
            for number in range(1, count + 1):
                start = trio.current_time()
                payload = os.urandom(PAYLOAD)
                try:
                    with trio.fail_after(timeout):
                        await stream.send_all(payload)
                        answer = b""
                        while len(answer) < PAYLOAD:
                            chunk = await stream.receive_some(PAYLOAD - len(answer))
                            if not chunk:
                                raise CommandError("protocol", "the peer ended the stream")
                            answer += chunk
                except trio.TooSlowError:
                    raise CommandError("timeout", f"no answer to ping {number} within {timeout:g} s") from None
                if answer != payload:
                    raise CommandError("protocol", f"the answer to ping {number} is not its echo")
                rtt = (trio.current_time() - start) * 1000
                rtts.append(rtt)
                reporter.event("ping", f"ping   {number}: {rtt:.2f} ms", seq=number, rtt_ms=round(rtt, 3))
                if number < count:
                    await trio.sleep_until(start + interval)
    low, mean, high = min(rtts), sum(rtts) / len(rtts), max(rtts)
    reporter.event(
        "done",
        f"done   {len(rtts)} of {count} answered, min/avg/max {low:.2f}/{mean:.2f}/{high:.2f} ms",
        sent=count,
        received=len(rtts),
        min_ms=round(low, 3),
        avg_ms=round(mean, 3),
        max_ms=round(high, 3),
    )
    return True
