"""Hosts and sockets, as a node sees them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from netmesh_trio.addresses import Address
from netmesh_trio.errors import AddressError, BindError
from netmesh_trio.testing import VirtualInternet, VirtualUdpSocket


async def receive(socket: VirtualUdpSocket) -> tuple[bytes, Address] | None:
    with trio.move_on_after(10):
        while (received := socket.receive_nowait()) is None:
            await socket.wait_readable()
        return bytes(received[0]), received[2]
    return None


async def test_bind() -> None:
    net = VirtualInternet()
    host = net.host("a", "203.0.113.1", "2001:db8:0::1")
    assert host.interface_addresses() == ["203.0.113.1", "2001:db8::1"]
    everywhere = await host.bind("0.0.0.0", 4000)
    assert everywhere.address == ("0.0.0.0", 4000)
    for taken in ("203.0.113.1", "127.0.0.1", "0.0.0.0"):
        with pytest.raises(BindError, match="in use"):
            await host.bind(taken, 4000)
    six = await host.bind("::", 4000)
    one = await host.bind("203.0.113.1", 4001)
    with pytest.raises(BindError, match="in use"):
        await host.bind("0.0.0.0", 4001)
    await host.bind("127.0.0.1", 4001)
    with pytest.raises(BindError, match="is not an address of a"):
        await host.bind("203.0.113.2", 0)
    with pytest.raises(BindError, match="not a numeric address"):
        await host.bind("localhost", 0)
    with pytest.raises(BindError, match="not a port"):
        await host.bind("0.0.0.0", 65536)
    ports = {(await host.bind("0.0.0.0", 0)).address.port for _ in range(50)}
    assert len(ports) == 50
    for socket in (everywhere, six, one):
        socket.close()
        again = await host.bind(*socket.address)
        assert again.address == socket.address


async def test_resolve() -> None:
    net = VirtualInternet()
    host = net.host("a")
    net.dns["relay.example"] = ["203.0.113.9", "2001:db8:0::9"]
    assert await host.resolve("relay.example", 5) == [
        Address("203.0.113.9", 5),
        Address("2001:db8::9", 5),
    ]
    assert await host.resolve("192.0.2.1", 5) == [Address("192.0.2.1", 5)]
    with pytest.raises(AddressError, match="does not resolve"):
        await host.resolve("nobody.example", 5)


async def test_every_async_call_is_a_checkpoint(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        host = net.host("a")
        with trio.testing.assert_checkpoints():
            socket = await host.bind("0.0.0.0", 1)
        with trio.testing.assert_checkpoints():
            await host.resolve(host.address, 1)
        socket.send([b"x"], 64, Address(host.address, 1))
        with trio.testing.assert_checkpoints():
            await socket.wait_readable()


async def test_loopback_and_own_address(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        host = net.host("a")
        first, second = await host.bind("0.0.0.0", 1), await host.bind("127.0.0.1", 2)
        first.send([b"x"], 64, Address("127.0.0.1", 2))
        assert await receive(second) == (b"x", Address("127.0.0.1", 1))
        second.send([b"y"], 64, Address("127.0.0.1", 1))
        assert await receive(first) == (b"y", Address("127.0.0.1", 2))
        first.send([b"z"], 64, Address(host.address, 1))
        assert await receive(first) == (b"z", Address(host.address, 1))
        # Loopback leads nowhere else.
        second.send([b"?"], 64, Address("203.0.113.200", 2))
        assert second.stats.unroutable == 1


async def test_families_do_not_mix(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        host = net.host("a")
        socket = await host.bind("0.0.0.0", 1)
        socket.send([b"?"], 64, Address("2001:db8::9", 1))
        assert socket.stats.unroutable == 1
        assert socket.stats.sent == 0


async def test_trains_arrive_whole(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=44) as net:
        a, b = net.host("a", behind="symmetric"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        left.send([b"abcd", b"efgh", b"ij"], 4, Address(b.address, 1))
        await right.wait_readable()
        received = right.receive_nowait()
        assert received is not None
        assert bytes(received[0]) == b"abcdefghij"
        assert received[1] == 4
        assert right.stats.received == 3
        assert right.stats.received_bytes == 10
        left.send([bytes(45)], 1, Address(b.address, 1))  # more than one batch holds: it goes in two
        await right.wait_readable()
        first = right.receive_nowait()
        assert first is not None
        assert len(first[0]) == 44
        await right.wait_readable()
        second = right.receive_nowait()
        assert second is not None
        assert len(second[0]) == 1
        with pytest.raises(ValueError, match="segments of 0"):
            left.send([b""], 0, Address(b.address, 1))


async def test_an_empty_datagram_arrives(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        left.send([], 64, Address(b.address, 1))
        assert await receive(right) == (b"", Address(a.address, 1))


async def test_a_full_receive_buffer_drops_and_counts(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(receive_buffer=10_280) as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        for _ in range(15):
            left.send([bytes(1000)], 1000, Address(b.address, 1))
        await trio.sleep(1)
        assert right.stats.received == 10
        assert right.stats.buffer_drops == b.statistics().buffer_drops == 5
        assert right.receive_nowait() is not None
        left.send([bytes(1000)], 1000, Address(b.address, 1))
        await trio.sleep(1)
        assert right.stats.received == 11


async def test_closing(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await right.wait_readable()

            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            right.close()
        right.close()
        with pytest.raises(trio.ClosedResourceError):
            right.receive_nowait()
        with pytest.raises(trio.ClosedResourceError):
            await right.wait_readable()
        right.send([b"x" * 65, b"y"], 64, left.address)
        assert right.stats.after_close == right.send_errors == 2
        left.send([b"x"], 64, Address(b.address, 1))
        await trio.sleep(1)
        assert b.statistics().no_socket == 1


async def test_kill_is_silent_and_frees_the_port(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        left.send([b"under way"], 64, Address(b.address, 1))
        net.kill(b)
        right.send([b"from the dead"], 64, Address(a.address, 1))
        assert await receive(left) is None
        assert await receive(right) is None
        successor = await b.bind("0.0.0.0", 1)
        right.close()
        left.send([b"anybody?"], 64, Address(b.address, 1))
        assert await receive(successor) == (b"anybody?", Address(a.address, 1))


async def test_roaming_keeps_wildcard_sockets(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        home, cafe = net.nat("home", "full-cone"), net.nat("cafe", "full-cone")
        a, b = home.host("a"), net.host("b")
        wildcard, fixed = await a.bind("0.0.0.0", 1), await a.bind(a.address, 2)
        right = await b.bind("0.0.0.0", 1)
        wildcard.send([b"1"], 64, Address(b.address, 1))
        first = await receive(right)
        assert first is not None
        assert first[1].host == home.address
        a.roam(cafe)
        wildcard.send([b"2"], 64, Address(b.address, 1))
        second = await receive(right)
        assert second is not None
        assert second[1].host == cafe.address
        fixed.send([b"3"], 64, Address(b.address, 1))
        assert fixed.stats.unroutable == 1
        right.send([b"old"], 64, first[1])
        assert await receive(wildcard) is None
        right.send([b"new"], 64, second[1])
        assert await receive(wildcard) == (b"new", Address(b.address, 1))
        a.roam(net, "203.0.113.200")
        wildcard.send([b"4"], 64, Address(b.address, 1))
        assert await receive(right) == (b"4", Address("203.0.113.200", 1))


async def test_two_interfaces(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        home = net.nat("home")
        a, near, far = net.host("a"), home.host("near"), net.host("far")
        second = a.add_interface(home)
        socket = await a.bind("0.0.0.0", 1)
        near_socket, far_socket = await near.bind("0.0.0.0", 1), await far.bind("0.0.0.0", 1)
        socket.send([b"x"], 64, Address(near.address, 1))
        (private,) = second.addresses
        assert await receive(near_socket) == (b"x", Address(private, 1))
        socket.send([b"y"], 64, Address(far.address, 1))
        assert await receive(far_socket) == (b"y", Address(a.address, 1))
        # Unplugged knowingly: the other way out takes over.
        a.interfaces[0].detach()
        socket.send([b"z"], 64, Address(far.address, 1))
        received = await receive(far_socket)
        assert received is not None
        assert received[1].host == home.address
