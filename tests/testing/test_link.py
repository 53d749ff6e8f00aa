"""Links: what they do to datagrams, in time and in number."""

from __future__ import annotations

import pytest
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.testing import Host, LinkSettings, VirtualInternet, VirtualUdpSocket


class Pair:
    """Two public hosts: a's link is under test, b's is perfect."""

    def __init__(self, net: VirtualInternet, link: LinkSettings) -> None:
        self.a = net.host("a", link=link)
        self.b = net.host("b", link=LinkSettings())

    async def bind(self) -> tuple[VirtualUdpSocket, VirtualUdpSocket, Address]:
        left, right = await self.a.bind("0.0.0.0", 1), await self.b.bind("0.0.0.0", 1)
        return left, right, Address(self.b.address, 1)


async def arrivals(socket: VirtualUdpSocket, patience: float = 5.0) -> list[tuple[float, bytes]]:
    """Everything that comes, with the seconds it took from now."""
    start = trio.current_time()
    found: list[tuple[float, bytes]] = []
    while True:
        with trio.move_on_after(patience) as scope:
            await socket.wait_readable()
        if scope.cancelled_caught:
            return found
        while (received := socket.receive_nowait()) is not None:
            found.append((trio.current_time() - start, bytes(received[0])))


async def test_delay(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        left, right, there = await Pair(net, LinkSettings(delay=0.05)).bind()
        left.send([b"x"], 64, there)
        ((taken, _),) = await arrivals(right)
        assert taken == pytest.approx(0.05)


async def test_public_hosts_and_nats_have_the_default_delay(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with VirtualInternet(delay=0.02, lan_delay=0.001) as net:
        a, b = net.host("a", behind="full-cone"), net.host("b")
        left, right = await a.bind("0.0.0.0", 1), await b.bind("0.0.0.0", 1)
        left.send([b"x"], 64, Address(b.address, 1))
        ((taken, _),) = await arrivals(right)
        assert taken == pytest.approx(0.001 + 0.02 + 0.02)


async def test_jitter_keeps_order(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        left, right, there = await Pair(net, LinkSettings(delay=0.01, jitter=0.1)).bind()
        for number in range(100):
            left.send([bytes([number])], 64, there)
        found = await arrivals(right)
        assert [data[0] for _, data in found] == list(range(100))
        assert found[0][0] >= 0.01
        assert 0.1 < found[-1][0] <= 0.11


@pytest.mark.parametrize("segments", [1, 44])
async def test_loss_is_of_single_datagrams_at_the_rate_said(segments: int, autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=segments) as net:
        pair = Pair(net, LinkSettings(loss=0.1))
        left, right, there = await pair.bind()
        sends = 20_000 // segments
        for _ in range(sends):
            left.send([b"x" * segments], 1, there)
        total = sends * segments
        lost = pair.a.link.outbound.statistics().lost
        # Five standard deviations of the binomial distribution.
        assert abs(lost - 0.1 * total) < 5 * (total * 0.1 * 0.9) ** 0.5
        assert sum(len(data) for _, data in await arrivals(right)) == total - lost


async def test_a_train_that_loses_datagrams_keeps_its_cut(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=44) as net:
        left, right, there = await Pair(net, LinkSettings(loss=0.3)).bind()
        pieces = [bytes([number]) * 10 for number in range(43)] + [b"\xff" * 3]
        for _ in range(50):
            left.send(pieces, 10, there)
        while (received := right.receive_nowait()) is not None:
            data, size, source = received
            assert size == 10
            assert source == Address("203.0.113.2", 1)
            cut = [bytes(data[at : at + size]) for at in range(0, len(data), size)]
            assert cut == [piece for piece in pieces if piece in cut]


async def test_duplicates(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        pair = Pair(net, LinkSettings(duplicate=1.0))
        left, right, there = await pair.bind()
        left.send([b"x"], 64, there)
        assert [data for _, data in await arrivals(right)] == [b"x", b"x"]
        assert pair.a.link.outbound.statistics().duplicated == 1


async def test_reordering_lets_later_ones_overtake(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=44) as net:
        pair = Pair(net, LinkSettings(delay=0.01, reorder=0.2, reorder_delay=0.02))
        left, right, there = await pair.bind()
        left.send([bytes(range(40))], 1, there)
        found = await arrivals(right)
        assert sorted(data[0] for _, data in found) == list(range(40))
        held = [data[0] for taken, data in found if taken > 0.02]
        assert len(held) == pair.a.link.outbound.statistics().reordered > 0
        assert [data[0] for taken, data in found if taken < 0.02] == [
            number for number in range(40) if number not in held
        ]


@pytest.mark.parametrize("segments", [1, 10])
async def test_rate(segments: int, autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=segments) as net:
        link = LinkSettings(rate=100_000, queue=10**9, delay=0.01)
        left, right, there = await Pair(net, link).bind()
        for _ in range(100 // segments):
            left.send([bytes(972 * segments)], 972, there)  # 1000 bytes with headers
        taken = [seconds for seconds, _ in await arrivals(right)]
        assert taken == pytest.approx([0.01 + 0.01 * number for number in range(1, 101)])


@pytest.mark.parametrize("segments", [1, 44])
async def test_resolution_gathers_what_leaves_a_link_with_a_rate(segments: int, autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=segments, resolution=0.0053) as net:
        left, right, there = await Pair(net, LinkSettings(rate=1_000_000, queue=10**9)).bind()
        for _ in range(88 // segments):
            left.send([bytes(972 * segments)], 972, there)  # 1 ms each
        found = await arrivals(right)
        assert sum(len(data) for _, data in found) == 88 * 972
        times = sorted({seconds for seconds, _ in found})
        assert times == pytest.approx([0.0053 * number for number in range(1, 18)])
        if segments > 1:
            assert len(found) == 18  # the end of one send and the start of the next are two


async def test_a_full_queue_drops_the_rest(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        pair = Pair(net, LinkSettings(rate=100_000, queue=5_000))
        left, right, there = await pair.bind()
        for _ in range(20):
            left.send([bytes(972)], 972, there)
        assert pair.a.link.outbound.queued == pytest.approx(5_000)
        assert pair.a.link.outbound.statistics().queue_drops == 15
        found = await arrivals(right)
        assert found[-1][0] == pytest.approx(0.05)
        assert pair.a.link.outbound.queued == 0
        # An idle link takes a packet larger than its queue.
        pair.a.link.queue = 0
        left.send([bytes(972)], 972, there)
        assert len(await arrivals(right)) == 1


async def test_a_rate_that_is_kept_long_loses_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet() as net:
        pair = Pair(net, LinkSettings(rate=1_000_000, queue=3_000))
        left, right, there = await pair.bind()
        for _ in range(1000):
            left.send([bytes(972)], 972, there)
            await trio.sleep(0.001_001)
        assert len(await arrivals(right)) == 1000


@pytest.mark.parametrize(("host", "headers"), [("203.0.113.77", 28), ("2001:db8::77", 48)])
async def test_mtu(host: str, headers: int, autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(segments=10) as net:
        a = net.host("a", "203.0.113.1", "2001:db8::1")
        b = net.host("b", host)
        wildcard = "::" if ":" in host else "0.0.0.0"
        left, right = await a.bind(wildcard, 1), await b.bind(wildcard, 1)
        b.link.mtu = 1280
        largest = 1280 - headers
        left.send([bytes(largest)], largest, Address(host, 1))
        left.send([bytes(largest + 1)], largest + 1, Address(host, 1))
        assert [len(data) for _, data in await arrivals(right)] == [largest]
        assert b.link.inbound.statistics().mtu_drops == 1
        # Only the short one at the end of a train fits.
        left.send([bytes(1400 * 3), b"end"], 1400, Address(host, 1))
        assert [data for _, data in await arrivals(right)] == [b"end"]
        assert b.link.inbound.statistics().mtu_drops == 4
        # The own link's MTU is known on the spot.
        left.send([bytes(1500)], 1500, Address(host, 1))
        assert left.stats.too_big == 1
        assert left.stats.sent == 6


async def test_down_stops_what_is_sent_and_what_is_under_way(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with VirtualInternet() as net:
        pair = Pair(net, LinkSettings(delay=0.1))
        left, right, there = await pair.bind()
        left.send([b"under way"], 64, there)
        await trio.sleep(0.05)
        pair.a.link.down = True
        left.send([b"sent"], 64, there)
        assert await arrivals(right) == []
        assert pair.a.link.outbound.statistics().down_drops == 2
        pair.a.link.down = False
        left.send([b"again"], 64, there)
        assert len(await arrivals(right)) == 1


def test_settings_of_both_directions_and_of_one() -> None:
    host: Host = VirtualInternet().host("a", link=LinkSettings(delay=0.5))
    host.link.loss = 0.25
    assert host.link.inbound.loss == host.link.outbound.loss == host.link.loss == 0.25
    host.link.inbound.rate = 1000.0
    assert host.link.outbound.rate is None
    assert host.link.delay == 0.5
    for name, value in [("loss", 1.1), ("delay", -1), ("rate", 0), ("mtu", 0), ("queue", -1)]:
        with pytest.raises(ValueError):
            setattr(host.link, name, value)
