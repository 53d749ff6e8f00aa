"""What every public object shows of itself in a REPL, a log or a failed test."""

from __future__ import annotations

import enum
import inspect
import json
from typing import Any

import pytest
import trio

import netmesh_trio
import netmesh_trio.lowlevel
import netmesh_trio.testing
import netmesh_trio.traversal
from netmesh_trio import (
    Address,
    Datagram,
    EventsLost,
    HostPort,
    Identity,
    KeyInUse,
    MeshUri,
    NatChanged,
    NatReport,
    NatType,
    NetworkKey,
    NodeConfig,
    NodeStats,
    PathChanged,
    PathKind,
    PathReport,
    PeerConnected,
    PeerDisconnected,
    PortMapChanged,
    TraversalConfig,
    open_node,
)
from netmesh_trio.testing import VirtualInternet
from netmesh_trio.traversal import (
    Dependence,
    Gateway,
    Histogram,
    PortMapCause,
    PortMapping,
    PunchAction,
    PunchFailedError,
    RouterReport,
    RouterStatus,
    TraversalStats,
    TraversalStatsSnapshot,
)

SEED = bytes(range(32))
ME = Identity(SEED).peer_id
WHERE = Address("203.0.113.7", 4650)
RELAYED = PathReport(kind=PathKind.RELAYED, via=ME, rtt=0.0421)
DIRECT = PathReport(kind=PathKind.DIRECT, addr=WHERE, rtt=0.0137)

ROUTER = Gateway("192.168.1.1", "192.168.1.2")

VALUES: list[tuple[object, str]] = [
    (WHERE, "<Address 203.0.113.7:4650>"),
    (HostPort("relay.example.org", 4650), "<HostPort relay.example.org:4650>"),
    (MeshUri(ME, HostPort(*WHERE)), f"<MeshUri netmesh://{ME}@203.0.113.7:4650>"),
    (ME, f"<PeerId {ME.short}>"),
    (Identity(SEED), f"<Identity of {ME.short}>"),
    (NetworkKey(SEED), "<NetworkKey>"),
    (RELAYED, f"<PathReport relayed by {ME.short}, 42.1 ms>"),
    (DIRECT, "<PathReport direct at 203.0.113.7:4650, 13.7 ms>"),
    (
        PathReport(kind=PathKind.RELAYED, via=ME, elapsed=5.0, error=PunchFailedError("no")),
        f"<PathReport relayed by {ME.short}, after 5 s, punch-failed>",
    ),
    (PeerConnected(peer_id=ME, path=RELAYED), f"<PeerConnected {ME.short}, relayed by {ME.short}, 42.1 ms>"),
    (PeerDisconnected(peer_id=ME, reason="timeout"), f"<PeerDisconnected {ME.short} (timeout)>"),
    (
        PathChanged(peer_id=ME, path=DIRECT, reason="better"),
        f"<PathChanged {ME.short}, direct at 203.0.113.7:4650, 13.7 ms (better)>",
    ),
    (
        NatChanged(nat_type=NatType.CONE, reflex_addr=WHERE),
        "<NatChanged cone, seen from outside as 203.0.113.7:4650>",
    ),
    (NatChanged(nat_type=NatType.UNKNOWN), "<NatChanged unknown, seen from outside as ?>"),
    (EventsLost(count=3), "<EventsLost 3>"),
    (KeyInUse(addr=WHERE), "<KeyInUse at 203.0.113.7:4650>"),
    (KeyInUse(), "<KeyInUse at ?>"),
    (PortMapChanged(protocol="pcp", external=WHERE), "<PortMapChanged 203.0.113.7:4650 by pcp, behind another NAT>"),
    (ROUTER, "Gateway(host='192.168.1.1', local='192.168.1.2', interface=0)"),
    (RouterStatus(protocol="pcp"), "RouterStatus(protocol='pcp', external=None, epoch=None, description='')"),
    (
        RouterReport(family=4, gateway=ROUTER),
        f"RouterReport(family=4, gateway={ROUTER}, answers=(), mapping=None)",
    ),
    (
        PortMapping(protocol="pcp", gateway=ROUTER, internal=WHERE, external=WHERE, lifetime=3600.0),
        f"PortMapping(protocol='pcp', gateway={ROUTER}, internal={WHERE!r}, external={WHERE!r}, "
        "lifetime=3600.0, epoch=None)",
    ),
    (Datagram(ME, b"hello"), f"<Datagram from {ME.short}, 5 bytes: b'hello'>"),
    (Datagram(ME, b"x" * 1000), f"<Datagram from {ME.short}, 1000 bytes: b'{'x' * 32}'...>"),
    (NodeConfig(), "NodeConfig()"),
    (
        NodeConfig(network_key=NetworkKey(SEED), relay="off", traversal=TraversalConfig(enabled=False)),
        "NodeConfig(network_key=<NetworkKey>, relay='off', traversal=TraversalConfig(enabled=False))",
    ),
    (TraversalConfig(punch_deadline=3), "TraversalConfig(punch_deadline=3)"),
    (
        NatReport(nat_type=NatType.CONE, reflex=WHERE, mapping=Dependence.ENDPOINT_INDEPENDENT, hairpin=False),
        "NatReport(nat_type=cone, reflex=<Address 203.0.113.7:4650>, mapping=endpoint-independent, hairpin=False)",
    ),
    (Histogram(), "<Histogram of 0 durations>"),
    (Histogram(bounds=(1.0,), counts=(3, 1), sum=2.0), "<Histogram of 4 durations, mean 0.5 s>"),
    (
        TraversalStatsSnapshot(punches_attempted=2, port_mapping_external=WHERE),
        "TraversalStatsSnapshot(punches_attempted=2, port_mapping_external=<Address 203.0.113.7:4650>)",
    ),
    (TraversalStats(), "<TraversalStats, now TraversalStatsSnapshot()>"),
    (PunchFailedError("no way in"), "PunchFailedError('no way in')"),
]

