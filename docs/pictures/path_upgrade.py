"""Draws ``path-upgrade.svg`` from a real run: ``python docs/pictures/path_upgrade.py``.

Two real nodes behind NATs on the virtual internet, in virtual time, and one stream that is never idle.  For the picture
they stay on the relay for some seconds; left alone, they look for a direct path at once.  Later a firewall stops the
direct path for a while, and then bob's laptop changes the network.  What is drawn is what arrived at bob, by tenths of
a second, and the path that alice sent on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import attrs
import trio
import trio.testing

from netmesh_trio import NodeConfig, Stream, TraversalConfig
from netmesh_trio.testing import VirtualInternet, open_mesh

PICTURE = Path(__file__).with_name("path-upgrade.svg")

SAMPLE = 0.1  # seconds
LOOKS, BLOCKED, UNBLOCKED, ROAMS, LOOKS_AGAIN, END = 3.0, 6.0, 9.0, 11.7, 14.0, 16.5
LINE, RELAY_LINE = 3e6, 1e6  # bytes a second: of alice and bob, of each relay
EVENTS = (
    (LOOKS, "they look for", "a direct path"),
    (BLOCKED, "a firewall", "blocks it"),
    (UNBLOCKED, "the firewall", "opens again"),
    (ROAMS, "bob changes", "his network"),
    (LOOKS_AGAIN, "they look", "again"),
)


@attrs.frozen
class Sample:
    """What happened in one tenth of a second."""

    at: float
    rate: float  # bytes a second
    path: str


async def run() -> list[Sample]:
    samples: list[Sample] = []

    async def take(stream: Stream) -> None:
        async with stream:
            while await stream.receive_some():
                pass

    async def send(stream: Stream) -> None:
        while True:
            await stream.send_all(bytes(100_000))

    config = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))
    async with (
        VirtualInternet(segments=44, resolution=0.001) as net,
        open_mesh(net=net, delay=0.01, config=config) as mesh,
        mesh.bob.listen("bulk") as listener,
    ):
        alice, bob = mesh.host(mesh.alice), mesh.host(mesh.bob)
        cafe = net.nat("cafe", "port-preserving")
        for nat in net.nats.values():
            nat.link.rate = LINE
        for relay in mesh.relays:
            mesh.host(relay).link.rate = RELAY_LINE
        await trio.sleep(5)  # everybody finds out what NAT is in front
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, take, [listener])
            peer = await mesh.connect()
            async with await peer.open_stream("bulk") as stream:
                nursery.start_soon(send, stream)
                start = trio.current_time()
                for number in range(round(END / SAMPLE)):
                    at, before = number * SAMPLE, bob.link.inbound.statistics().passed_bytes
                    if math.isclose(at, LOOKS) or math.isclose(at, LOOKS_AGAIN):
                        nursery.start_soon(mesh.alice.connect_direct, mesh.bob.peer_id)
                    elif math.isclose(at, BLOCKED):
                        net.block(alice, bob)
                    elif math.isclose(at, UNBLOCKED):
                        net.unblock(alice, bob)
                    elif math.isclose(at, ROAMS):
                        bob.roam(cafe)
                    await trio.sleep_until(start + at + SAMPLE)
                    assert peer.path is not None
                    arrived = bob.link.inbound.statistics().passed_bytes - before
                    samples.append(Sample(at, arrived / SAMPLE, peer.path.kind.value))
                nursery.cancel_scope.cancel()
    return samples


# The drawing: user units are pixels at full size.
WIDTH, HEIGHT = 720, 330
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 74, 44
TOP_RATE = 3.5e6


def x_of(seconds: float) -> float:
    return LEFT + seconds / END * (WIDTH - LEFT - RIGHT)


def y_of(rate: float) -> float:
    return HEIGHT - BOTTOM - rate / TOP_RATE * (HEIGHT - TOP - BOTTOM)


def elements(samples: list[Sample]) -> Iterator[str]:
    floor = y_of(0)
    for path, group in groupby(samples, key=lambda sample: sample.path):
        part = list(group)
        begin, end = x_of(part[0].at), x_of(part[-1].at + SAMPLE)
        size = f'x="{begin:.1f}" y="{TOP}" width="{end - begin:.1f}" height="{floor - TOP:.1f}"'
        yield f'<rect class="{path}" {size}/>'
        if end - begin > 60:
            yield f'<text class="{path}-name" x="{(begin + end) / 2:.1f}" y="{TOP + 18}">{path}</text>'
    for megabytes in range(4):
        y = y_of(megabytes * 1e6)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="right" x="{LEFT - 8}" y="{y + 4:.1f}">{megabytes}</text>'
    for second in range(0, round(END) + 1, 2):
        yield f'<text x="{x_of(second):.1f}" y="{floor + 18:.1f}">{second} s</text>'
    for at, *words in EVENTS:
        x = x_of(at)
        yield f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{floor:.1f}"/>'
        for row, line in enumerate(words):
            yield f'<text class="left" x="{x - 4:.1f}" y="{TOP - 30 + 15 * row}">{line}</text>'
    points = " ".join(f"{x_of(s.at + SAMPLE / 2):.1f},{y_of(s.rate):.1f}" for s in samples)
    yield f'<polyline class="rate" points="{points}"/>'
    yield f'<text class="left" x="{LEFT - 48}" y="{TOP - 52}">MB/s of one stream, arriving at bob</text>'


STYLE = """
.picture { color: #222; font: 13px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { .picture { color: #ddd } }
.picture text { fill: currentColor; text-anchor: middle }
.picture .left { text-anchor: start }
.picture .right { text-anchor: end }
.picture .grid { stroke: currentColor; stroke-opacity: 0.2 }
.picture .event { stroke: currentColor; stroke-dasharray: 4 3; stroke-opacity: 0.6 }
.picture .rate { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round }
.picture .relayed { fill: #d98a1e; fill-opacity: 0.22 }
.picture .direct { fill: #22a06b; fill-opacity: 0.25 }
.picture .relayed-name, .picture .direct-name { font-weight: 600 }
"""


def draw(samples: list[Sample]) -> str:
    title = "Throughput of one stream while its path changes from a relay to a direct one, back, and again"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    body = "\n".join(elements(samples))
    return f"{head}\n<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"


def measure() -> list[Sample]:
    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


if __name__ == "__main__":
    samples = measure()
    PICTURE.write_text(draw(samples), encoding="utf-8")
    for path, group in groupby(samples, key=lambda sample: sample.path):
        part = list(group)
        mean = sum(sample.rate for sample in part) / len(part) / 1e6
        sys.stdout.write(f"{part[0].at:5.1f} s  {path:8} {mean:5.2f} MB/s\n")
