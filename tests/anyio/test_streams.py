"""Streams as anyio's byte streams, on both backends."""

from __future__ import annotations

import array
import ssl

import anyio
import anyio.abc
import pytest
import trustme
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSAttribute, TLSStream

from netmesh_trio import NodeConfig, PathKind, ServiceNotFoundError, SessionClosedError, StreamResetError
from netmesh_trio.anyio import MeshAttribute, Stream
from tests.anyio.backends import both_backends, echo, receive_all, send_for_ever, stream_pair, two_nodes


@both_backends
async def test_bytes_both_ways() -> None:
    async with stream_pair() as (near, far):
        assert isinstance(near, anyio.abc.ByteStream)
        await near.send(b"hello")
        assert await far.receive() == b"hello"
        await far.send(b"abcdef")
        assert await near.receive(2) == b"ab"
        assert await near.receive(100) == b"cdef"
        await near.send_eof()
        await near.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await far.receive()
        with pytest.raises(anyio.EndOfStream):
            await far.receive()
        await far.send(b"still")
        assert await near.receive() == b"still"
        with pytest.raises(anyio.ClosedResourceError):
            await near.send(b"more")


@both_backends
async def test_much_data_both_ways_at_once() -> None:
    async with stream_pair(NodeConfig(stream_window=1 << 16)) as (near, far):
        data = bytes(range(256)) * 12_000
        got: list[bytes] = []

        async def read(stream: anyio.abc.ByteStream) -> None:
            got.append(b"".join([part async for part in stream]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, near)
            tasks.start_soon(read, far)
            for stream in (near, far):

                async def write(stream: anyio.abc.ByteStream = stream) -> None:
                    await stream.send(data)
                    await stream.send_eof()

                tasks.start_soon(write)
        assert got == [data, data]


@both_backends
async def test_a_sender_waits_for_the_reader() -> None:
    """What is taken over without being read is bounded."""
    async with stream_pair(NodeConfig(stream_window=1 << 16, session_window=1 << 16)) as (near, far):
        sent = 0

        async def write() -> None:
            nonlocal sent
            while True:
                await near.send(bytes(65536))
                sent += 65536

        with anyio.move_on_after(0.5):
            await write()
        assert 0 < sent < 4_000_000
        await near.aclose()
        # closed in the middle: what was taken over arrives all the same
        got = len(await receive_all(far))
        assert sent <= got <= sent + 65536


@both_backends
async def test_reading_ahead_is_bounded() -> None:
    """A reader that stops reading stops the peer, too."""
    async with stream_pair(NodeConfig(stream_window=1 << 16, session_window=1 << 16)) as (near, far):
        sent = 0

        async def write() -> None:
            nonlocal sent
            while True:
                await near.send(bytes(65536))
                sent += 65536

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await far.receive(1)
            before = -1
            while before != sent < 6_000_000:  # until nothing more is taken over, however slow the machine
                before = sent
                await anyio.sleep(0.3)
            assert sent == before < 6_000_000
            got = 1
            while got < before + 1_000_000:  # and goes on when it reads again
                got += len(await far.receive())
            tasks.cancel_scope.cancel()


@both_backends
async def test_wrong_sizes() -> None:
    async with stream_pair() as (near, far):
        with pytest.raises(ValueError, match="at least 1"):
            await near.receive(0)
        await near.send(b"")
        await near.send(b"x")
        assert await far.receive() == b"x"


@both_backends
async def test_only_bytes_are_sent_and_all_of_them() -> None:
    async with stream_pair() as (near, far):
        for wrong in ("text", "eof", None, [1]):
            with pytest.raises(TypeError, match="can be sent"):
                await near.send(wrong)  # type: ignore[arg-type]
        wide = array.array("i", range(50_000))
        got = bytearray()
        async with anyio.create_task_group() as group:
            group.start_soon(near.send, memoryview(wide))  # type: ignore[arg-type]
            while len(got) < len(wide.tobytes()):
                got += await far.receive()
        assert got == wide.tobytes()


@both_backends
async def test_closing() -> None:
    async with stream_pair() as (near, far):
        await near.send(b"last words")
        await near.aclose()
        await near.aclose()
        for call in (near.receive, near.send_eof, lambda: near.send(b"x")):
            with pytest.raises(anyio.ClosedResourceError):
                await call()
        assert await receive_all(far) == b"last words"
        # what is sent to who closed breaks as soon as that is known
        with pytest.raises(StreamResetError) as caught:
            await send_for_ever(far)
        assert isinstance(caught.value, anyio.BrokenResourceError)


@both_backends
async def test_closing_wakes_who_waits() -> None:
    async with stream_pair(NodeConfig(stream_window=1 << 12, session_window=1 << 12)) as (near, _):
        woken = 0

        async def receive() -> None:
            nonlocal woken
            with pytest.raises(anyio.ClosedResourceError):
                await near.receive()
            woken += 1

        async def send() -> None:
            nonlocal woken
            with pytest.raises(anyio.ClosedResourceError):
                await near.send(bytes(20_000_000))
            woken += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            await near.aclose()
        assert woken == 2


@both_backends
async def test_a_close_waits_for_nobody() -> None:
    """Both ends send and read nothing: closing one of them tells the other, although nothing can move."""
    async with stream_pair(NodeConfig(stream_window=1 << 12, session_window=1 << 16)) as (near, far):
        with anyio.move_on_after(0.2):
            await near.send(bytes(20_000_000))
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                with pytest.raises(StreamResetError):
                    await far.send(bytes(20_000_000))

            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            await near.aclose()


@both_backends
async def test_reset() -> None:
    async with stream_pair() as (near, far):
        with pytest.raises(ValueError, match="code"):
            near.reset(-1)
        near.reset(77)
        with pytest.raises(anyio.ClosedResourceError):
            await near.receive()
        with pytest.raises(StreamResetError) as caught:
            await far.receive()
        assert caught.value.code == 77
        assert isinstance(caught.value, anyio.BrokenResourceError)
        with pytest.raises(StreamResetError):  # every time
            await far.receive()


@both_backends
async def test_busy() -> None:
    async with stream_pair(NodeConfig(stream_window=1 << 12, session_window=1 << 12)) as (near, _):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(near.receive)
            tasks.start_soon(near.send, bytes(20_000_000))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError, match="receiving"):
                await near.receive()
            with pytest.raises(anyio.BusyResourceError, match="sending"):
                await near.send(b"x")
            with pytest.raises(anyio.BusyResourceError, match="sending"):
                await near.send_eof()
            tasks.cancel_scope.cancel()


