"""Every call, cancelled at every checkpoint: the node goes on, and nothing leaks."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
import trio.testing

from netmesh_trio import Identity, Node, NodeConfig, PeerUnreachableError, Stream, open_node
from tests.node.mesh import (
    Mesh,
    assert_no_streams,
    assert_nothing_pending,
    connect,
    echo,
    echoing,
    engine,
    make_pair,
    no_leaks,
    open_mesh,
    round_trip,
    settle,
)


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels the scope as the task comes to its ``k``-th step from now on (a step ends at a checkpoint)."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope
    left: int
    when: float = float("inf")

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.when = trio.current_time()
                self.scope.cancel()


async def cancelled_at(k: int, call: Callable[[], Awaitable[object]], *, prompt: bool = True) -> bool:
    """Run ``call`` and cancel it at its ``k``-th checkpoint; whether it was cancelled.  ``k`` 0: from the start.

    With ``prompt``, it has to end at the same moment (of the virtual clock).
    """
    scope = trio.CancelScope()
    instrument = CancelAtStep(trio.lowlevel.current_task(), scope, k)
    with scope:
        if k == 0:
            scope.cancel()
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    if prompt and scope.cancelled_caught:
        assert k == 0 or trio.current_time() <= instrument.when
    return scope.cancelled_caught


Setup = Callable[[], Awaitable[Callable[[], Awaitable[object]]]]


async def sweep(mesh: Mesh, setup: Setup, *, at_least: int = 1, prompt: bool = True) -> None:
    """Cancel the call that ``setup`` prepares at each checkpoint, until it gets through."""
    peer = await connect(mesh.a, mesh.b)
    async with echoing(mesh.b, "check"), echoing(mesh.a, "check"):
        await settle()
        k = 0
        for k in range(1000):
            with no_leaks(mesh.net):
                call = await setup()
                with trio.fail_after(60):
                    cancelled = await cancelled_at(k, call, prompt=prompt)
                await round_trip(peer, b"still sound", "check")
                await settle(12)  # past connect_timeout
            assert_no_streams(mesh.relay, mesh.a, mesh.b)
            assert_nothing_pending(mesh.relay, mesh.a, mesh.b)
            if not cancelled:
                break
        assert k >= at_least
        await round_trip(await connect(mesh.b, mesh.a), b"and back", "check")


def closing(*streams: Stream) -> None:
    for stream in streams:
        stream.reset()


async def test_connect(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:

        async def setup() -> Callable[[], Awaitable[object]]:
            peer = await connect(mesh.a, mesh.b)
            await peer.aclose()
            await settle(3)
            return lambda: mesh.a.connect(mesh.b.peer_id)

        await sweep(mesh, setup)


async def test_open_stream(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)

    async def setup() -> Callable[[], Awaitable[object]]:
        async def call() -> None:
            (await peer.open_stream("check")).reset()

        return call

    await sweep(mesh, setup)


async def test_open_stream_of_a_service_not_known_yet(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)

    async def setup() -> Callable[[], Awaitable[object]]:
        async def call() -> None:
            async with mesh.b.listen("new"):
                for live in peer.sessions:
                    live.remote_services.clear()
                stream = await peer.open_stream("new")
                stream.reset()

        return call

    await sweep(mesh, setup)


async def test_open_stream_without_a_session(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)

    async def setup() -> Callable[[], Awaitable[object]]:
        await peer.aclose()
        await settle(3)

        async def call() -> None:
            (await peer.open_stream("check")).reset()

        return call

    await sweep(mesh, setup, at_least=2)


async def test_open_stream_at_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh(config=NodeConfig(max_streams=2)) as mesh:
        peer = await connect(mesh.a, mesh.b)

        async def setup() -> Callable[[], Awaitable[object]]:
            async def call() -> None:
                async with echoing(mesh.b, "limited"):
                    held = [await peer.open_stream("limited") for _ in range(2)]
                    try:
                        with trio.move_on_after(1):
                            await peer.open_stream("limited")
                            raise AssertionError
                    finally:
                        closing(*held)

            return call

        await sweep(mesh, setup, at_least=4)


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_send_all(mesh: Mesh, autojump_clock: trio.testing.MockClock, size: int) -> None:
    async def setup() -> Callable[[], Awaitable[object]]:
        near, far = await make_pair(mesh.a, mesh.b)

        async def drain() -> None:
            while await far.receive_some():
                pass

        async def call() -> None:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(drain)
                    await near.send_all(bytes(size))
                    nursery.cancel_scope.cancel()
            finally:
                closing(near, far)

        return call

    await sweep(mesh, setup, at_least=1)


async def test_a_cancelled_read_loses_nothing(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    data = bytes(range(256)) * 40
    got = bytearray()

    async def read() -> None:
        got.extend(await far.receive_some(100))

    async def send() -> None:
        for at in range(0, len(data), 200):
            await near.send_all(data[at : at + 200])
            await trio.sleep(0.003)
        await near.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        k = 0
        while len(got) < len(data):
            await cancelled_at(k % 4, read)
            k += 1
            await trio.sleep(0.001)
    assert bytes(got) == data
    await near.aclose()
    await far.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_a_cancelled_send_is_whole_or_not_at_all(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """For what fits into one piece: nothing is sent twice when the program tries again."""
    near, far = await make_pair(mesh.a, mesh.b)
    sent = bytearray()
    for number in range(200):
        piece = b"%4d" % number * 10
        if not await cancelled_at(number % 3, lambda piece=piece: near.send_all(piece)):  # type: ignore[misc]
            sent += piece
    await near.aclose()
    got = bytearray()
    while part := await far.receive_some():
        got += part
    assert got == sent
    await far.aclose()


async def test_receive_some(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async def setup() -> Callable[[], Awaitable[object]]:
        near, far = await make_pair(mesh.a, mesh.b)

        async def call() -> None:
            try:
                await near.send_all(b"x")
                assert await far.receive_some() == b"x"
            finally:
                closing(near, far)

        return call

    await sweep(mesh, setup, at_least=2)


async def test_endings(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """send_eof, wait_send_all_might_not_block, aclose: a cancelled aclose closes all the same."""

    async def setup() -> Callable[[], Awaitable[object]]:
        near, far = await make_pair(mesh.a, mesh.b)

        async def call() -> None:
            try:
                await near.wait_send_all_might_not_block()
                await near.send_eof()
                assert await far.receive_some() == b""
            finally:
                try:
                    await near.aclose()
                finally:
                    await far.aclose()

        return call

    await sweep(mesh, setup, at_least=3)


async def test_wait_connected(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async def setup() -> Callable[[], Awaitable[object]]:
        return mesh.a.wait_connected

    await sweep(mesh, setup)


async def test_accept(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)
    listener = mesh.b.listen("accepted")

    async def setup() -> Callable[[], Awaitable[object]]:
        async def open_one() -> None:
            near = await peer.open_stream("accepted")
            await near.aclose()

        async def call() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_one)
                async with await listener.accept():
                    pass

        async def call_and_take_the_rest() -> None:
            try:
                await call()
            finally:
                with trio.CancelScope(shield=True):
                    while True:
                        with trio.move_on_after(1) as scope:
                            await (await listener.accept()).aclose()
                        if scope.cancelled_caught:
                            break

        return call_and_take_the_rest

    await sweep(mesh, setup, prompt=False)
    await listener.aclose()


async def test_serve_listeners(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    peer = await connect(mesh.a, mesh.b)

    async def setup() -> Callable[[], Awaitable[object]]:
        async def ask(scope: trio.CancelScope) -> None:
            await round_trip(peer, b"asked", "served")
            scope.cancel()

        async def call() -> None:
            async with mesh.b.listen("served") as listener:
                with trio.CancelScope() as serving:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(ask, serving)
                        await trio.serve_listeners(echo, [listener])

        return call

    await sweep(mesh, setup)
    mesh.b.listen("served").close()  # the name is free


async def test_datagrams(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled reader loses none."""
    peer = await connect(mesh.a, mesh.b)
    got: list[bytes] = []
    with mesh.b.datagrams("count") as channel:

        async def take() -> None:
            got.append((await channel.receive()).payload)

        for number in range(50):
            peer.send_datagram("count", b"%d" % number)
            if number % 2:
                await settle()
            while not await cancelled_at(number % 3, take):
                if len(got) == number + 1:
                    break
            with trio.fail_after(10):
                while len(got) <= number:
                    await take()
        assert got == [b"%d" % number for number in range(50)]


