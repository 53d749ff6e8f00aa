"""``netmesh-trio demo``: an internet with NATs in this process, and real nodes that meet on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netmesh_trio.cli.options import FilePath, Number, json_option
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    import trio

    from netmesh_trio import Node, Peer
    from netmesh_trio.cli.demo_view import DemoView
    from netmesh_trio.cli.transfer import Outcome, Source
    from netmesh_trio.testing import VirtualInternet

__all__ = ["demo"]

_PORT = 4650
_MOVES_AFTER = 1.5  # seconds of transfer over the relay
_BLOCKED_AT = 0.45  # of the file
_BLOCKED_FOR = 2.0
_PATIENCE = 4.0


@click.command()
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=FilePath(),
    help="File to send. [default: random bytes]",
)
@click.option(
    "--size",
    metavar="MB",
    type=Number(0, 1000),
    default=16.0,
    show_default=True,
    help="Size of the random file.",
)
@click.option(
    "--delay",
    metavar="MS",
    type=Number(0, 1000),
    default=10.0,
    show_default=True,
    help="One-way delay of each peer's line; the relays are twice as far away.",
)
@json_option
@click.pass_obj
def demo(reporter: Reporter, path: Path | None, size: float, delay: float) -> int:
    """Watch two peers behind NATs talk, all in this process.

    Needs no root, no network and no second machine: the internet is simulated, the nodes on it are
    real.  One sends the other a file; watch the path that it takes.

    \b
    Examples:
        netmesh-trio demo
        netmesh-trio demo --file photo.jpg --delay 50
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, lambda: _demo(reporter, path, size, delay))


async def _demo(reporter: Reporter, path: Path | None, size: float, delay: float) -> bool:
    import tempfile

    import trio

    from netmesh_trio.cli.demo_view import DemoView
    from netmesh_trio.cli.transfer import Source
    from netmesh_trio.testing import VirtualInternet

    with tempfile.TemporaryDirectory(prefix="netmesh-demo-") as scratch:
        if path is None:
            path = Path(scratch) / "demo.bin"
            await trio.to_thread.run_sync(_make_file, path, int(size * 1e6))
        source = await trio.to_thread.run_sync(Source.scan, path)
        net = VirtualInternet(seed=1, segments=44, delay=delay / 1000, resolution=0.001)
        async with net:
            with DemoView(reporter, net) as view:
                outcome = await _Play(net, view, source, delay / 1000).run(Path(scratch) / "inbox")
    view.finish(outcome)
    return not outcome.failures


def _make_file(path: Path, size: int) -> None:
    import os

    with path.open("wb") as file:
        while size > 0:
            file.write(os.urandom(min(size, 1 << 20)))
            size -= 1 << 20


