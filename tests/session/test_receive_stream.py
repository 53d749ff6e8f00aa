"""The receiving half of a stream."""

from __future__ import annotations

import pytest

import netmesh_trio
from netmesh_trio import Identity, open_node
from netmesh_trio.session.receive_stream import ReceiveStream


@pytest.mark.parametrize("data", [b"", b"some"])
def test_a_reset_is_not_an_end(data: bytes) -> None:
    stream = ReceiveStream(0, 1000)
    stream.push(0, data, 0, len(data), False)
    assert stream.read(1000) == data
    stream.reset(7, len(data))
    assert stream.reset_code == 7
    assert not stream.at_end
    assert stream.readable
    assert stream.complete


async def test_a_reset_with_nothing_left_unread_breaks_the_stream() -> None:
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as b,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as a,
        b.listen("x") as listener,
    ):
        peer = await a.connect(b.addresses[0])
        stream = await peer.open_stream("x")
        await stream.send_all(b"?")
        other_end = await listener.accept()
        assert await other_end.receive_some() == b"?"
        await other_end.send_all(b"!")
        assert await stream.receive_some() == b"!"
        other_end.reset(7)
        with pytest.raises(netmesh_trio.StreamResetError) as caught:
            await stream.receive_some()
        assert caught.value.code == 7