async def test_peer_aclose(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async def setup() -> Callable[[], Awaitable[object]]:
        peer = await connect(mesh.a, mesh.b)
        return peer.aclose

    await sweep(mesh, setup)


async def test_events(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    """A cancelled iteration loses no event."""
    events = mesh.a.events()
    peer = await connect(mesh.a, mesh.b)
    seen: list[object] = []

    async def take() -> None:
        seen.append(await events.__anext__())

    for k in range(10):
        await peer.aclose()
        await settle(1)
        await mesh.a.connect(mesh.b.peer_id)
        await settle(1)
        while not await cancelled_at(k, take):
            if len(seen) >= 1 + 2 * (k + 1):
                break
    while len(seen) < 21:
        await take()
    kinds = [type(e).__name__ for e in seen]
    assert kinds == ["PeerConnected"] + ["PeerDisconnected", "PeerConnected"] * 10


async def test_open_node(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    host = mesh.net.host("c", behind="port-restricted")

    async def setup() -> Callable[[], Awaitable[object]]:
        async def call() -> None:
            async with open_node(Identity.generate(), bootstrap=[mesh.uri], network=host) as node:
                await node.wait_connected()
                stream = await (await node.connect(mesh.b.peer_id)).open_stream("check")
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
                await stream.send_all(bytes(1000))
                await stream.aclose()

        return call

    await sweep(mesh, setup, at_least=5)


async def test_open_node_with_several_sockets(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    host = mesh.net.host("c", "2001:db8::c", "203.0.113.12")

    async def setup() -> Callable[[], Awaitable[object]]:
        async def call() -> None:
            async with open_node(Identity.generate(), [("::", 1), ("0.0.0.0", 1)], network=host):
                pass

        return call

    await sweep(mesh, setup, at_least=2)


async def test_many_cancelled_dials_leave_nothing(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    def endings(node: Node) -> int:
        return len(engine(node).endpoints)

    before = [endings(node) for node in (mesh.a, mesh.b, mesh.relay)]
    for _ in range(50):
        with trio.move_on_after(0.01):
            await mesh.a.connect(Identity.generate().peer_id)
    await settle(15)
    assert [endings(node) for node in (mesh.a, mesh.b, mesh.relay)] == before
    assert_nothing_pending(mesh.a, mesh.b, mesh.relay)
    assert mesh.relay.statistics().circuits == 0
    # a half-open session that the initiator never used goes, too
    for _ in range(5):
        with trio.move_on_after(0.03):
            await mesh.a.connect(mesh.b.peer_id)
        for peer in mesh.a.peers():
            if peer.peer_id == mesh.b.peer_id:
                await peer.aclose()
    await settle(60)
    assert len(engine(mesh.b).handshakes.half_open) <= 1


@pytest.mark.parametrize("seed", range(10))
async def test_anything_cancelled_at_any_time(autojump_clock: trio.testing.MockClock, seed: int) -> None:
    """Busy nodes on a bad network, whose calls are cancelled at random times."""
    chance = random.Random(seed)
    config = NodeConfig(stream_window=1 << 15, session_window=1 << 17, max_streams=16, backlog=4)
    async with open_mesh(seed=seed, config=config) as mesh:
        for host in mesh.net.hosts.values():
            host.link.loss = 0.02
            host.link.reorder = 0.02
        nodes = (mesh.a, mesh.b)

        async def worker(mine: Node, theirs: Node) -> None:
            for _ in range(15):
                with trio.move_on_after(chance.choice((0, 0.001, 0.02, 0.1, 1, 10))):
                    try:
                        peer = await mine.connect(theirs.peer_id)
                        stream = await peer.open_stream(chance.choice(("echo", "echo", "echo", "nobody")))
                    except (trio.BrokenResourceError, PeerUnreachableError):
                        continue
                    try:
                        size = chance.choice((1, 1000, 50_000, 500_000))
                        await stream.send_all(bytes(size))
                        if chance.random() < 0.5:
                            await stream.send_eof()
                        while await stream.receive_some(chance.choice((10, 100_000))):
                            if chance.random() < 0.1:
                                break
                    except trio.BrokenResourceError:
                        pass
                    finally:
                        if chance.random() < 0.5:
                            stream.reset(5)
                        else:
                            await stream.aclose()
                        if chance.random() < 0.03:
                            await peer.aclose()

        async def tidy_echo(stream: Stream) -> None:
            with trio.move_on_after(5):
                await echo(stream)

        async with mesh.a.listen("echo") as la, mesh.b.listen("echo") as lb, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, tidy_echo, [la, lb])
            with trio.fail_after(600):
                async with trio.open_nursery() as workers:
                    for number in range(12):
                        workers.start_soon(worker, nodes[number % 2], nodes[1 - number % 2])
            for host in mesh.net.hosts.values():
                host.link.loss = 0
            await settle(400)  # past the idle time of circuits
            assert_no_streams(mesh.relay, *nodes)
            assert_nothing_pending(mesh.relay, *nodes)
            for mine, theirs in (nodes, nodes[::-1]):
                await round_trip(await mine.connect(theirs.peer_id), bytes(100_000))
            nursery.cancel_scope.cancel()