class _Play:
    """What happens, in order."""

    def __init__(self, net: VirtualInternet, view: DemoView, source: Source, delay: float) -> None:
        self._net = net
        self._view = view
        self._source = source
        total = source.offer.total
        # Lines on which it takes some seconds, so that one sees it.
        line = max(total / 3.0, 1e6)
        for name in ("relay-1", "relay-2"):
            link = net.host(name).link
            link.delay = 2 * delay
            link.rate = line / 2.5
        self._cafe = net.nat("cafe", "symmetric")
        self._home = net.nat("home", "address-restricted")
        self._alice = net.host("alice", behind=net.nat("mobile", "symmetric"))
        self._bob = net.host("bob", behind=self._cafe)
        for nat in net.nats.values():
            nat.link.rate = line
        self._moved = False

    async def run(self, inbox: Path) -> Outcome:
        """The whole play; what came of the transfer."""
        import trio

        import netmesh_trio
        from netmesh_trio.addresses import HostPort, MeshUri
        from netmesh_trio.cli.transfer.outcome import lone_error
        from netmesh_trio.identity import Identity

        view, hosts = self._view, self._net.hosts

        def node(name: str) -> AbstractAsyncContextManager[Node]:
            here = hosts[name]
            if name.startswith("relay"):
                return netmesh_trio.open_node(Identity.generate(), ("0.0.0.0", _PORT), network=here)
            return netmesh_trio.open_node(Identity.generate(), bootstrap=relays, network=here)

        relays: list[MeshUri] = []
        view.happened("an internet in this process: two public relays, alice and bob behind symmetric NATs")
        async with node("relay-1") as first, node("relay-2") as second:
            for name, relay in (("relay-1", first), ("relay-2", second)):
                relays.append(MeshUri(relay.peer_id, HostPort(hosts[name].address, _PORT)))
                view.joined(name, relay, "a public relay")
            async with node("alice") as alice, node("bob") as bob:
                with lone_error():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(view.refresh)
                        for name, end, where in (
                            ("alice", alice, "in a mobile network: symmetric NAT"),
                            ("bob", bob, "in a cafe: symmetric NAT"),
                        ):
                            await end.wait_connected()
                            await end.reclassify_nat()
                            view.joined(name, end, where)
                        outcome = await self._exchange(nursery, alice, bob, inbox)
                        view.close()
                        nursery.cancel_scope.cancel()
        return outcome

    async def _exchange(self, nursery: trio.Nursery, alice: Node, bob: Node, inbox: Path) -> Outcome:
        import trio

        from netmesh_trio.cli.files import FILES_SERVICE
        from netmesh_trio.cli.ping import PING_SERVICE, echo
        from netmesh_trio.cli.session import serve
        from netmesh_trio.cli.transfer import Progress, Store, receive_files, send_files

        view, source = self._view, self._source
        store = await trio.to_thread.run_sync(Store, inbox)
        received: list[Outcome] = []
        arrived = trio.Event()
        progress = Progress()

        def hook(now: Progress) -> None:
            nonlocal progress
            progress = now
            view.progress(now)

        async def take(stream: trio.abc.HalfCloseableStream) -> None:
            async with stream:
                received.append(await receive_files(stream, store, hook))
            arrived.set()

        try:
            nursery.start_soon(serve, bob, PING_SERVICE, echo)
            nursery.start_soon(serve, bob, FILES_SERVICE, take)
            start = trio.current_time()
            peer = await alice.connect(bob.peer_id)
            view.watch(alice, bob, peer)
            await self._ping(peer, start, "first answer, handshake included")
            stream = await peer.open_stream(FILES_SERVICE)
            view.happened(f"alice sends {source.offer.root!r}, {source.offer.total:,} bytes, to bob")
            async with trio.open_nursery() as meanwhile:
                meanwhile.start_soon(self._meanwhile, bob, peer, lambda: progress.done / max(progress.total, 1))
                async with stream:
                    outcome = await send_files(stream, source)
                await arrived.wait()
                meanwhile.cancel_scope.cancel()
            agree = received[0].digest == outcome.digest != ""
            view.happened(
                f"both hashes {'agree' if agree else 'DIFFER'}: {outcome.digest[:16]}…", "bold" if agree else "bold red"
            )
            if not agree:
                from netmesh_trio.cli.runner import CommandError

                raise CommandError("corrupt", "the file arrived with another hash")
            await self._end_direct(bob, peer)
            return outcome
        finally:
            store.close()

    async def _meanwhile(self, bob: Node, peer: Peer, share: Callable[[], float]) -> None:
        """What happens to the path while the file is under way."""
        import trio

        await trio.sleep(_MOVES_AFTER)
        await self._move(bob)
        await peer.wait_direct()
        while share() < _BLOCKED_AT:  # noqa: ASYNC110 - the transfer has no event for it
            await trio.sleep(0.02)
        self._net.block(self._alice, self._bob)
        self._view.happened("a firewall blocks the direct path", "red")
        await trio.sleep(_BLOCKED_FOR)
        self._unblock()

    async def _move(self, bob: Node) -> None:
        self._bob.roam(self._home)
        self._moved = True
        self._view.moved("bob", "at home: address-restricted NAT")
        await bob.reclassify_nat()

    def _unblock(self) -> None:
        self._net.unblock(self._alice, self._bob)
        self._view.happened("the firewall lets them through again", "yellow")

    async def _end_direct(self, bob: Node, peer: Peer) -> None:
        """If the file was too small to see it all, see the rest without it."""
        import trio

        if not self._moved:
            await self._move(bob)
        if not self._net.direct_path_possible(self._alice, self._bob):
            self._unblock()
        with trio.move_on_after(_PATIENCE):
            await peer.wait_direct()
        self._view.look()
        await self._ping(peer, trio.current_time(), "a round trip now")

    async def _ping(self, peer: Peer, since: float, what: str) -> None:
        import trio

        from netmesh_trio.cli.ping import PAYLOAD, PING_SERVICE

        async with await peer.open_stream(PING_SERVICE) as stream:
            await stream.send_all(bytes(PAYLOAD))
            got = 0
            while got < PAYLOAD:
                got += len(await stream.receive_some(PAYLOAD - got))
        took = (trio.current_time() - since) * 1000
        self._view.happened(f"{what}: {took:.0f} ms", rtt_ms=round(took, 3))
