"""``netcheck``: what it asks, prints and concludes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netmesh_trio import NatReport, NatType
from netmesh_trio.cli.netcheck import meaning
from netmesh_trio.traversal import Dependence
from tests.cli.program import running

LOOPBACK = ("--bind", "127.0.0.1:0")


@pytest.fixture
def relays() -> Iterator[list[str]]:
    """The URIs of two running relays."""
    with ExitStack() as stack:
        programs = [stack.enter_context(running("node", *LOOPBACK)) for _ in range(2)]
        yield [program.wait_for("ready")["addresses"][0] for program in programs]
        for program in programs:
            program.process.send_signal(signal.SIGTERM)
            assert program.finish() == 0, program.errors
            assert "Traceback" not in program.errors


def test_it_classifies_with_two_nodes(relays: list[str]) -> None:
    options = [word for uri in relays for word in ("--bootstrap", uri)]
    with running("netcheck", *LOOPBACK, *options) as netcheck:
        assert netcheck.finish() == 0, netcheck.errors
        assert netcheck.errors == ""
        [nat] = [event for event in netcheck.events if event["event"] == "nat"]
        assert nat["nat_type"] == "open"
        assert nat["port_preservation"] is True
        assert nat["binding_lifetime"] is None
        assert nat["ipv6_addr"] is None  # it is bound to loopback
        assert "every peer is reached over the relay" in nat["meaning"]
        assert {seen["reflex_addr"] for seen in nat["observers"]} == {nat["reflex_addr"]}
        assert {seen["address"] for seen in nat["observers"]} == {uri.partition("@")[2] for uri in relays}
        assert all(seen["rtt_ms"] > 0 for seen in nat["observers"])
        assert netcheck.events[-1]["event"] == "done"
        assert netcheck.last("done")["nat_type"] == "open"
        assert netcheck.last("done")["seconds"] > 0


def test_one_node_is_not_enough(relays: list[str]) -> None:
    with running("netcheck", *LOOPBACK, "--bootstrap", relays[0]) as netcheck:
        assert netcheck.finish() == 1
        assert netcheck.errors.count("\n") == 1
        assert "another --bootstrap" in netcheck.errors
        assert netcheck.last("nat")["nat_type"] == "unknown"
        assert len(netcheck.last("nat")["observers"]) == 1
        assert netcheck.last("error")["kind"] == "unknown"


def test_nodes_that_take_no_part_observe_nothing() -> None:
    with running("node", *LOOPBACK, "--no-direct") as relay:
        uri = relay.wait_for("ready")["addresses"][0]
        with running("netcheck", *LOOPBACK, "--bootstrap", uri) as netcheck:
            assert netcheck.finish() == 1
            assert netcheck.errors.count("\n") == 1
            assert netcheck.last("error")["kind"] in ("no-observer", "unknown")


def test_it_needs_somebody_to_ask() -> None:
    with running("netcheck") as netcheck:
        assert netcheck.finish() == 2
        assert "--bootstrap" in netcheck.errors


@pytest.mark.parametrize("kind", NatType)
@pytest.mark.parametrize("filtering", [None, *Dependence])
def test_the_relay_always_carries(kind: NatType, filtering: Dependence | None) -> None:
    sentence = meaning(NatReport(nat_type=kind, filtering=filtering))
    assert sentence.startswith("every peer is reached over the relay; ")
    assert "no connection" not in sentence
    assert "direct paths are possible" in sentence
