"""Streams between running nodes."""

from __future__ import annotations

import array
import datetime
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netmesh_trio import (
    Identity,
    Node,
    NodeConfig,
    SessionClosedError,
    Stream,
    StreamResetError,
    open_node,
)
from netmesh_trio.node.streams import CODE_CLOSED, CODE_RESET
from netmesh_trio.testing import VirtualInternet
from tests.node.mesh import (
    Mesh,
    assert_no_streams,
    connect,
    echo,
    echoing,
    engine,
    make_pair,
    open_mesh,
    round_trip,
    settle,
    stream_pair,
)

SMALL = NodeConfig(stream_window=1 << 14, session_window=1 << 15)


@asynccontextmanager
async def neighbors(config: NodeConfig | None = None) -> AsyncGenerator[tuple[Node, Node], None]:
    """Two nodes on the virtual internet that see each other."""
    async with VirtualInternet(seed=3) as net:
        async with (
            open_node(
                Identity.generate(), ("203.0.113.1", 1000), network=net.host("a", "203.0.113.1"), config=config
            ) as a,
            open_node(
                Identity.generate(), ("203.0.113.2", 1000), network=net.host("b", "203.0.113.2"), config=config
            ) as b,
        ):
            yield a, b


# what trio asks of a stream


async def test_trio_check_over_loopback() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as a,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as b,
    ):
        await trio.testing.check_half_closeable_stream(lambda: make_pair(a, b), None)
        await settle()
        assert_no_streams(a, b)


