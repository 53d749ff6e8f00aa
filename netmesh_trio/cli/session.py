"""A command's node: opened from the options, announced once it is up, and watched."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

import netmesh_trio
from netmesh_trio.addresses import MeshUri
from netmesh_trio.cli.locks import try_lock
from netmesh_trio.cli.options import NodeOptions
from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.ping import PING_SERVICE, echo
from netmesh_trio.cli.punches import PunchWatcher
from netmesh_trio.cli.runner import CommandError
from netmesh_trio.cli.transfer.outcome import lone_error
from netmesh_trio.cli.watch import watch
from netmesh_trio.errors import AddressError, PeerUnreachableError
from netmesh_trio.node.udp import KernelNetwork

if TYPE_CHECKING:
    from netmesh_trio import Node, Stream
    from netmesh_trio.identity import PeerId

__all__ = ["open_stream", "peer_id_of", "running_node"]

_HINT_AFTER = 5.0
_RETRY = 1.0
_LOOKUP = 2.0


@contextmanager
def _key_in_use(file: Path | None, reporter: Reporter) -> Iterator[None]:
    """Warn people if another process runs with this key now, and have those that begin meanwhile warned of this one."""
    with ExitStack() as stack:
        # Where the file has gone since it was read, nobody is warned.
        with suppress(OSError):
            if file is not None and not try_lock(stack.enter_context(file.open("rb")).fileno()):
                reporter.note(
                    f"another process runs with the key {str(file)!r}: others reach now the one and now the other; "
                    "give each a key of its own"
                )
        yield


@asynccontextmanager
async def running_node(
    options: NodeOptions,
    reporter: Reporter,
    *,
    timeout: float | None = None,
    brief: bool = False,
    nat: bool = True,
    announce: Callable[[Node], None] = lambda node: None,
    patience: float | None = None,
) -> AsyncIterator[Node]:
    """Open the node that the options describe, answer pings, and report what changes, for the length of a block.

    With a ``timeout``, the block begins once the node is ``ready``, which is to say has a session with a bootstrap node
    if it has any; CommandError when none answers within so many seconds.  Without, it begins at once: other nodes may
    find this one before it finds its bootstrap nodes.  People are told at once, too, and once more when it is in the
    mesh; programs get ``ready`` when it is.  ``announce`` tells what else there is to tell then.

    ``brief`` leaves the node's addresses out of the line for people; without ``nat``, its NAT is not told.
    ``patience``: the seconds after which a peer that does not answer counts as gone, if not the usual ones.
    """
    identity = options.load_identity()
    if options.bootstrap and all(uri.peer_id == identity.peer_id for uri in options.bootstrap):
        raise CommandError(
            "bootstrap",
            f"--bootstrap names this node itself ({identity.peer_id.short}): give another node, or none if this is the "
            "first one",
        )
    network_key = options.load_network_key()
    config = netmesh_trio.NodeConfig(
        relay=options.relay,
        direct=options.direct,
        try_port_mapping=options.port_mapping,
        network_key=network_key,
        # Several attempts fit into the time that there is: the last one's error says why.
        connect_timeout=5.0 if timeout is None else min(max(timeout * 0.8, 0.1), 5.0),
    )
    if patience is not None:
        config = attrs.evolve(config, dead_peer_timeout=patience)
    bind = _where_to_bind(options)
    with _key_in_use(options.identity, reporter):
        async with netmesh_trio.open_node(
            identity, bind=bind, bootstrap=[str(uri) for uri in options.bootstrap], config=config
        ) as node:
            with lone_error():
                async with trio.open_nursery() as nursery:
                    ready = trio.Event()
                    nursery.start_soon(partial(watch, node, reporter, ready, nat=nat))
                    punches = PunchWatcher(node, reporter)
                    if options.direct:
                        nursery.start_soon(punches.watch_paths, ready)
                        nursery.start_soon(punches.watch_failures, ready)
                    nursery.start_soon(serve, node, PING_SERVICE, echo)

                    def tell() -> None:
                        reporter.ready(str(node.peer_id), [str(uri) for uri in node.addresses], brief=brief)
                        announce(node)
                        ready.set()

                    async def join() -> None:
                        if reporter.as_json:
                            await _wait_connected(node, options, reporter, None)
                            tell()
                            return
                        tell()
                        before = node.addresses
                        await _wait_connected(node, options, reporter, None)
                        reporter.mesh([] if brief or node.addresses == before else [str(uri) for uri in node.addresses])
                        if node.addresses != before:
                            announce(node)

                    if options.bootstrap and timeout is None:
                        nursery.start_soon(join)
                    else:
                        if options.bootstrap:
                            await _wait_connected(node, options, reporter, timeout)
                        tell()
                    yield node
                    if options.direct:
                        punches.check()
                    nursery.cancel_scope.cancel()


async def _wait_connected(node: Node, options: NodeOptions, reporter: Reporter, timeout: float | None) -> None:
    tried = ", ".join(str(uri.address or uri) for uri in options.bootstrap)

    async def hint() -> None:
        await trio.sleep(_HINT_AFTER)
        reporter.note(f"no bootstrap node has answered yet (tried {tried}); still trying (Ctrl-C stops)")

    with trio.move_on_after(float("inf") if timeout is None else timeout):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hint)
            await node.wait_connected()
            nursery.cancel_scope.cancel()
        return
    advice = await _unknown_host(options) or "check its address, peer id and network key, and that it runs"
    raise CommandError("peer-unreachable", f"no bootstrap node answered within {timeout:g} s (tried {tried}): {advice}")


async def _unknown_host(options: NodeOptions) -> str | None:
    """What is wrong with the first bootstrap host that has no address that this node can reach, if one has none."""
    for uri in options.bootstrap:
        if wildcard := _family_to_bind(options, uri):
            return f"this node has no socket for {uri.address}: give --bind {wildcard}"
        if uri.address is not None:
            with trio.move_on_after(_LOOKUP):
                try:
                    await KernelNetwork().resolve(uri.address.host, uri.address.port)
                except AddressError as error:
                    return str(error)
    return None


async def serve(node: Node, service: str, handler: Callable[[Stream], Awaitable[object]]) -> None:
    """Serve a service until cancelled."""
    async with node.listen(service) as listener:
        await trio.serve_listeners(handler, [listener])


def peer_id_of(target: PeerId | MeshUri) -> PeerId:
    """Whom a PEER argument means."""
    return target.peer_id if isinstance(target, MeshUri) else target


def _where_to_bind(options: NodeOptions) -> list[tuple[str, int]]:
    """What the options say; else any port of all addresses, and the same of IPv6 where this host has it."""
    if options.bind:
        return [(where.host, where.port) for where in options.bind]
    return [("0.0.0.0", 0), ("::", 0)] if _has_ipv6() else [("0.0.0.0", 0)]


def _has_ipv6() -> bool:
    """Whether a node can have a socket for IPv6; whether anybody is reached over it, is another matter."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _family_to_bind(options: NodeOptions, uri: MeshUri) -> str | None:
    """All addresses of the family in which the node would need a socket to reach that address, and has none."""
    families = {6 if ":" in host else 4 for host, _ in _where_to_bind(options)}
    numeric = uri.address.address if uri.address is not None else None
    if numeric is None or numeric.family in families:
        return None
    return "[::]:0" if numeric.family == 6 else "0.0.0.0:0"