@both_backends
async def test_a_service_that_nobody_serves() -> None:
    async with two_nodes() as (_, _, peer):
        with pytest.raises(ServiceNotFoundError) as caught:
            await peer.open_stream("nothing")
        assert caught.value.service == "nothing"
        assert isinstance(caught.value, anyio.BrokenResourceError)


@both_backends
async def test_the_end_of_the_session() -> None:
    async with stream_pair() as (near, far):
        await near.peer.aclose()
        for stream in (near, far):
            with pytest.raises(SessionClosedError) as caught:
                await stream.receive()
            assert isinstance(caught.value, anyio.BrokenResourceError)
            with pytest.raises(SessionClosedError):
                await send_for_ever(stream)


@both_backends
async def test_what_a_stream_tells_about_itself() -> None:
    async with two_nodes() as (a, b, peer), b.listen("about") as listener:
        stream = await peer.open_stream("about")
        far = await listener.accept()
        async with stream, far:
            assert stream.service == far.service == "about"
            assert stream.peer == peer
            assert hash(stream.peer) == hash(peer)
            assert stream.peer != far.peer
            assert (stream.peer_id, far.peer_id) == (b.peer_id, a.peer_id)
            assert stream.extra(MeshAttribute.peer_id) == b.peer_id
            assert stream.extra(MeshAttribute.local_peer_id) == a.peer_id
            assert stream.extra(MeshAttribute.service) == "about"
            path = stream.extra(MeshAttribute.path)
            assert path is not None
            assert path.kind is PathKind.DIRECT
            assert path.addr is not None
            where = (path.addr.host, path.addr.port)
            assert stream.extra(anyio.abc.SocketAttribute.remote_address) == where
            await peer.aclose()
            assert stream.extra(MeshAttribute.path) is None
            assert stream.extra(anyio.abc.SocketAttribute.remote_address, None) is None
            with pytest.raises(anyio.TypedAttributeLookupError):
                stream.extra(anyio.abc.SocketAttribute.remote_address)
            assert b.peer_id.short in repr(stream)
            assert "about" in repr(stream)
            assert repr(peer) == f"<Peer {b.peer_id.short}, not connected>"


@both_backends
async def test_anyio_wrappers_take_them() -> None:
    async with two_nodes() as (_, b, peer), b.listen("echo") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with await peer.open_stream("echo") as stream:
            await stream.send(b"one line\nand more")
            buffered = BufferedByteReceiveStream(stream)
            assert await buffered.receive_until(b"\n", 100) == b"one line"
            assert await buffered.receive_exactly(8) == b"and more"
        tasks.cancel_scope.cancel()


@both_backends
async def test_tls_inside_a_stream() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("shout.example.org").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def shout(stream: Stream) -> None:
        async with await TLSStream.wrap(stream, ssl_context=server_context, server_side=True) as secured:
            async for part in secured:
                await secured.send(part.upper())

    async with two_nodes() as (_, b, peer), b.listen("shout") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, shout)
        stream = await peer.open_stream("shout")
        secured = await TLSStream.wrap(stream, hostname="shout.example.org", ssl_context=client_context)
        async with secured:
            await secured.send(b"hello")
            assert await secured.receive() == b"hello".upper()
            # what the stream below tells is told through it
            assert secured.extra(MeshAttribute.peer_id) == b.peer_id
            assert secured.extra(TLSAttribute.tls_version) == "TLSv1.3"
        tasks.cancel_scope.cancel()
