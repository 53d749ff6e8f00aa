"""The virtual internet as a whole."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from netmesh_trio.addresses import Address
from netmesh_trio.testing import (
    DROP,
    Host,
    LinkSettings,
    LogEntry,
    Packet,
    Verdict,
    VirtualInternet,
    VirtualUdpSocket,
)


async def received(socket: VirtualUdpSocket) -> list[bytes]:
    """What has come after a while."""
    await trio.sleep(2)
    found = []
    while (one := socket.receive_nowait()) is not None:
        found.append(bytes(one[0]))
    return found


async def chatter(host: Host, targets: list[Address]) -> None:
    socket = await host.bind("0.0.0.0", 1)
    for number in range(100):
        for target in targets:
            socket.send([bytes(100 + number)], 64, target)
        await trio.sleep(0.01)


async def run_and_log(seed: int) -> list[LogEntry]:
    rough = LinkSettings(delay=0.01, jitter=0.02, loss=0.05, duplicate=0.05, reorder=0.05, rate=15_000, queue=1_000)
    async with VirtualInternet(seed=seed, segments=8, log_limit=10**6) as net:
        public = net.host("p", link=rough)
        hosts = [net.host(kind, behind=kind, link=rough) for kind in ("symmetric", "double")]
        async with trio.open_nursery() as nursery:
            for host in (public, *hosts):
                nursery.start_soon(chatter, host, [Address(public.address, 1)])
        return list(net.log)


def test_the_same_seed_gives_the_same_trace() -> None:
    logs = [trio.run(run_and_log, seed, clock=trio.testing.MockClock(autojump_threshold=0)) for seed in (1, 1, 1, 2)]
    # Two hosts that send at one instant may do so in any order.
    traces = [sorted(log, key=lambda entry: (entry.time, entry.where, entry.what)) for log in logs]
    assert len(traces[0]) > 500
    assert {entry.what for entry in logs[0]} >= {"sent", "delivered", "lost", "queue"}
    assert traces[0] == traces[1] == traces[2]
    assert traces[0] != traces[3]


async def test_ten_minutes_pass_in_a_moment(autojump_clock: trio.abc.Clock) -> None:
    started = time.perf_counter()
    async with VirtualInternet() as net:
        a, b = net.host("a", behind="port-restricted"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        for _ in range(600):
            left.send([b"still here"], 64, Address(b.address, 1))
            await trio.sleep(1)
        assert right.stats.received == 600
    assert time.perf_counter() - started < 1


async def test_the_real_clock_will_do() -> None:
    async with VirtualInternet(delay=0.001) as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        left.send([b"x"], 64, Address(b.address, 1))
        with trio.fail_after(5):
            await right.wait_readable()


async def test_a_nearer_delivery_cuts_the_wait_short(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(delay=0) as net:
        a, b, c = net.host("a", link=LinkSettings(delay=10)), net.host("b"), net.host("c")
        c.link.delay = 1
        socket = await b.bind("0.0.0.0", 1)
        there = Address(b.address, 1)
        start = trio.current_time()
        (await a.bind("0.0.0.0", 1)).send([b"slow"], 64, there)
        await trio.sleep(0.5)
        (await c.bind("0.0.0.0", 1)).send([b"fast"], 64, there)
        await socket.wait_readable()
        assert trio.current_time() - start == pytest.approx(1.5)
        assert net.under_way == 1


async def test_block(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)

        async def outcome() -> tuple[list[bytes], list[bytes]]:
            left.send([b">"], 64, Address(b.address, 1))
            right.send([b"<"], 64, Address(a.address, 1))
            return await received(left), await received(right)

        net.block(a, b)
        assert await outcome() == ([], [])
        assert not net.direct_path_possible(a, b)
        net.unblock(a, b)
        assert await outcome() == ([b"<"], [b">"])
        net.block(a, b, one_way=True)
        assert await outcome() == ([b"<"], [])
        assert b.statistics().blocked == 2


async def test_the_hook_sees_and_decides(autojump_clock: trio.abc.Clock) -> None:
    seen: list[Packet] = []
    verdicts = {
        b"drop": DROP,
        b"late": Verdict(delay=0.5),
        b"twice": Verdict(copies=2),
        b"forge": Verdict(data=b"a longer payload"),
    }

    def hook(packet: Packet) -> Verdict | None:
        seen.append(packet)
        return verdicts.get(packet.data)

    async with VirtualInternet(segments=44) as net:
        a, b = net.host("a", behind="symmetric"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        there = Address(b.address, 1)
        net.on_packet = hook
        for payload in (b"late", b"drop", b"twice", b"forge"):
            left.send([payload], 64, there)
        left.send([b"onetwo"], 3, there)
        assert await received(right) == [
            b"twice",
            b"twice",
            b"a longer payload",
            b"one",
            b"two",
            b"late",
        ]
        assert [packet.data for packet in seen][-2:] == [b"one", b"two"]
        assert seen[0].origin == "a"
        assert seen[0].source == Address(a.address, 1)
        assert seen[0].destination == there
        net.on_packet = None
        left.send([b"drop"], 64, there)
        assert await received(right) == [b"drop"]


async def test_inject_lies_about_the_source(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        b = net.host("b")
        socket = await b.bind("0.0.0.0", 1)
        liar = Address("192.0.2.66", 6)
        net.inject(b"trust me", liar, Address(b.address, 1))
        await socket.wait_readable()
        one = socket.receive_nowait()
        assert one is not None
        assert one[2] == liar


async def test_the_log_is_bounded(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(log_limit=10) as net:
        a = net.host("a")
        socket = await a.bind("0.0.0.0", 1)
        for _ in range(50):
            socket.send([b"x"], 64, Address("192.0.2.1", 1))
        await trio.sleep(1)
        assert len(net.log) == 10
        assert net.log[-1].what == "unroutable"
        assert net.unroutable == 50


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with VirtualInternet():
            raise KeyError


async def test_cancelling_the_body_leaves_the_block(autojump_clock: trio.abc.Clock) -> None:
    with trio.move_on_after(3) as scope:
        async with VirtualInternet() as net:
            a = net.host("a")
            (await a.bind("0.0.0.0", 1)).send([b"x"], 64, Address("192.0.2.1", 1))
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_after_the_block_nothing_moves(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        a, b = net.host("a"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        left.send([b"x"], 64, Address(b.address, 1))
    assert net.under_way == 0
    left.send([b"x"], 64, Address(b.address, 1))
    assert await received(right) == []
    with pytest.raises(RuntimeError, match="runs once"):
        await net.__aenter__()


async def test_ipv6_makes_a_path_where_ipv4_does_not(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        homes = [net.nat(name, "symmetric") for name in ("one", "two")]
        a, b = [home.host(f"{home.name}.host") for home in homes]
        assert not net.direct_path_possible(a, b)
        a.interfaces[0].attach(homes[0].realm, "2001:db8::a")
        b.interfaces[0].attach(homes[1].realm, "2001:db8::b")
        assert net.direct_path_possible(a, b)


def test_addresses_do_not_run_out_soon() -> None:
    net = VirtualInternet()
    addresses = {net.host(f"h{number}").address for number in range(2000)}
    assert len(addresses) == 2000
    assert not any(Address(address, 1).is_private for address in addresses)


def test_what_makes_no_sense_is_refused() -> None:
    net = VirtualInternet()
    net.host("a", "203.0.113.5")
    with pytest.raises(ValueError, match="there is a host 'a' already"):
        net.host("a")
    with pytest.raises(ValueError, match="in use"):
        net.host("b", "203.0.113.5")
    with pytest.raises(ValueError, match="no kind of NAT"):
        net.host("c", behind="cone")
    with pytest.raises(ValueError):
        net.host("d", "relay.example")
    with pytest.raises(ValueError, match="at least 1"):
        VirtualInternet(segments=0)
    with pytest.raises(ValueError, match="resolution is -1"):
        VirtualInternet(resolution=-1)
