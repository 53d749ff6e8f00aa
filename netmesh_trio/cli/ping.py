"""``netmesh-trio ping``: round trips to a peer, and the echo that all nodes of ours serve."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import attrs
import click

from netmesh_trio.cli.options import NodeOptions, Number, node_options, parse_peer, timeout_option
from netmesh_trio.cli.output import Reporter, path_in_words

if TYPE_CHECKING:
    import trio

    from netmesh_trio import Peer, Stream
    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.identity import PeerId

__all__ = ["PING_SERVICE", "echo", "ping"]

PING_SERVICE = "netmesh.ping"
PAYLOAD = 56  # bytes, as the ping that everybody knows
_LOOK = 0.05


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
@click.option(
    "-c",
    "--count",
    metavar="N",
    type=click.IntRange(1),
    help="How many pings. [default: 4; with --until-direct as many as it takes]",
)
@click.option(
    "-i",
    "--interval",
    metavar="S",
    type=Number(0),
    default=1.0,
    show_default=True,
    help="Seconds from one ping to the next.",
)
@timeout_option(10.0, "Seconds to wait for the peer to be reachable, for each answer, and for a direct path.")
@click.option(
    "--until-direct",
    is_flag=True,
    help="Ping until the path is direct; say why if it stays on the relay.",
)
@node_options
@click.pass_obj
def ping(
    reporter: Reporter,
    peer: PeerId | MeshUri,
    count: int | None,
    interval: float,
    timeout: float,
    until_direct: bool,
    node: NodeOptions,
) -> int:
    """Measure round trips to a peer.

    PEER is a peer id, or a netmesh:// URI if it is not in the mesh of the bootstrap nodes.

    \b
    Examples:
        netmesh-trio ping PEER --bootstrap URI
        netmesh-trio ping PEER --until-direct --bootstrap URI
    """
    from netmesh_trio.cli.runner import run_async

    if until_direct and not node.direct:
        raise click.UsageError("--no-direct keeps the path on the relay, so --until-direct waits for nothing")
    if count is None:
        count = sys.maxsize if until_direct else 4
    return run_async(reporter, _Ping(reporter, peer, count, interval, timeout, until_direct, node).run)


@attrs.define
class _Ping:
    reporter: Reporter
    target: PeerId | MeshUri
    count: int
    interval: float
    timeout: float
    until_direct: bool
    options: NodeOptions
    rtts: list[float] = attrs.field(factory=list)

    async def run(self) -> bool:
        from netmesh_trio.cli.session import open_stream, peer_id_of, running_node

        async with running_node(self.options, self.reporter, timeout=self.timeout, brief=True) as node:
            stream = await open_stream(node, self.target, PING_SERVICE, self.timeout, self.options, self.reporter)
            async with stream:
                peer = await node.connect(peer_id_of(self.target))
                await self._pings(stream, peer)
        return True

    async def _pings(self, stream: Stream, peer: Peer) -> None:
        import trio

        deadline = trio.current_time() + self.timeout if self.until_direct else float("inf")
        direct = False
        for number in range(1, self.count + 1):
            start = trio.current_time()
            direct = await self._one(stream, peer, number)
            if self.until_direct and direct:
                break
            if number == self.count and self.until_direct:
                direct = await self._becomes_direct(peer, deadline)
            if number == self.count or trio.current_time() >= deadline:
                break
            with trio.move_on_at(min(start + self.interval, deadline)):
                if self.until_direct:
                    await peer.wait_direct()  # then ping at once, which shows how much shorter it is
                else:
                    await trio.sleep_forever()
        if self.until_direct and not direct:
            self._say_why(peer)
        low, mean, high = min(self.rtts), sum(self.rtts) / len(self.rtts), max(self.rtts)
        sent = len(self.rtts)
        self.reporter.event(
            "done",
            f"done   {sent} of {sent} answered, min/avg/max {low:.2f}/{mean:.2f}/{high:.2f} ms",
            sent=sent,
            received=sent,
            min_ms=round(low, 3),
            avg_ms=round(mean, 3),
            max_ms=round(high, 3),
            direct=direct,
            seconds=round(self.reporter.seconds, 3),
        )

    async def _becomes_direct(self, peer: Peer, deadline: float) -> bool:
        """Wait for the search that is going on; not for one that has failed, which is tried again much later."""
        import trio

        found = False
        with trio.move_on_at(deadline):
            async with trio.open_nursery() as nursery:

                async def fails() -> None:
                    while peer.why_not_direct is None:  # noqa: ASYNC110 - a failure is no event
                        await trio.sleep(_LOOK)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(fails)
                await peer.wait_direct()
                found = True
                nursery.cancel_scope.cancel()
        return found

    async def _one(self, stream: Stream, peer: Peer, number: int) -> bool:
        """One round trip; whether it left on a direct path."""
        import os

        import trio

        from netmesh_trio.cli.runner import CommandError

        path = peer.path
        start = trio.current_time()
        payload = os.urandom(PAYLOAD)
        try:
            with trio.fail_after(self.timeout):
                await stream.send_all(payload)
                answer = b""
                while len(answer) < PAYLOAD:
                    chunk = await stream.receive_some(PAYLOAD - len(answer))
                    if not chunk:
                        raise CommandError("protocol", "the peer ended the stream")
                    answer += chunk
        except trio.TooSlowError:
            raise CommandError("timeout", f"no answer to ping {number} within {self.timeout:g} s") from None
        if answer != payload:
            raise CommandError("protocol", f"the answer to ping {number} is not its echo")
        rtt = (trio.current_time() - start) * 1000
        if path is None:
            path = peer.path  # what was on its way when the session was so young is known now
        self.rtts.append(rtt)
        kind = None if path is None else path.kind.value
        via = None if path is None or path.via is None else str(path.via)
        addr = None if path is None or path.addr is None else str(path.addr)
        where = "" if kind is None else f", {path_in_words(kind, addr, via)}"
        self.reporter.event(
            "ping",
            f"ping   {number}: {rtt:.2f} ms{where}",
            seq=number,
            rtt_ms=round(rtt, 3),
            kind=kind,
            addr=addr,
            via=via,
        )
        return kind == "direct"

    def _say_why(self, peer: Peer) -> None:
        from netmesh_trio.cli.punches import reason_of
        from netmesh_trio.cli.runner import CommandError

        error = peer.why_not_direct
        pings = f"all {len(self.rtts)} pings were" if len(self.rtts) > 1 else "the ping was"
        if error is None:
            raise CommandError(
                "not-direct-yet",
                f"stays on the relay for now, {pings} answered over it: the search for a direct path goes on "
                "(a longer --timeout waits for it)",
            )
        raise CommandError(error.kind, f"stays on the relay: {reason_of(error)}; {pings} answered over it")