async def test_trio_check_over_a_relay(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    await trio.testing.check_half_closeable_stream(lambda: make_pair(mesh.a, mesh.b), None)
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_trio_check_clogged(autojump_clock: trio.testing.MockClock) -> None:
    async with neighbors(SMALL) as (a, b):

        async def clogged() -> tuple[Stream, Stream]:
            near, far = await make_pair(a, b)
            for stream in (near, far):
                for _ in range(2):  # a writer that waits is not woken as soon as there is room for a little
                    with trio.move_on_after(2):
                        while True:
                            await stream.send_all(bytes(10_000))
            return near, far

        await trio.testing.check_half_closeable_stream(lambda: make_pair(a, b), clogged)
        await settle()
        assert_no_streams(a, b)


def make_certificate(folder: Path) -> Path:
    """A certificate of b.example, signed by itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "b.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("b.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path


async def test_tls_inside(mesh: Mesh, autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate)
    client_context = ssl.create_default_context(cafile=certificate)
    near, far = await make_pair(mesh.a, mesh.b)

    async def serve() -> None:
        server = trio.SSLStream(far, server_context, server_side=True)
        await server.send_all(await server.receive_some())
        await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = trio.SSLStream(near, client_context, server_hostname="b.example")
        await client.send_all(b"inside")
        assert await client.receive_some() == b"inside"
        await client.aclose()


# errors


async def test_own_close(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, _):
        await near.aclose()
        for call in (near.receive_some, lambda: near.send_all(b"x"), near.send_eof, near.wait_send_all_might_not_block):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        await near.aclose()


async def test_sending_after_the_end(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await near.send_eof()
        await near.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        assert await far.receive_some() == b""
        assert await far.receive_some() == b""
        await far.send_all(b"still")
        assert await near.receive_some() == b"still"


async def test_two_tasks(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, _), trio.open_nursery() as nursery:
        nursery.start_soon(near.receive_some)
        nursery.start_soon(near.send_all, bytes(40 << 20))
        await settle()
        with pytest.raises(trio.BusyResourceError):
            await near.receive_some()
        calls: list[Callable[[], Awaitable[None]]] = [
            lambda: near.send_all(b"x"),
            near.send_eof,
            near.wait_send_all_might_not_block,
        ]
        for call in calls:
            with pytest.raises(trio.BusyResourceError):
                await call()
        nursery.cancel_scope.cancel()


async def test_closing_under_waiting_tasks(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)

    async def expect_closed(call: object, *args: object) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await call(*args)  # type: ignore[operator]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed, near.receive_some)
        nursery.start_soon(expect_closed, near.send_all, bytes(40 << 20))
        await settle()
        await near.aclose()
    await far.aclose()
    await settle(5)
    assert_no_streams(mesh.a, mesh.b)


async def test_reset_tells_its_code(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    near.reset(77)
    with pytest.raises(StreamResetError, match="0x4d") as info:
        await far.receive_some()
    assert info.value.code == 77
    with pytest.raises(StreamResetError) as info:
        await far.send_all(b"x")
    assert info.value.code == 77
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_some()
    near.reset(78)  # too late, and harmless
    await far.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_reset_wakes_the_peer(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    codes = []

    async def read() -> None:
        with pytest.raises(StreamResetError) as info:
            await far.receive_some()
        codes.append(info.value.code)

    async def write() -> None:
        with pytest.raises(StreamResetError) as info:
            await far.send_all(bytes(40 << 20))
        codes.append(info.value.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(write)
        await settle()
        near.reset()
    assert codes == [CODE_RESET] * 2
    await far.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_code_must_fit(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, _):
        with pytest.raises(ValueError):
            near.reset(1 << 32)
        for wrong in ("7", 7.5):
            with pytest.raises(TypeError, match="integer"):
                near.reset(wrong)  # type: ignore[arg-type]
        await near.send_all(b"still there")
        with pytest.raises(ValueError):
            await near.receive_some(0)


async def test_peer_closes_while_we_send(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(StreamResetError, match="closed") as info:  # noqa: PT012
                while True:
                    await near.send_all(bytes(100_000))
            assert info.value.code == CODE_CLOSED

        nursery.start_soon(send)
        await settle()
        await far.aclose()
    # the peer's half ended in order
    assert await near.receive_some() == b""
    await near.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_what_was_sent_before_closing_arrives(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    data = random.Random(5).randbytes(400_000)
    await near.send_all(data)
    await near.aclose()
    got = bytearray()
    while part := await far.receive_some(1000):
        got += part
    assert bytes(got) == data
    await far.aclose()
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_session_closed(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    near, far = await make_pair(mesh.a, mesh.b)
    peer = await connect(mesh.b, mesh.a)
    await peer.aclose()
    for call in (near.receive_some, lambda: near.send_all(b"x"), near.send_eof):
        await settle()
        with pytest.raises(SessionClosedError) as info:
            await call()
        assert info.value.reason == "closed"
    with pytest.raises(SessionClosedError):
        await far.receive_some()
    await near.aclose()
    await far.aclose()


async def test_session_times_out(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        near, _ = await make_pair(mesh.a, mesh.b)
        mesh.net.kill(mesh.net.hosts["b"])
        await near.send_all(b"anybody?")
        start = trio.current_time()
        with pytest.raises(SessionClosedError, match="does not answer") as info:
            await near.receive_some()
        assert info.value.reason == "timeout"
        assert trio.current_time() - start < 12
        with pytest.raises(SessionClosedError):
            await near.send_all(b"x")


async def test_peer_restarts(autojump_clock: trio.testing.MockClock) -> None:
    async with VirtualInternet(seed=3) as net:
        identity = Identity.generate()
        host = net.host("b", "203.0.113.2")
        async with open_node(Identity.generate(), ("203.0.113.1", 1000), network=net.host("a", "203.0.113.1")) as a:
            async with open_node(identity, ("203.0.113.2", 1000), network=host) as b:
                near, _ = await make_pair(a, b)
                net.kill(host)
                async with open_node(identity, ("203.0.113.2", 1000), network=host):
                    start = trio.current_time()
                    await near.send_all(b"still there?")
                    with pytest.raises(SessionClosedError, match="restarted") as info:
                        await near.receive_some()
                    assert info.value.reason == "restarted"
                    assert trio.current_time() - start < 1


# data


@pytest.mark.parametrize("size", [0, 1, 1399, 65_536, 5_000_000])
async def test_sizes(mesh: Mesh, autojump_clock: trio.testing.MockClock, size: int) -> None:
    async with echoing(mesh.b):
        await round_trip(await connect(mesh.a, mesh.b), random.Random(size).randbytes(size))
        await settle()
        assert_no_streams(mesh.a, mesh.b)


async def test_views_and_arrays_are_sent_as_they_were(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        for size in (10, 20_000, 400_000):
            data = bytearray(random.Random(size).randbytes(size))
            sent = bytes(data)
            await near.send_all(memoryview(data))
            data[:] = bytes(size)
            got = bytearray()
            while len(got) < size:
                got += await far.receive_some()
            assert bytes(got) == sent


@pytest.mark.parametrize("size", [1, 3000, 100_000])
async def test_wide_items_are_sent_as_the_bytes_they_are(
    mesh: Mesh, autojump_clock: trio.testing.MockClock, size: int
) -> None:
    numbers = array.array("i", range(size))
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await near.send_all(memoryview(numbers))
        await near.send_eof()
        got = bytearray()
        async for data in far:
            got += data
        assert got == numbers.tobytes()


@pytest.mark.parametrize("wrong", ["text", "text" * 100_000, None, ["a"], 3])
async def test_what_is_not_bytes_is_refused_and_hurts_nobody(
    mesh: Mesh, autojump_clock: trio.testing.MockClock, wrong: Any
) -> None:
    async with stream_pair(mesh.a, mesh.b) as (near, far):
        await near.send_all(b"first")
        await settle()
        with pytest.raises(TypeError, match="can be sent"):
            await near.send_all(wrong)
        await near.send_all(b"good")
        await near.send_eof()
        got = bytearray()
        async for data in far:
            got += data
        assert got == b"firstgood"


async def test_many_at_once_both_ways(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    from_a, from_b = await connect(mesh.a, mesh.b), await connect(mesh.b, mesh.a)
    async with echoing(mesh.a), echoing(mesh.b), trio.open_nursery() as nursery:
        for number in range(200):
            data = random.Random(number).randbytes(number * 41)
            nursery.start_soon(round_trip, (from_a, from_b)[number % 2], data)
    await settle()
    assert_no_streams(mesh.a, mesh.b)


async def test_server_speaks_first(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async def greet(stream: Stream) -> None:
        async with stream:
            await stream.send_all(b"welcome")

    peer = await connect(mesh.a, mesh.b)
    async with mesh.b.listen("greet") as listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, greet, [listener])
        await settle()  # so that a knows the service
        async with await peer.open_stream("greet") as stream:
            with trio.fail_after(1):
                assert await stream.receive_some() == b"welcome"
        nursery.cancel_scope.cancel()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.one_of(
                st.tuples(st.just("send"), st.integers(0, 60_000)),
                st.tuples(st.just("sleep"), st.integers(0, 50)),
                st.tuples(st.just("open"), st.just(0)),
            ),
            st.integers(0, 5),
        ),
        max_size=30,
    ),
    loss=st.sampled_from([0.0, 0.05]),
    ending=st.sampled_from(["eof", "close"]),
)
def test_any_interleaving(script: list[tuple[int, tuple[str, int], int]], loss: float, ending: str) -> None:
    """Two sides open streams and write on them as the script says; every byte arrives, in order."""

    async def main() -> None:
        async with neighbors(NodeConfig(stream_window=1 << 15, session_window=1 << 17)) as (a, b):
            for host in engine(a).network._internet.hosts.values():  # type: ignore[attr-defined]
                host.link.loss = loss
            nodes = (a, b)
            peers = (await connect(a, b), await connect(b, a))
            written: dict[bytes, bytes] = {}
            read: dict[bytes, bytes] = {}

            async def collect(stream: Stream) -> None:
                got = bytearray()
                async with stream:
                    while part := await stream.receive_some(10_000):
                        got += part
                assert bytes(got[:4]) not in read
                read[bytes(got[:4])] = bytes(got)

            async def run_side(side: int, count: list[int]) -> None:
                mine: list[tuple[Stream, bytearray]] = []
                rng = random.Random(side)

                async def new() -> None:
                    stream = await peers[side].open_stream("collect")
                    key = bytes((side,)) + len(mine).to_bytes(3, "big")
                    await stream.send_all(key)
                    mine.append((stream, bytearray(key)))

                await new()
                for who, (what, value), which in script:
                    if who != side:
                        continue
                    if what == "open":
                        await new()
                    elif what == "sleep":
                        await trio.sleep(value / 1000)
                    else:
                        data = rng.randbytes(value)
                        stream, log = mine[which % len(mine)]
                        await stream.send_all(data)
                        log += data
                for stream, log in mine:
                    if ending == "eof":
                        await stream.send_eof()
                        assert await stream.receive_some() == b""
                    await stream.aclose()
                    written[bytes(log[:4])] = bytes(log)
                count.append(side)

            with trio.fail_after(120):
                async with a.listen("collect") as la, b.listen("collect") as lb, trio.open_nursery() as nursery:
                    nursery.start_soon(trio.serve_listeners, collect, [la, lb])
                    finished: list[int] = []
                    async with trio.open_nursery() as sides:
                        for side in range(2):
                            sides.start_soon(run_side, side, finished)
                    while len(read) < len(written):
                        await trio.sleep(0.1)
                    assert read == written
                    await settle(5)
                    assert_no_streams(*nodes)
                    nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_low_priority_is_not_starved(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh() as mesh:
        for host in mesh.net.hosts.values():
            host.link.rate = 500_000
        peer = await connect(mesh.a, mesh.b)
        received = {"high": 0, "low": 0}

        async def count(stream: Stream) -> None:
            async with stream:
                name = (await stream.receive_some(4)).strip().decode()
                while part := await stream.receive_some():
                    received[name] += len(part)

        async def flood(name: str, priority: int) -> None:
            stream = await peer.open_stream("count", priority=priority)
            await stream.send_all(name.ljust(4).encode())
            while True:
                await stream.send_all(bytes(100_000))

        async with mesh.b.listen("count") as listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, count, [listener])
            nursery.start_soon(flood, "high", 7)
            nursery.start_soon(flood, "low", 0)
            await trio.sleep(6)
            nursery.cancel_scope.cancel()
        assert received["low"] > 10_000
        assert received["high"] > 5 * received["low"]


async def test_slow_reader_holds_the_writer(autojump_clock: trio.testing.MockClock) -> None:
    config = NodeConfig(stream_window=1 << 16, session_window=1 << 20)
    async with open_mesh(config=config) as mesh:
        async with stream_pair(mesh.a, mesh.b) as (near, far):
            sent = 0
            with trio.move_on_after(30):
                while True:
                    await near.send_all(bytes(10_000))
                    sent += 10_000
            # the window, and what the sending side buffers
            assert sent < (1 << 16) + (600 << 10)
            (live,) = (s for s in engine(mesh.b).all_live() if s.peer.peer_id == mesh.a.peer_id)
            (receive,) = live.session.streams.receiving.values()
            assert receive.next - receive.consumed <= 1 << 16
            with trio.fail_after(10):
                got = 0
                while got < sent:
                    got += len(await far.receive_some())
            # other streams are not held up by one that nobody reads
            async with echoing(mesh.b):
                with trio.move_on_after(5):
                    await near.send_all(bytes(1 << 20))
                await round_trip(await connect(mesh.a, mesh.b), bytes(100_000))


async def test_limit_on_streams_makes_open_stream_wait(autojump_clock: trio.testing.MockClock) -> None:
    async with open_mesh(config=NodeConfig(max_streams=8)) as mesh:
        peer = await connect(mesh.a, mesh.b)
        async with echoing(mesh.b):
            streams = []
            for _ in range(8):
                stream = await peer.open_stream("echo")
                await stream.send_all(b"x")
                streams.append(stream)
            with trio.move_on_after(5) as scope:
                await peer.open_stream("echo")
            assert scope.cancelled_caught
            # one place is enough, also over and over while the others stay
            for _ in range(20):
                with trio.fail_after(5):
                    await streams.pop().aclose()
                    stream = await peer.open_stream("echo")
                    await stream.send_all(b"x")
                    assert await stream.receive_some() == b"x"
                    streams.append(stream)
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(round_trip, peer, bytes(number * 100))
                for stream in streams:
                    await stream.aclose()
        await settle()
        assert_no_streams(mesh.a, mesh.b)


async def test_listening_by_hand(mesh: Mesh, autojump_clock: trio.testing.MockClock) -> None:
    async with mesh.b.listen("echo") as listener, trio.open_nursery() as nursery:
        peer = await connect(mesh.a, mesh.b)
        near = await peer.open_stream("echo")
        far = await listener.accept()
        assert far.peer_id == mesh.a.peer_id
        assert far.service == near.service == "echo"
        assert far.peer.connected
        assert "echo" in repr(far)
        nursery.start_soon(echo, far)
        await near.send_all(b"1")
        assert await near.receive_some() == b"1"
        await near.aclose()
