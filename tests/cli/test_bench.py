"""The command ``bench``: two processes that measure, and what its serving end makes of those who do not."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from netmesh_trio import Identity, Node, NodeConfig, Peer, open_node
from netmesh_trio.cli.commands import run
from netmesh_trio.cli.runner import CommandError
from netmesh_trio.cli.speed import BENCH_SERVICE, LONGEST, Served, Server, Trips, download, round_trips, upload
from netmesh_trio.errors import StreamResetError
from netmesh_trio.identity import PeerId
from netmesh_trio.testing import VirtualInternet, open_mesh
from tests.cli.program import Program, running

LOOPBACK = ("--bind", "127.0.0.1:0")
SHORT = (*LOOPBACK, "--seconds", 0.2)


@pytest.fixture
def server() -> Iterator[Program]:
    """One that answers who measures, and relays."""
    with running("bench", "--serve", *LOOPBACK) as program:
        yield program


def test_two_processes_measure(server: Program) -> None:
    (uri,) = server.wait_for("ready")["addresses"]
    with running("bench", uri, *SHORT, "--streams", 3) as bench:
        assert bench.finish() == 0, bench.errors
        measured = {event["what"]: event for event in bench.events if event["event"] == "measured"}
        assert list(measured) == ["connect", "round-trip", "upload", "download"]
        assert all(event["kind"] == "direct" and event["addr"] in uri for event in measured.values())
        assert measured["round-trip"]["count"] == 1000
        for what in ("round-trip", "upload", "download"):
            assert 0 < measured[what]["p50_ms"] <= measured[what]["p99_ms"]
        done = bench.last("done")
        assert done["seconds"] > 0
        assert done["up_mb_per_s"] == measured["upload"]["mb_per_s"] > 0
        assert done["down_mb_per_s"] == measured["download"]["mb_per_s"] > 0
        assert done["first_ms"] == measured["connect"]["first_ms"] > 0
        assert bench.errors == ""
    served = [server.wait_for("served") for _ in range(6)]
    for direction in ("upload", "download"):
        carried = sum(event["bytes"] for event in served if event["direction"] == direction)
        assert carried == measured[direction]["bytes"]
    server.process.send_signal(signal.SIGTERM)
    assert server.finish() == 0, server.errors


def test_over_a_relay() -> None:
    with running("node", *LOOPBACK) as relay:
        (uri,) = relay.wait_for("ready")["addresses"]
        there = ("--bootstrap", uri, "--no-direct")
        with running("bench", "--serve", *LOOPBACK, *there) as server:
            peer_id = server.wait_for("ready")["peer_id"]
            with running("bench", peer_id, *SHORT, *there) as bench:
                assert bench.finish() == 0, bench.errors
                measured = [event for event in bench.events if event["event"] == "measured"]
                assert [event["kind"] for event in measured] == ["relayed"] * 4
                assert all(event["via"] in uri for event in measured)


def test_for_people(server: Program, capsys: pytest.CaptureFixture[str]) -> None:
    (uri,) = server.wait_for("ready")["addresses"]
    assert run(["bench", uri, *map(str, SHORT)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines if line[0] not in ("ready", "path", "nat")] == (
        ["connect", "round-trip", "upload", "download"]
    )


def test_a_peer_that_does_not_serve() -> None:
    with running("node", *LOOPBACK) as node:
        (uri,) = node.wait_for("ready")["addresses"]
        with running("bench", uri, *SHORT) as bench:
            assert bench.finish() == 1
            assert bench.last("error")["kind"] == "service-not-found"
            assert "netmesh-trio bench --serve" in bench.last("error")["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--serve"),
        (["--serve", str(Identity(bytes(32)).peer_id)], "name the PEER"),
        ([str(Identity(bytes(32)).peer_id), "--from", str(Identity(bytes(32)).peer_id)], "--from belongs"),
        ([str(Identity(bytes(32)).peer_id), "--seconds", "61"], "--seconds"),
    ],
)
def test_wrong_command_lines(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_percentiles() -> None:
    trips = Trips([4.0, 1.0, 3.0, 2.0])
    assert [trips.percentile(share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [1.0, 1.0, 2.0, 3.0, 4.0]


@asynccontextmanager
async def measuring(allowed: frozenset[PeerId] = frozenset()) -> AsyncIterator[tuple[Node, Peer, list[Served]]]:
    """A node that measures with one that serves, both here."""
    told: list[Served] = []
    async with (
        open_node(Identity.generate(), ("127.0.0.1", 0)) as there,
        open_node(Identity.generate(), ("127.0.0.1", 0)) as here,
        trio.open_nursery() as nursery,
    ):
        handle = Server(allowed, told.append).handle
        nursery.start_soon(trio.serve_listeners, handle, [there.listen(BENCH_SERVICE)])
        yield here, await here.connect(str(there.addresses[0])), told
        nursery.cancel_scope.cancel()


async def test_only_those_that_are_allowed() -> None:
    async with measuring(frozenset({Identity.generate().peer_id})) as (_, peer, told):
        for attempt in (lambda: round_trips(peer, 1, 1, 5), lambda: upload(peer, 0.1, 2, 5)):
            with pytest.raises(CommandError, match="does not serve this one") as caught:
                await attempt()
            assert caught.value.kind == "not-allowed"
        assert told == []


async def test_what_is_no_request_harms_nobody() -> None:
    long = round(LONGEST * 1000 + 1).to_bytes(4, "big")
    async with measuring() as (_, peer, told):
        for request in (b"x", b"", b"d", b"d\0\0", b"d" + long):
            async with await peer.open_stream(BENCH_SERVICE) as stream:
                if request:
                    await stream.send_all(request)
                await stream.send_eof()
                with pytest.raises(StreamResetError):
                    await stream.receive_some()
        assert len((await round_trips(peer, 5, 3, 5)).times) == 3
        assert (await download(peer, 0.1, 1, 5)).bytes > 0
        assert [served.direction for served in told] == ["download"]


@pytest.mark.parametrize("kind", [b"e", b"u"])
async def test_what_lasts_too_long_is_ended(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netmesh_trio.cli.speed._SLACK", 0.2 - LONGEST)
    async with measuring() as (_, peer, told):
        async with await peer.open_stream(BENCH_SERVICE) as stream:
            await stream.send_all(kind)
            with pytest.raises(StreamResetError) as caught:
                await stream.receive_some()
            assert caught.value.code == 4
        assert told == []


async def test_too_many_streams() -> None:
    async with measuring() as (_, peer, _told):
        held = [await peer.open_stream(BENCH_SERVICE) for _ in range(64)]
        for stream in held:
            await stream.send_all(b"e!")
            assert await stream.receive_some() == b"!"
        with pytest.raises(CommandError, match="measures with others now"):
            await round_trips(peer, 1, 1, 5)
        for stream in held:
            await stream.aclose()


async def test_over_a_lossy_relay(autojump_clock: trio.testing.MockClock) -> None:
    """What ends a stream gets there, too, and its answer is not lost with it."""
    async with VirtualInternet(seed=3, segments=44, resolution=0.001) as net:
        config = NodeConfig(direct=False)
        async with open_mesh(net=net, delay=0.01, loss=0.05, config=config) as mesh, trio.open_nursery() as nursery:
            told: list[Served] = []
            handle = Server(frozenset(), told.append).handle
            nursery.start_soon(trio.serve_listeners, handle, [mesh.bob.listen(BENCH_SERVICE)])
            peer = await mesh.connect()
            for _ in range(2):
                assert (await upload(peer, 0.1, 2, 30)).bytes > 0
                assert (await download(peer, 0.1, 2, 30)).bytes > 0
                assert (await round_trips(peer, 0.2, 3, 30)).percentile(0.5) >= 0.04
            assert len(told) == 8
            nursery.cancel_scope.cancel()