def _advice(options: NodeOptions, target: PeerId | MeshUri) -> str:
    """What to do about a peer that cannot be reached."""
    if isinstance(target, MeshUri) and target.address is not None:
        if wildcard := _family_to_bind(options, target):
            return f"give --bind {wildcard}"
        return "check that it runs, its peer id and the network key"
    if options.bootstrap or (isinstance(target, MeshUri) and target.via):
        return "check that it runs and has a bootstrap node in common"
    return "give --bootstrap, or a netmesh:// URI with an address"


async def open_stream(
    node: Node,
    target: PeerId | MeshUri,
    service: str,
    timeout: float,
    options: NodeOptions,
    reporter: Reporter | None = None,
) -> Stream:
    """A stream to a service of a peer that may not be up yet: tries until ``timeout`` seconds, and says so."""
    advice = _advice(options, target)
    deadline = trio.current_time() + timeout
    last: PeerUnreachableError | None = None
    while True:
        try:
            with trio.fail_at(deadline):
                peer = await node.connect(target)
                return await peer.open_stream(service)
        except trio.TooSlowError:
            what = str(last or f"peer {peer_id_of(target).short} did not answer within {timeout:g} s")
            raise PeerUnreachableError(f"{what}: {advice}") from None
        except PeerUnreachableError as error:
            if trio.current_time() + _RETRY >= deadline:
                raise PeerUnreachableError(f"{error}: {advice}") from None
            if last is None and reporter is not None:
                reporter.note(f"peer {peer_id_of(target).short} cannot be reached yet ({advice}); waiting")
            last = error
        await trio.sleep(_RETRY)
