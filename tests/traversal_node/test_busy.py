"""Streams that are busy in both directions while their path changes: every byte once, no long pause."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from netmesh_trio import PathKind
from netmesh_trio.testing import Host, LinkSettings, VirtualInternet
from tests.mesh.world import Pattern, Receiver, exchange
from tests.traversal_node.lab import KINDS, Lab, open_lab, until

RATE = LinkSettings(delay=0.01, rate=200_000.0, queue=60_000)
LONGEST_PAUSE = 1.5


def _on_slow_links(
    nat: str = "port-restricted",
) -> Callable[[VirtualInternet], tuple[Host, Host]]:
    def place(net: VirtualInternet) -> tuple[Host, Host]:
        return net.host("a", behind=nat, link=RATE), net.host("b", behind=nat, link=RATE)

    return place


async def busy(lab: Lab, during: Callable[[], Awaitable[None]], *, seconds: float = 12.0) -> tuple[Receiver, Receiver]:
    """Both ends send and receive some 40 kB/s for so many seconds, and more; check every byte."""
    size = int(40_000 * seconds)
    forth, back = Pattern(1, size), Pattern(2, size)
    theirs: list[Receiver] = []

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        async with lab.b.node.listen("bulk") as listener:
            task_status.started()
            stream = await listener.accept()
            receiver = Receiver(stream)
            theirs.append(receiver)
            await exchange(stream, back, forth, receiver, lasting=seconds)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        peer = await lab.connect()
        stream = await peer.open_stream("bulk")
        ours = Receiver(stream)

        async def send() -> None:
            await exchange(stream, forth, back, ours, lasting=seconds)

        nursery.start_soon(send)
        await during()
    return ours, theirs[0]


def check_pauses(*receivers: Receiver) -> None:
    for receiver in receivers:
        assert receiver.pause(after=0.0) <= LONGEST_PAUSE


def is_relayed(lab: Lab) -> bool:
    return all(one.path(other).kind is PathKind.RELAYED for one, other in ((lab.a, lab.b), (lab.b, lab.a)))


async def test_relay_to_direct_under_load(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(place=_on_slow_links()) as lab:

        async def during() -> None:
            await until(lab.is_direct, 3.0)

        ours, theirs = await busy(lab, during, seconds=5.0)
        check_pauses(ours, theirs)
        assert ours.pause(after=0.0) < 0.5
        assert lab.a.node.traversal_stats().path_failovers == 0
        assert len(lab.a.engine.sessions) == 3


@pytest.mark.parametrize("nat", ["port-restricted", "full-cone", "none"])
async def test_blocked_and_unblocked_under_load(nat: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(place=_on_slow_links(nat)) as lab:

        async def during() -> None:
            await until(lab.is_direct, 3.0)
            await trio.sleep(3.0)
            lab.net.block(lab.a.host, lab.b.host)
            await until(lambda: is_relayed(lab), 1.5)
            await trio.sleep(3.0)
            lab.net.unblock(lab.a.host, lab.b.host)
            await until(lab.is_direct, 10.0)

        check_pauses(*await busy(lab, during))


@pytest.mark.parametrize("direction", ["out", "in"])
async def test_blocked_one_way_under_load(direction: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(place=_on_slow_links()) as lab:

        async def during() -> None:
            await until(lab.is_direct, 3.0)
            await trio.sleep(3.0)
            ends = (lab.a.host, lab.b.host) if direction == "out" else (lab.b.host, lab.a.host)
            lab.net.block(*ends, one_way=True)
            await until(lambda: is_relayed(lab), 1.5)
            await trio.sleep(3.0)
            lab.net.unblock(*ends)
            await until(lab.is_direct, 10.0)

        check_pauses(*await busy(lab, during))


@pytest.mark.parametrize("receiving", ["a", "b"])
async def test_blocked_while_one_end_only_receives(receiving: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(place=_on_slow_links()) as lab:
        peer = await lab.connect()
        await lab.direct_within(3.0)
        pattern = Pattern(1, 1_000_000)
        receivers: list[Receiver] = []

        async def receive(*, task_status: trio.TaskStatus[None]) -> None:
            node = (lab.a if receiving == "a" else lab.b).node
            async with node.listen("sink") as listener:
                task_status.started()
                stream = await listener.accept()
                async with stream:
                    receivers.append(Receiver(stream))
                    await receivers[0].run()

        async with trio.open_nursery() as nursery:
            await nursery.start(receive)
            sender = lab.b.peer(lab.a) if receiving == "a" else peer
            stream = await sender.open_stream("sink")

            async def block() -> None:
                await trio.sleep(3.0)
                lab.net.block(lab.a.host, lab.b.host)

            nursery.start_soon(block)
            async with stream:
                for at in range(0, len(pattern.data), 10_000):
                    await stream.send_all(pattern.data[at : at + 10_000])
                    await trio.sleep(0.1)
                await stream.send_eof()
        assert receivers[0].digest == pattern.digest
        check_pauses(*receivers)


@pytest.mark.parametrize("way", ["both", "out", "in"])
async def test_idle_sessions_notice_a_blocked_path_within_ten_seconds(
    way: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_lab() as lab:
        await lab.connect()
        assert await lab.direct_within(3.0) is not None
        await trio.sleep(40.0)
        ends = (lab.b.host, lab.a.host) if way == "in" else (lab.a.host, lab.b.host)
        lab.net.block(*ends, one_way=way != "both")
        await until(lambda: is_relayed(lab), 10.0)
        await trio.sleep(5.0)
        lab.net.unblock(lab.a.host, lab.b.host)
        await until(lab.is_direct, 60.0)


async def test_idle_sessions_send_little(autojump_clock: trio.testing.MockClock) -> None:
    """A sign of life every few seconds is asked for only where there is a relay to fall back on."""
    async with open_lab() as lab:
        await lab.connect()
        assert await lab.direct_within(3.0) is not None
        await trio.sleep(30.0)
        session = lab.a.session(lab.b)
        to_relay = lab.a.session(lab.relays[0])
        before, relay_before = session.stats.packets_sent, to_relay.stats.packets_sent
        await trio.sleep(120.0)
        assert session.stats.packets_sent - before <= 60
        assert to_relay.stats.packets_sent - relay_before <= 30


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("nat", ["port-restricted", "full-cone", "port-preserving"])
async def test_router_reboots_with_a_new_address(nat: str, side: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(place=_on_slow_links(nat)) as lab:

        async def during() -> None:
            await until(lab.is_direct, 3.0)
            await trio.sleep(3.0)
            host = (lab.a if side == "a" else lab.b).host
            host.nats[-1].reboot(lab.net.realm.allocate())
            await trio.sleep(1.5)
            assert len(lab.a.engine.sessions) == 3
            await until(lab.is_direct, 3.0)

        check_pauses(*await busy(lab, during))


@pytest.mark.parametrize("side", ["a", "b"])
async def test_rebinding_under_load(side: str, autojump_clock: trio.testing.MockClock) -> None:
    """The router forgets its mappings and gives new ports."""
    async with open_lab(place=_on_slow_links()) as lab:

        async def during() -> None:
            await until(lab.is_direct, 3.0)
            await trio.sleep(3.0)
            host = (lab.a if side == "a" else lab.b).host
            host.nats[-1].reboot(host.nats[-1].address)
            await trio.sleep(1.5)
            await until(lab.is_direct, 3.0)

        check_pauses(*await busy(lab, during))


@pytest.mark.parametrize("side", ["a", "b"])
async def test_a_host_roams_under_load(side: str, autojump_clock: trio.testing.MockClock) -> None:
    def place(net: VirtualInternet) -> tuple[Host, Host]:
        net.nat("cafe", "full-cone")
        return _on_slow_links()(net)

    async with open_lab(place=place) as lab:

        async def during() -> None:
            await until(lab.is_direct, 3.0)
            await trio.sleep(3.0)
            host = (lab.a if side == "a" else lab.b).host
            host.roam(lab.net.nats["cafe"])
            await trio.sleep(1.5)
            await until(lab.is_direct, 5.0)

        check_pauses(*await busy(lab, during))


async def test_goes_on_with_the_first_authentic_packet_of_a_public_host_that_moved(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """No search is needed where the other end is open: one round trip for the challenge, and data flows."""
    async with open_lab("port-restricted", "none") as lab:
        peer = await lab.connect()
        assert await lab.direct_within(3.0) is not None
        stream = await peer.open_stream("echo")
        async with stream:
            await stream.send_all(b"x")
            await stream.receive_some()
            await trio.sleep(5.0)
            lab.a.host.nats[-1].reboot(lab.net.realm.allocate())
            rtt = lab.a.path(lab.b).rtt
            assert rtt is not None
            start = trio.current_time()
            await stream.send_all(b"y")
            assert await stream.receive_some() == b"y"
            assert trio.current_time() - start < 3 * rtt + 0.1
            assert lab.is_direct()
            await stream.send_eof()


@pytest.mark.parametrize("seed", range(4))
async def test_mishaps_in_any_order(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    """Blocked ways, routers that reboot, hosts that roam, while streams are busy: in the end the oracle is right."""
    chance = random.Random(seed)
    kinds = [chance.choice(KINDS) for _ in range(2)]

    def link() -> LinkSettings:
        return LinkSettings(delay=chance.uniform(0.002, 0.06), rate=200_000.0, queue=60_000, loss=0.003)

    def place(net: VirtualInternet) -> tuple[Host, Host]:
        net.nat("cafe", chance.choice(("full-cone", "port-restricted")))
        return net.host("a", behind=kinds[0], link=link()), net.host("b", behind=kinds[1], link=link())

    async with open_lab(place=place, seed=seed) as lab:

        async def during() -> None:
            await trio.sleep(1.0)
            for _ in range(5):
                host = chance.choice((lab.a, lab.b)).host
                event = chance.choice(("block", "block one way", "unblock", "reboot", "rebind", "roam"))
                if event.startswith("block"):
                    ends = chance.sample((lab.a.host, lab.b.host), 2)
                    lab.net.block(*ends, one_way=event != "block")
                elif event == "unblock":
                    lab.net.unblock(lab.a.host, lab.b.host)
                elif event == "roam":
                    host.roam(lab.net.nats["cafe"])
                elif host.nats:
                    router = host.nats[-1]
                    router.reboot(lab.net.realm.allocate() if event == "reboot" else router.address)
                await trio.sleep(chance.uniform(0.1, 4.0))
            lab.net.unblock(lab.a.host, lab.b.host)

        await busy(lab, during, seconds=15.0)
        assert len(lab.a.engine.sessions) == 3
        await until(lambda: lab.is_direct() == lab.possible, 90.0)
        await trio.sleep(6.0)
        lab.check_clean()


def tasks_named(name: str) -> int:
    """How many tasks run a function of that name."""
    waiting = [trio.lowlevel.current_root_task()]
    found = 0
    while waiting:
        task = waiting.pop()
        if task is not None:
            found += task.name.rpartition(".")[2] == name
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


async def test_a_direct_path_that_flaps_is_asked_for_by_one_task(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(place=_on_slow_links("none")) as lab:
        asking: list[int] = []

        async def during() -> None:
            await until(lab.is_direct, 3.0)
            for _ in range(5):
                lab.net.block(lab.a.host, lab.b.host)
                await until(lambda: is_relayed(lab), 10.0)
                await trio.sleep(2.0)
                asking.append(tasks_named("_regain"))
                lab.net.unblock(lab.a.host, lab.b.host)
                await until(lab.is_direct, 20.0)
                await trio.sleep(1.0)
                assert tasks_named("_regain") == 0, "nothing is missing now"

        await busy(lab, during, seconds=60.0)
        assert asking == [2] * 5, "one at either end"