# Those that only a running node makes: see below.
LIVE = {"Node", "Peer", "Stream", "Listener", "NodeStats", "PeerStats"}


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=lambda v: type(v).__name__)
def test_what_values_show(value: object, shown: str) -> None:
    assert repr(value) == shown


@pytest.mark.parametrize("module", [netmesh_trio, netmesh_trio.traversal], ids=lambda module: module.__name__)
def test_no_class_is_left_out(module: Any) -> None:
    shown = {type(value).__name__ for value, _ in VALUES} | LIVE
    classes = {name: getattr(module, name) for name in module.__all__ if inspect.isclass(getattr(module, name))}
    plain = {name for name, made in classes.items() if issubclass(made, (BaseException, enum.Enum))}
    assert classes.keys() - shown - plain == set()


@pytest.mark.parametrize(
    "kind", [PathKind, NatType, PunchAction, PortMapCause, Dependence, netmesh_trio.testing.Dependence]
)
def test_words_compare_with_text_and_go_into_json(kind: type[enum.Enum]) -> None:
    for member in kind:
        assert member == member.value
        assert json.dumps({"is": member}) == f'{{"is": "{member.value}"}}'
        assert {member: 1}[member.value] == 1
        assert kind(member.value) is member
        assert str(member) == (member.value if kind is NatType else f"{kind.__name__}.{member.name}")
        assert repr(member) == f"<{kind.__name__}.{member.name}: {member.value!r}>"


def test_no_other_public_enum_is_of_text() -> None:
    doors = netmesh_trio, netmesh_trio.traversal, netmesh_trio.testing, netmesh_trio.lowlevel
    for thing in (getattr(door, name) for door in doors for name in door.__all__):
        if inspect.isclass(thing) and issubclass(thing, enum.Enum):
            assert issubclass(thing, str) or not any(isinstance(member.value, str) for member in thing), thing


@pytest.mark.parametrize("name", [n for n in netmesh_trio.testing.__all__ if n[0].isupper() and not n.isupper()])
def test_the_virtual_internet_shows_itself(name: str) -> None:
    made = getattr(netmesh_trio.testing, name)
    if inspect.isclass(made) and not issubclass(made, (BaseException, enum.Enum)):
        assert made.__repr__ is not object.__repr__


async def test_what_a_running_node_shows(autojump_clock: trio.abc.Clock) -> None:
    net = VirtualInternet()
    here, there = net.host("here"), net.host("there")
    async with net, open_node(Identity(SEED), ("0.0.0.0", 4650), network=here) as node:
        assert repr(node) == f"<Node {ME.short} at 0.0.0.0:4650, 0 peers>"
        async with open_node(Identity.generate(), network=there) as other, other.listen("echo") as listener:
            assert repr(net) == "<VirtualInternet of 2 hosts and 0 NATs>"
            assert repr(here.link) == "<Link here, 5 ms>"
            assert repr(listener) == "<Listener for 'echo'>"
            other_id = other.peer_id.short
            peer = await node.connect(other.addresses[0])
            assert repr(peer).startswith(f"<Peer {other_id}, direct at {there.address}:")
            stream = await peer.open_stream("echo")
            assert repr(stream).endswith(f" for 'echo' with {other_id}>")
            assert repr(peer.statistics()).startswith("PeerStats(sessions=1, streams=1, packets_")
            await stream.aclose()
            assert "closed" in repr(stream)
            assert repr(node) == f"<Node {ME.short} at 0.0.0.0:4650, 1 peers>"
            assert isinstance(node.statistics(), NodeStats)
            shown = repr(node.statistics())
            assert shown.startswith("NodeStats(sessions=1, packets_")
            assert "=0" not in shown
