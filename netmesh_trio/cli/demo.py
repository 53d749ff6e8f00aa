"""``netmesh-trio demo``: an internet with NATs in this process, and real nodes that meet on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from netmesh_trio.cli.options import json_option
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    import trio

    from netmesh_trio import Node
    from netmesh_trio.cli.demo_view import DemoView
    from netmesh_trio.cli.transfer import Outcome
    from netmesh_trio.testing import Host, VirtualInternet

__all__ = ["demo"]

_PORT = 4650
_PINGS = 3


@click.command()
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File to send. [default: random bytes]",
)
@click.option(
    "--size",
    metavar="MB",
    type=click.FloatRange(0, 1000),
    default=8.0,
    show_default=True,
    help="Size of the random file.",
)
@click.option(
    "--delay",
    metavar="MS",
    type=click.FloatRange(0, 1000),
    default=20.0,
    show_default=True,
    help="One-way delay from each peer to the relay.",
)
@json_option
@click.pass_obj
def demo(reporter: Reporter, path: Path | None, size: float, delay: float) -> int:
    """Watch two peers behind NATs talk, all in this process.

    Needs no root, no network and no second machine: the internet is simulated, the nodes on it are
    real.  One sends the other a file; watch the path that it takes.
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, lambda: _demo(reporter, path, size, delay))


async def _demo(reporter: Reporter, path: Path | None, size: float, delay: float) -> bool:
    import tempfile

    import trio

    from netmesh_trio.cli.demo_view import DemoView
    from netmesh_trio.testing import VirtualInternet

    with tempfile.TemporaryDirectory(prefix="netmesh-demo-") as scratch:
        if path is None:
            path = Path(scratch) / "demo.bin"
            await trio.to_thread.run_sync(_make_file, path, int(size * 1e6))
        net = VirtualInternet(seed=1, segments=44, delay=delay / 1000)
        hosts = {
            "relay": net.host("relay"),
            "alice": net.host("alice", behind="port-restricted"),
            "bob": net.host("bob", behind="symmetric"),
        }
        hosts["relay"].link.delay = 0.0  # all of it is on the way to the NATs
        async with net:
            with DemoView(reporter, net, delay) as view:
                outcome = await _Play(net, hosts, view).run(path, Path(scratch) / "inbox")
    good = not outcome.failures
    view.finish(outcome)
    return good


def _make_file(path: Path, size: int) -> None:
    import os

    with path.open("wb") as file:
        while size > 0:
            file.write(os.urandom(min(size, 1 << 20)))
            size -= 1 << 20


class _Play:
    """What happens, in order."""

    def __init__(self, net: VirtualInternet, hosts: dict[str, Host], view: DemoView) -> None:
        self._net = net
        self._hosts = hosts
        self._view = view

    async def run(self, path: Path, inbox: Path) -> Outcome:
        """The whole play; what came of the transfer."""
        import trio

        import netmesh_trio
        from netmesh_trio.addresses import HostPort, MeshUri
        from netmesh_trio.identity import Identity

        view = self._view
        async with netmesh_trio.open_node(
            Identity.generate(), bind=("0.0.0.0", _PORT), network=self._hosts["relay"]
        ) as relay:
            uri = MeshUri(relay.peer_id, HostPort(self._hosts["relay"].address, _PORT))
            view.joined("relay", relay, "public: forwards what it cannot read")
            async with (
                netmesh_trio.open_node(
                    Identity.generate(), bootstrap=[str(uri)], network=self._hosts["alice"]
                ) as alice,
                netmesh_trio.open_node(Identity.generate(), bootstrap=[str(uri)], network=self._hosts["bob"]) as bob,
            ):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(view.refresh)
                    for name, node, nat in (
                        ("alice", alice, "a port-restricted NAT"),
                        ("bob", bob, "a symmetric NAT"),
                    ):
                        await node.wait_connected()
                        view.joined(name, node, f"behind {nat}, connected to the relay")
                    outcome = await self._exchange(nursery, alice, bob, path, inbox)
                    nursery.cancel_scope.cancel()
        return outcome

    async def _exchange(self, nursery: trio.Nursery, alice: Node, bob: Node, path: Path, inbox: Path) -> Outcome:
        import trio

        from netmesh_trio.cli.files import FILES_SERVICE
        from netmesh_trio.cli.ping import PAYLOAD, PING_SERVICE, echo
        from netmesh_trio.cli.session import serve
        from netmesh_trio.cli.transfer import Source, Store, receive_files, send_files

        view = self._view
        source = await trio.to_thread.run_sync(Source.scan, path)
        store = await trio.to_thread.run_sync(Store, inbox)
        received: list[Outcome] = []
        arrived = trio.Event()

        async def take(stream: trio.abc.HalfCloseableStream) -> None:
            async with stream:
                received.append(await receive_files(stream, store))
            arrived.set()

        try:
            nursery.start_soon(serve, bob, PING_SERVICE, echo)
            nursery.start_soon(serve, bob, FILES_SERVICE, take)
            start = trio.current_time()
            peer = await alice.connect(bob.peer_id)
            stream = await peer.open_stream(PING_SERVICE)
            view.watch(alice, bob, peer)
            async with stream:
                for number in range(_PINGS):
                    sent = trio.current_time() if number else start
                    await stream.send_all(bytes(PAYLOAD))
                    got = 0
                    while got < PAYLOAD:
                        got += len(await stream.receive_some(PAYLOAD - got))
                    took = (trio.current_time() - sent) * 1000
                    what = "handshake and first answer" if not number else "round trip"
                    view.happened(f"{what} alice to bob and back: {took:.0f} ms", rtt_ms=took)
            stream = await peer.open_stream(FILES_SERVICE)
            view.happened(f"alice sends {path.name!r}, {source.offer.total:,} bytes, to bob")
            async with stream:
                outcome = await send_files(stream, source, view.progress)
            await arrived.wait()
            agree = received[0].digest == outcome.digest != ""
            view.happened(f"both hashes {'agree' if agree else 'DIFFER'}: {outcome.digest[:16]}…")
            if not agree:
                from netmesh_trio.cli.runner import CommandError

                raise CommandError("corrupt", "the file arrived with another hash")
            return outcome
        finally:
            store.close()
