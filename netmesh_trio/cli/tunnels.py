"""``netmesh-trio expose`` and ``forward``: a TCP service of one host, used on another over the mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import click

from netmesh_trio.cli.options import NodeOptions, from_option, node_options, parse_peer, parse_value, timeout_option
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    import trio

    from netmesh_trio import Node, Stream
    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.cli.tunnel import Endpoint, Gate
    from netmesh_trio.identity import PeerId

__all__ = ["expose", "forward"]

_RESERVED = "netmesh."
#: Seconds without an answer after which a connection is given up: a shell is to outlive a network that is away for a
#: while, as it does over TCP alone.
_PATIENCE = 60.0


def _parse_endpoint(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from netmesh_trio.cli.tunnel import parse_endpoint

    return parse_value(value, parse_endpoint, ctx, param)


def _parse_target(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from netmesh_trio.addresses import HostPort

    target = _parse_endpoint(ctx, param, value)
    if isinstance(target, HostPort) and not target.port:
        raise click.BadParameter(f"{target} has the port 0: give the one that the service listens on", ctx, param)
    return target


def _parse_service(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from netmesh_trio.node.services import encode_service

    parse_value(value, encode_service, ctx, param)
    if value.startswith(_RESERVED):
        raise click.BadParameter(f"names with {_RESERVED!r} in front are taken; give another", ctx, param)
    return value


@click.command()
@click.argument("service", callback=_parse_service)
@click.argument("target", metavar="HOST:PORT", callback=_parse_target)
@from_option("peers", "Serve this peer only; repeat for more. [default: anybody in the mesh]")
@node_options
@click.pass_obj
def expose(
    reporter: Reporter, service: str, target: Endpoint, peers: tuple[PeerId | MeshUri, ...], node: NodeOptions
) -> int:
    """Offer a TCP service of this host to the mesh.

    Whoever runs "netmesh-trio forward ... SERVICE" is connected to HOST:PORT, as this host sees it; unix:PATH is a Unix
    socket.  SERVICE is a name of your choice.  It runs until it is stopped.

    \b
    Examples:
        netmesh-trio expose ssh 127.0.0.1:22 --identity me.key --bootstrap URI
        netmesh-trio expose web 127.0.0.1:8000 --from PEER --bootstrap URI
    """
    from netmesh_trio.cli.runner import run_async
    from netmesh_trio.cli.session import peer_id_of

    allowed = frozenset(peer_id_of(peer) for peer in peers)
    return run_async(reporter, _Expose(reporter, service, target, allowed, node).run, until_stopped=True)


@attrs.define
class _Expose:
    reporter: Reporter
    service: str
    target: Endpoint
    allowed: frozenset[PeerId]
    options: NodeOptions

    async def run(self) -> bool:
        from netmesh_trio.cli.session import running_node, serve
        from netmesh_trio.cli.tunnel import Gate

        gate = Gate(self.reporter)
        try:
            async with running_node(
                self.options, self.reporter, brief=True, announce=self._ready, patience=_PATIENCE
            ) as node:

                async def handle(stream: Stream) -> None:
                    with gate.passing():
                        await self._handle(gate, stream)

                await serve(node, self.service, handle)
        finally:
            gate.done()
        return True

    def _ready(self, node: Node) -> None:
        self.reporter.event("exposed", service=self.service, target=str(self.target))
        who = "anybody in the mesh" if not self.allowed else ", ".join(sorted(peer.short for peer in self.allowed))
        self.reporter.line(f"       {self.service!r} leads {who} to {self.target}; use it with:")
        self.reporter.line(f"       netmesh-trio forward 127.0.0.1:0 '{node.addresses[0]}' {self.service}")

    async def _handle(self, gate: Gate, stream: Stream) -> None:
        from netmesh_trio.cli.runner import CommandError
        from netmesh_trio.cli.tunnel import CODE_BUSY, CODE_NOT_ALLOWED, CODE_TARGET, connect

        peer = stream.peer_id
        who = f"from {peer.short}"
        fields = {"service": self.service, "peer_id": str(peer), "address": str(self.target)}
        if self.allowed and peer not in self.allowed:
            stream.reset(CODE_NOT_ALLOWED)
            gate.refuse("not-allowed", "this peer is not among those of --from", who, fields)
            return
        if gate.full:
            stream.reset(CODE_BUSY)
            gate.refuse("busy", f"there are {gate.running - 1:,} connections; try again later", who, fields)
            return
        try:
            local = await connect(self.target)
        except CommandError as error:
            stream.reset(CODE_TARGET)
            gate.refuse(error.kind, str(error), who, fields)
            return
        await gate.carry(who, local, stream, fields)


@click.command()
@click.argument("listen", metavar="HOST:PORT", callback=_parse_endpoint)
@click.argument("peer", callback=parse_peer)
@click.argument("service", callback=_parse_service)
@timeout_option(30.0, "Seconds that a connection waits for the peer to be reachable.")
@node_options
@click.pass_obj
def forward(
    reporter: Reporter, listen: Endpoint, peer: PeerId | MeshUri, service: str, timeout: float, node: NodeOptions
) -> int:
    """Use a TCP service of a peer as if it were on this host.

    PEER runs "netmesh-trio expose SERVICE ...".  Connections to HOST:PORT here go there over the mesh,
    directly where the NATs allow it; port 0 is any free one, unix:PATH a Unix socket.  It runs until it is stopped.

    \b
    Examples:
        netmesh-trio forward 127.0.0.1:2222 PEER ssh --bootstrap URI
        ssh -p 2222 127.0.0.1
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, _Forward(reporter, listen, peer, service, timeout, node).run, until_stopped=True)


