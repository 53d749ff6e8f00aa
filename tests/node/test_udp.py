"""Sockets of the kernel, on loopback."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any, NoReturn

import ifaddr
import pytest
import trio
import trio.lowlevel
import trio.testing

from netmesh_trio.addresses import Address
from netmesh_trio.errors import AddressError, BindError
from netmesh_trio.node import udp
from netmesh_trio.node.udp import KernelNetwork, KernelUdpSocket
from netmesh_trio.traversal.portmap.mapping import Gateway
from netmesh_trio.traversal.source import ANYWHERE

linux = pytest.mark.skipif(sys.platform != "linux", reason="UDP_SEGMENT and UDP_GRO are Linux's")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HOSTS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]


@pytest.fixture
async def bind() -> AsyncGenerator[Callable[..., Any], None]:
    made: list[KernelUdpSocket] = []

    async def make(host: str = "127.0.0.1", port: int = 0) -> KernelUdpSocket:
        made.append(await KernelNetwork().bind(host, port))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.close()


async def receive(sock: KernelUdpSocket, count: int) -> list[bytes]:
    """``count`` datagrams, or what came within a second."""
    got: list[bytes] = []
    with trio.move_on_after(1):
        while len(got) < count:
            received = sock.receive_nowait()
            if received is None:
                await sock.wait_readable()
                continue
            view, stride, source = received
            assert isinstance(source, Address)
            got += [bytes(view[at : at + stride]) for at in range(0, len(view), stride)]
    return got


class Fake:
    """A socket that does what the test says where it says something."""

    def __init__(self, sock: socket.socket, **replaced: Callable[..., Any]) -> None:
        self._sock = sock
        self._replaced = replaced
        self.family = sock.family

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._sock, name)


def fails(number: int, times: int = 1 << 30) -> Callable[..., Any]:
    left = [times]

    def fail(*args: object) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(number, "said the test")

    return fail


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("segments", [64, 1])
async def test_a_batch_arrives_in_order_and_whole(bind: Any, host: str, segments: int) -> None:
    a, b = await bind(host), await bind(host)
    a.max_segments = min(a.max_segments, segments)
    data = [bytes((i,)) * 1200 for i in range(40)] + [b"the rest"]
    a.send(data, 1200, b.address)
    assert await receive(b, 41) == data
    a.send([b"one"], 1200, b.address)
    a.send([b"x" * 1200 + b"y"], 1200, b.address)
    a.send([b"ab", b"c" * 8, memoryview(b"de")], 5, b.address)
    assert await receive(b, 6) == [b"one", b"x" * 1200, b"y", b"abccc", b"ccccc", b"de"]
    assert a.send_errors == 0
    assert b.receive_nowait() is None


@linux
async def test_batches_are_used_where_the_kernel_can(bind: Any) -> None:
    sock = await bind()
    assert sock.max_segments == 64
    assert sock._gro


async def test_without_segmentation_everything_goes_singly(bind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(socket.socket):
        def setsockopt(self, level: int, option: int, value: Any, *rest: Any) -> None:
            if level == 17:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            super().setsockopt(level, option, value, *rest)

    monkeypatch.setattr(socket, "socket", Old)
    a, b = await bind(), await bind()
    assert a.max_segments == 1
    assert not b._gro
    data = [bytes((i,)) * 100 for i in range(10)]
    a.send(data, 100, b.address)
    assert await receive(b, 10) == data


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
async def test_a_device_that_refuses_batches_gets_single_datagrams(bind: Any, number: int) -> None:
    a, b = await bind(), await bind()
    a.max_segments = 64
    calls = []

    def sendmsg(*args: object) -> None:
        calls.append(args)
        raise OSError(number, "said the test")

    a._sock = Fake(a._sock, sendmsg=sendmsg)
    for _ in range(3):
        a.send([b"a" * 10, b"b" * 10, b"c"], 10, b.address)
    assert await receive(b, 9) == [b"a" * 10, b"b" * 10, b"c"] * 3
    assert len(calls) == 1
    assert a.send_errors == 0


async def test_a_batch_of_too_large_datagrams_does_not_end_batches(bind: Any) -> None:
    a, b = await bind(), await bind()
    a.max_segments = 64
    real = a._sock
    a._sock = Fake(real, sendmsg=fails(errno.EINVAL, 1), sendto=fails(errno.EMSGSIZE, 1))
    a.send([b"a" * 10, b"b" * 10], 10, b.address)
    assert a.send_errors == 2
    assert b.address not in a._single


@pytest.mark.parametrize(
    "number",
    [errno.EMSGSIZE, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EPERM, errno.ENOBUFS],
)
@pytest.mark.parametrize("pieces", [[b"x"], [b"x" * 10, b"y"]])
async def test_what_the_network_refuses_is_lost_and_counted(bind: Any, number: int, pieces: list[bytes]) -> None:
    a, b = await bind(), await bind()
    real = a._sock
    a._sock = Fake(real, sendto=fails(number), sendmsg=fails(number))
    a.send(pieces, 10, b.address)
    assert a.send_errors == len(pieces)
    a._sock = real
    a.send(pieces, 10, b.address)
    assert await receive(b, len(pieces)) == pieces


async def test_a_closed_port_and_an_oversize_datagram_do_no_harm(bind: Any) -> None:
    a, b, gone = await bind(), await bind(), await bind()
    where = gone.address
    gone.close()
    for _ in range(3):
        a.send([b"x"], 1200, where)
        await trio.lowlevel.checkpoint()
        a.receive_nowait()
    a.send([bytes(70_000)], 70_000, b.address)
    assert a.send_errors >= 1
    a.send([b"hello"], 1200, b.address)
    assert await receive(b, 1) == [b"hello"]


async def test_a_pending_error_is_read_over(bind: Any) -> None:
    a, b = await bind(), await bind()
    real = b._sock
    left = [2]

    def recvmsg_into(*args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ECONNREFUSED, "said the test")
        return real.recvmsg_into(*args)

    b._sock = Fake(real, recvmsg_into=recvmsg_into, recvfrom_into=recvmsg_into)
    a.send([b"hello"], 1200, b.address)
    b._gro = True
    await trio.lowlevel.wait_readable(real)
    received = b.receive_nowait()
    assert received is not None
    assert bytes(received[0]) == b"hello"


async def test_lost_datagrams_are_counted_and_not_batches(bind: Any) -> None:
    a, b = await bind(), await bind()
    real = a._sock
    budget = [3]

    def sendto(*args: Any) -> int:
        budget[0] -= 1
        if budget[0] < 0:
            raise OSError(errno.ENETUNREACH, "said the test")
        return int(real.sendto(*args))

    a._sock = Fake(real, sendto=sendto, sendmsg=fails(errno.ENETUNREACH))
    a.max_segments = 64
    a.send([bytes(6300), b"x"], 100, b.address)
    assert a.send_errors == 64
    a.max_segments = 1
    a.send([bytes(1000)], 100, b.address)  # three of ten go out
    assert a.send_errors == 64 + 7
    assert await receive(b, 3) == [bytes(100)] * 3


@pytest.mark.parametrize("gro", [False, True])
async def test_an_error_that_stays_ends_reading(bind: Any, gro: bool) -> None:
    a = await bind()
    calls = []

    def of(number: int) -> Fake:
        def fail(*args: object) -> None:
            calls.append(args)
            raise OSError(number, "said the test")

        return Fake(real, recvmsg_into=fail, recvfrom_into=fail)

    real = a._sock
    a._gro = gro
    a._sock = of(errno.ENETDOWN)
    assert a.receive_nowait() is None
    assert 2 <= len(calls) <= 1000
    for number in (errno.EBADF, errno.ENOTSOCK):
        a._sock = of(number)
        with pytest.raises(OSError) as caught:
            a.receive_nowait()
        assert caught.value.errno == number
    a._sock = real


async def test_a_closed_socket_loses_what_is_sent_and_tells_who_reads(bind: Any) -> None:
    a, b = await bind(), await bind()
    a.close()
    a.send([b"x" * 10, b"y"], 10, b.address)
    assert a.send_errors == 2
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        a.receive_nowait()
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        await a.wait_readable()


async def test_what_a_full_buffer_refuses_goes_out_later_and_in_order(bind: Any) -> None:
    a, b = await bind(), await bind()
    a.max_segments = 1
    full = [True]
    real = a._sock
    budget = [3]

    def sendto(*args: Any) -> int:
        if full[0] and budget[0] <= 0:
            raise BlockingIOError
        budget[0] -= 1
        return int(real.sendto(*args))

    a._sock = Fake(real, sendto=sendto, fileno=real.fileno)
    a.send([b"0", b"1", b"2", b"3", b"4"], 1, b.address)
    a.send([b"5"], 1, b.address)
    a.send([b"6", b"7"], 1, b.address)
    assert await receive(b, 3) == [b"0", b"1", b"2"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.run_sender)
        await trio.lowlevel.checkpoint()
        budget[0] = 2
        assert await receive(b, 2) == [b"3", b"4"]
        full[0] = False
        assert await receive(b, 3) == [b"5", b"6", b"7"]
        a.send([b"8"], 1, b.address)
        assert await receive(b, 1) == [b"8"]
        nursery.cancel_scope.cancel()
    assert a.send_errors == 0


async def test_the_queue_is_bounded(bind: Any) -> None:
    a, b = await bind(), await bind()
    a._sock = Fake(a._sock, sendto=fails(errno.EAGAIN))
    for _ in range(300):
        a.send([b"x"], 10, b.address)
    assert len(a._queue) == 256
    assert a.send_errors == 44


@pytest.mark.parametrize("host", HOSTS)
async def test_a_port_in_use_is_said(bind: Any, host: str) -> None:
    a = await bind(host)
    with pytest.raises(BindError, match="another program") as caught:
        await bind(host, a.address.port)
    assert caught.value.errno == errno.EADDRINUSE


async def test_somebody_elses_address_is_said(bind: Any) -> None:
    with pytest.raises(BindError, match=r"not an address of this host; 0\.0\.0\.0"):
        await bind("192.0.2.1")


class Names(trio.abc.HostnameResolver):
    """Has each name stand for these addresses, the first one of which is not this host's."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (each, port)) for each in self.hosts]

    async def getnameinfo(self, sockaddr: object, flags: int) -> NoReturn:
        raise NotImplementedError


