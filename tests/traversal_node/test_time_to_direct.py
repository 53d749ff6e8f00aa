"""How long it takes from ``connect()`` until the first byte of the program travels on the direct path."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import trio
import trio.testing

from netmesh_trio import PathKind
from netmesh_trio.testing import LinkSettings, Packet
from tests.traversal_node.lab import Lab, open_lab

CLASSES = {
    "open to open": [("none", "none"), ("none", "firewall"), ("firewall", "firewall")],
    "cone to open": [("port-restricted", "none"), ("full-cone", "firewall"), ("double", "none")],
    "open to cone": [("none", "port-restricted"), ("firewall", "address-restricted"), ("none", "double")],
    "cone to cone": [("port-restricted", "port-restricted"), ("full-cone", "double"), ("double", "double")],
    "symmetric to others": [("symmetric", "none"), ("symmetric", "full-cone"), ("symmetric", "address-restricted")],
    "others to symmetric": [("none", "symmetric"), ("full-cone", "symmetric"), ("address-restricted", "symmetric")],
}
DELAYS = ((0.005, 0.005), (0.05, 0.01), (0.02, 0.2))


async def first_byte_on_the_direct_path(lab: Lab) -> tuple[float, float]:
    """Seconds from the call until a stream's bytes arrive over a direct path, and the round trip over the relay."""
    relays = {relay.host.address for relay in lab.relays}
    start = trio.current_time()
    peer = await lab.connect()
    report = peer.path
    assert report is not None
    assert report.kind is PathKind.RELAYED
    assert report.rtt is not None
    stream = await peer.open_stream("echo")
    big_since: list[float] = []

    def watch(packet: Packet) -> None:
        # 500 bytes of the program, not one of the small probes
        if packet.origin == "a" and packet.destination.host not in relays and len(packet.data) > 400:
            big_since.append(packet.time)

    lab.net.on_packet = watch
    async with stream, trio.open_nursery() as nursery:

        async def drink() -> None:
            while await stream.receive_some():
                pass

        nursery.start_soon(drink)
        with trio.fail_after(10.0):
            while not big_since:
                await stream.send_all(bytes(500))
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    direct = lab.a.path(lab.b)
    assert direct.kind is PathKind.DIRECT
    assert direct.rtt is not None
    return big_since[0] - start + direct.rtt / 2, report.rtt


@pytest.mark.parametrize("name", CLASSES)
async def test_four_round_trips_at_most(
    name: str, record_property: Callable[[str, object], None], autojump_clock: trio.testing.MockClock
) -> None:
    over = []
    for pair in CLASSES[name]:
        for delays in DELAYS:
            links = [LinkSettings(delay=delay) for delay in delays]
            async with open_lab(*pair, link_a=links[0], link_b=links[1]) as lab:
                took, rtt = await first_byte_on_the_direct_path(lab)
                over.append((took - 0.05) / rtt)
    median = statistics.median(over)
    record_property("round_trips", f"median {median:.2f}, longest {max(over):.2f}")
    assert median <= 4.0
    assert max(over) <= 4.5