@attrs.define
class _Forward:
    reporter: Reporter
    where: Endpoint
    target: PeerId | MeshUri
    service: str
    timeout: float
    options: NodeOptions

    async def run(self) -> bool:
        import trio

        from netmesh_trio.cli.session import running_node
        from netmesh_trio.cli.tunnel import Gate, listen, turn_away

        gate = Gate(self.reporter)
        # first, so that a port that is taken is told at once
        async with listen(self.where) as (listeners, bound):
            try:
                told: list[bool] = []

                def announce(node: Node) -> None:
                    if not told:  # addresses of the node that change do not matter here
                        self._ready([str(address) for address in bound])
                    told.append(True)

                async with running_node(
                    self.options, self.reporter, brief=True, announce=announce, patience=_PATIENCE
                ) as node:

                    async def handle(local: trio.SocketStream) -> None:
                        with gate.passing():
                            try:
                                await self._handle(gate, node, local)
                            finally:
                                turn_away(local)  # nothing, once it was carried

                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._greet, node)
                        nursery.start_soon(trio.serve_listeners, handle, listeners)
            finally:
                gate.done()
        return True

    def _ready(self, bound: list[str]) -> None:
        from netmesh_trio.cli.session import peer_id_of

        peer_id = peer_id_of(self.target)
        self.reporter.event(
            "listening",
            f"listen on {', '.join(bound)}: connections go to {self.service!r} of {peer_id.short}",
            addresses=bound,
            service=self.service,
            peer_id=str(peer_id),
        )

    async def _greet(self, node: Node) -> None:
        """Have a session before the first connection wants one; without, that connection waits for it."""
        from netmesh_trio.cli.session import peer_id_of
        from netmesh_trio.errors import PeerUnreachableError

        try:
            await node.wait_connected()
            await node.connect(self.target)
        except PeerUnreachableError:
            short = peer_id_of(self.target).short
            self.reporter.note(f"peer {short} cannot be reached yet; connections wait for it up to {self.timeout:g} s")

    async def _handle(self, gate: Gate, node: Node, local: trio.SocketStream) -> None:
        from netmesh_trio.cli.session import open_stream, peer_id_of
        from netmesh_trio.cli.tunnel import why_ended
        from netmesh_trio.errors import NetmeshError

        peer_id = peer_id_of(self.target)
        address = _peer_name(local)
        who = f"from {address}" if address else "from this host"
        fields = {"service": self.service, "peer_id": str(peer_id), "address": address}
        if gate.full:
            gate.refuse("busy", f"there are {gate.running - 1:,} connections; try again later", who, fields)
            return
        try:
            stream = await open_stream(node, self.target, self.service, self.timeout, self.options)
        except NetmeshError as error:
            gate.refuse(*why_ended(error), who, fields)
            return
        await gate.carry(who, local, stream, fields)


def _peer_name(local: trio.SocketStream) -> str | None:
    """Who connected; nothing for a Unix socket."""
    from netmesh_trio.addresses import HostPort

    try:
        name = local.socket.getpeername()
    except OSError:  # gone already
        return None
    return str(HostPort(*name[:2])) if isinstance(name, tuple) else None
