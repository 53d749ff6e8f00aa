"""``netmesh-trio bench``: how fast the mesh is between two real hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from netmesh_trio.cli.options import NodeOptions, Number, from_option, node_options, parse_peer, timeout_option
from netmesh_trio.cli.output import Reporter, human_bytes, path_in_words

if TYPE_CHECKING:
    from netmesh_trio import Node, Peer
    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.cli.speed import Bulk, Served, Trips
    from netmesh_trio.identity import PeerId

__all__ = ["bench"]

_TRIP_SECONDS = 5.0
_TRIPS = 1000
_SETTLE = 5.0


@click.command()
@click.argument("peer", required=False, callback=parse_peer)
@click.option("--serve", is_flag=True, help="Be the other end, until stopped: answer those who measure.")
@from_option("peers", "With --serve: answer this peer only; repeat for more. [default: anybody in the mesh]")
@click.option(
    "--seconds",
    metavar="S",
    type=Number(0.1, 60),
    default=5.0,
    show_default=True,
    help="Length of each of the two bulk transfers.",
)
@click.option(
    "--streams",
    metavar="N",
    type=click.IntRange(1, 32),
    default=1,
    show_default=True,
    help="Streams at once in bulk transfers.",
)
@timeout_option(30.0, "Seconds to wait for the peer to be reachable, and for each answer.")
@node_options
@click.pass_obj
def bench(
    reporter: Reporter,
    peer: PeerId | MeshUri | None,
    serve: bool,
    peers: tuple[PeerId | MeshUri, ...],
    seconds: float,
    streams: int,
    timeout: float,
    node: NodeOptions,
) -> int:
    """Measure how fast the mesh is between two hosts.

    PEER runs "netmesh-trio bench --serve".  Measured are the connection, round trips of 100 bytes, and bulk in each
    direction with round trips beside it; on a direct path if one is found within 5 s, else over the relay.  With
    --no-direct, it is the relay that is measured.

    \b
    Examples:
        netmesh-trio bench --serve --bootstrap URI
        netmesh-trio bench PEER --bootstrap URI
    """
    from netmesh_trio.cli.runner import run_async
    from netmesh_trio.cli.session import peer_id_of

    if serve == (peer is not None):
        raise click.UsageError("name the PEER to measure with, or be one with --serve")
    if peers and not serve:
        raise click.UsageError("--from belongs to --serve")
    if serve:
        allowed = frozenset(peer_id_of(entry) for entry in peers)
        return run_async(reporter, lambda: _serve(reporter, allowed, node), until_stopped=True)
    assert peer is not None
    return run_async(reporter, _Bench(reporter, peer, seconds, streams, timeout, node).run)


async def _serve(reporter: Reporter, allowed: frozenset[PeerId], options: NodeOptions) -> bool:
    from netmesh_trio.cli.session import running_node, serve
    from netmesh_trio.cli.speed import BENCH_SERVICE, Server

    def tell(served: Served) -> None:
        rate = served.bytes / served.seconds / 1e6 if served.seconds else 0.0
        verb = "took from" if served.direction == "upload" else "sent to"
        reporter.event(
            "served",
            f"bench  {verb} {served.peer_id.short}: {human_bytes(served.bytes)}, {rate:.1f} MB/s",
            peer_id=str(served.peer_id),
            direction=served.direction,
            bytes=served.bytes,
            seconds=round(served.seconds, 3),
            mb_per_s=round(rate, 3),
        )

    def announce(node: Node) -> None:
        reporter.line(f"       measure with: netmesh-trio bench '{node.addresses[0]}'")

    async with running_node(options, reporter, announce=announce) as node:
        await serve(node, BENCH_SERVICE, Server(allowed, tell).handle)
    return True


@attrs.define
class _Bench:
    reporter: Reporter
    target: PeerId | MeshUri
    seconds: float
    streams: int
    timeout: float
    options: NodeOptions

    async def run(self) -> bool:
        import trio

        from netmesh_trio.cli.session import peer_id_of, running_node
        from netmesh_trio.cli.speed import download, round_trips, upload

        async with running_node(self.options, self.reporter, timeout=self.timeout, brief=True) as node:
            start = trio.current_time()
            await self._first_answer(node)
            connected = trio.current_time() - start
            peer = await node.connect(peer_id_of(self.target))
            self._tell(peer, "connect", f"{connected * 1e3:.1f} ms to the first answer", first_ms=connected * 1e3)
            if self.options.direct:
                with trio.move_on_after(_SETTLE):
                    await peer.wait_direct()
            trips = await round_trips(peer, _TRIP_SECONDS, _TRIPS, self.timeout)
            self._tell(peer, "round-trip", _in_words(trips), **_fields(trips), count=len(trips.times))
            up = await upload(peer, self.seconds, self.streams, self.timeout)
            self._tell_bulk(peer, "upload", up)
            down = await download(peer, self.seconds, self.streams, self.timeout)
            self._tell_bulk(peer, "download", down)
        self.reporter.event(
            "done",
            peer_id=str(peer.peer_id),
            seconds=round(self.reporter.seconds, 3),
            first_ms=round(connected * 1e3, 3),
            **_fields(trips),
            up_mb_per_s=round(_rate(up), 3),
            down_mb_per_s=round(_rate(down), 3),
        )
        return True

    async def _first_answer(self, node: Node) -> None:
        from netmesh_trio.cli.ping import PING_SERVICE
        from netmesh_trio.cli.session import open_stream

        stream = await open_stream(node, self.target, PING_SERVICE, self.timeout, self.options, self.reporter)
        async with stream:
            await stream.send_all(b"?")
            await stream.receive_some(1)

    def _tell_bulk(self, peer: Peer, direction: str, bulk: Bulk) -> None:
        words = f"{_rate(bulk):.1f} MB/s for {bulk.seconds:.1f} s, round trip beside it {_in_words(bulk.trips)}"
        self._tell(
            peer,
            direction,
            words,
            bytes=bulk.bytes,
            seconds=bulk.seconds,
            mb_per_s=_rate(bulk),
            streams=self.streams,
            **_fields(bulk.trips),
        )

    def _tell(self, peer: Peer, what: str, words: str, **values: float) -> None:
        path = peer.path
        kind = None if path is None else path.kind.value
        addr = None if path is None or path.addr is None else str(path.addr)
        via = None if path is None or path.via is None else str(path.via)
        where = "" if kind is None else f"; {path_in_words(kind, addr, via)}"
        rounded = {key: round(value, 3) for key, value in values.items()}
        self.reporter.event("measured", f"{what:11}{words}{where}", what=what, kind=kind, addr=addr, via=via, **rounded)


def _rate(bulk: Bulk) -> float:
    return bulk.bytes / bulk.seconds / 1e6


def _fields(trips: Trips) -> dict[str, float]:
    return {f"p{share}_ms": round(trips.percentile(share / 100) * 1e3, 3) for share in (50, 99)}


def _in_words(trips: Trips) -> str:
    return f"{trips.percentile(0.5) * 1e3:.2f} ms, p99 {trips.percentile(0.99) * 1e3:.2f} ms"