async def test_of_a_name_the_first_address_that_is_there_is_bound(bind: Any) -> None:
    """As "localhost" stands for ::1 also where there is no IPv6."""
    trio.socket.set_custom_hostname_resolver(Names("203.0.113.1", "127.0.0.1"))
    assert (await bind("name")).address.host == "127.0.0.1"
    trio.socket.set_custom_hostname_resolver(Names("203.0.113.1", "203.0.113.2"))
    with pytest.raises(BindError, match=r"203\.0\.113\.1:0: it is not an address of this host"):
        await bind("name")


async def test_a_name_that_does_not_resolve_is_said(bind: Any) -> None:
    with pytest.raises(AddressError, match="cannot resolve"):
        await KernelNetwork().resolve("no such name.invalid", 1)
    with pytest.raises(AddressError, match="cannot resolve"):
        await KernelNetwork().resolve("x" * 70 + ".invalid", 1)


async def test_closing_wakes_who_waits_and_may_be_repeated(bind: Any) -> None:
    a = await bind()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await a.wait_readable()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        a.close()
    a.close()


async def test_interfaces_include_loopback_last() -> None:
    found = KernelNetwork().interface_addresses()
    assert "127.0.0.1" in found
    loopback = [Address(host, 0).is_loopback for host in found]
    assert loopback == sorted(loopback)


async def test_the_address_that_packets_leave_from_is_first_of_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ["2001:470::1", "::1", "192.0.2.7", "2001:470::2", "127.0.0.1", "192.0.2.8"]
    ips = [SimpleNamespace(ip=(host, 0, 0) if ":" in host else host) for host in hosts]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [SimpleNamespace(ips=ips)])
    for source, six in (("2001:470::2", ["2001:470::2", "2001:470::1"]), (None, ["2001:470::1", "2001:470::2"])):
        monkeypatch.setattr(udp, "source_towards", {ANYWHERE[6]: source}.get)
        found = KernelNetwork().interface_addresses()
        assert found == ["192.0.2.7", "192.0.2.8", *six, "127.0.0.1", "::1"]


async def test_no_file_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs another socket does without; what has one goes on."""
    network = KernelNetwork()
    known = network.interface_addresses()
    assert known

    def none_left(*_: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    monkeypatch.setattr(ifaddr, "get_adapters", none_left)
    assert network.interface_addresses() == known
    with pytest.raises(BindError, match="ulimit"):
        await network.bind("127.0.0.1", 0)
    with pytest.raises(BindError, match="ulimit"):
        await network.join("224.0.0.1", 5350, Gateway("192.0.2.1", "192.0.2.2", 1))
