"""The oracle, by table and against an attempt with raw sockets."""

from __future__ import annotations

import itertools
import random

import attrs
import pytest
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.testing import (
    FIREWALL,
    FULL_CONE,
    KINDS,
    PORT_PRESERVING,
    PORT_RESTRICTED,
    SYMMETRIC,
    Dependence,
    Host,
    Nat,
    NatBehavior,
    VirtualInternet,
    VirtualUdpSocket,
    direct_path_possible,
)

ROUNDS = 5

GRID = [
    *((NatBehavior(mapping=mapping, filtering=filtering),) for mapping in Dependence for filtering in Dependence),
    *((NatBehavior(translates=False, filtering=filtering),) for filtering in Dependence),
    (),
    (PORT_PRESERVING,),
]


class Prober:
    """One end of a naive attempt: probes all it knows, and what it has been probed from."""

    def __init__(self, name: str, socket: VirtualUdpSocket) -> None:
        self.name = name
        self.socket = socket
        self.targets: set[Address] = set()
        self.heard: set[tuple[Address, Address]] = set()
        """Of the last round: where the other sent to, and from where that came."""

    def drain(self) -> list[tuple[bytes, Address]]:
        found = []
        while (received := self.socket.receive_nowait()) is not None:
            found.append((bytes(received[0]), received[2]))
        return found

    def probe(self) -> None:
        for target in sorted(self.targets):
            self.socket.send([f"{self.name} {target}".encode()], 64, target)

    def listen(self, other: Prober) -> None:
        self.heard.clear()
        for data, source in self.drain():
            name, target = data.decode().split()
            if name == other.name:
                self.targets.add(source)
                self.heard.add((Address.parse(target), source))


async def reflexive(prober: Prober, reflector: VirtualUdpSocket) -> Address:
    prober.socket.send([b"?"], 64, Address("203.0.113.250", reflector.address.port))
    await trio.sleep(0.2)
    received = reflector.receive_nowait()
    assert received is not None
    return received[2]


async def attempt(net: VirtualInternet, a: Host, b: Host) -> bool:
    """Whether in the end both hear each other, each from where it sends to."""
    if "reflector" not in net.hosts:
        net.host("reflector", "203.0.113.250")
    reflector = await net.hosts["reflector"].bind("0.0.0.0", 0)
    probers = [Prober(host.name, await host.bind("0.0.0.0", 0)) for host in (a, b)]
    for prober, other, host in zip(probers, reversed(probers), (a, b), strict=True):
        other.targets.add(await reflexive(prober, reflector))
        other.targets.add(Address(host.address, prober.socket.address.port))
    for _ in range(ROUNDS):
        for prober in probers:
            prober.probe()
        await trio.sleep(0.2)
        for prober, other in zip(probers, reversed(probers), strict=True):
            prober.listen(other)
    for prober in probers:
        prober.socket.close()
    reflector.close()
    one, other = probers
    return any((source, target) in other.heard for target, source in one.heard)


@pytest.mark.parametrize(
    ("a", "b", "possible"),
    [
        ("none", "symmetric", True),
        ("full-cone", "symmetric", True),
        ("address-restricted", "symmetric", True),
        ("port-restricted", "symmetric", False),
        ("port-preserving", "symmetric", False),
        ("symmetric", "symmetric", False),
        ("symmetric", "symmetric-step", False),
        ("firewall", "symmetric", False),
        ("firewall", "firewall", True),
        ("firewall", "port-restricted", True),
        ("port-restricted", "port-preserving", True),
        ("double", "port-restricted", True),
        ("double", "symmetric", False),
        ("double-symmetric", "full-cone", True),
        ("double-symmetric", "double", False),
    ],
)
def test_kinds(a: str, b: str, possible: bool) -> None:
    assert direct_path_possible(a, b) is possible
    assert direct_path_possible(b, a) is possible


@pytest.mark.parametrize(
    ("a", "b", "shared", "possible"),
    [
        ((SYMMETRIC,), (SYMMETRIC,), 1, True),  # one home
        ((PORT_RESTRICTED, SYMMETRIC), (SYMMETRIC,), 1, True),  # one is on the carrier's network
        ((PORT_RESTRICTED, FULL_CONE), (PORT_RESTRICTED, FULL_CONE), 1, False),  # no hairpin
        ((PORT_RESTRICTED, FIREWALL), (PORT_RESTRICTED, FIREWALL), 1, True),
    ],
)
def test_shared_boxes(a: tuple[NatBehavior, ...], b: tuple[NatBehavior, ...], shared: int, possible: bool) -> None:
    assert direct_path_possible(a, b, shared=shared) is possible
    assert direct_path_possible(b, a, shared=shared) is possible


def test_two_that_map_by_destination() -> None:
    """One lets in anybody, the other whatever comes from an address it has sent to; and one maps by address only."""
    by_port = Dependence.ADDRESS_AND_PORT_DEPENDENT
    for mapping, other_mapping in itertools.product((Dependence.ADDRESS_DEPENDENT, by_port), repeat=2):
        a = NatBehavior(mapping=mapping, filtering=Dependence.ENDPOINT_INDEPENDENT)
        b = NatBehavior(mapping=other_mapping, filtering=Dependence.ADDRESS_DEPENDENT)
        assert direct_path_possible(a, b) is (mapping is not by_port or other_mapping is not by_port)


def test_a_carrier_with_hairpin_connects_its_customers() -> None:
    carrier = attrs.evolve(PORT_RESTRICTED, hairpin=True)
    home = (PORT_PRESERVING, carrier)
    assert direct_path_possible(home, home, shared=1)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="no kind of NAT is called 'cone'"):
        direct_path_possible("cone", "none")
    with pytest.raises(ValueError, match="not the same"):
        direct_path_possible("symmetric", "full-cone", shared=1)
    with pytest.raises(ValueError, match="not the same"):
        direct_path_possible("none", "none", shared=1)


async def test_every_pair_of_single_boxes(autojump_clock: trio.abc.Clock) -> None:
    for a, b in itertools.combinations_with_replacement(GRID, 2):
        async with VirtualInternet(seed=1) as net:
            outcome = await attempt(net, net.host("a", behind=a), net.host("b", behind=b))
            assert outcome is direct_path_possible(a, b), (a, b)


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations_with_replacement(KINDS, 2)))
async def test_every_pair_of_kinds(a: str, b: str, autojump_clock: trio.abc.Clock) -> None:
    async with VirtualInternet(seed=2) as net:
        hosts = net.host("a", behind=a), net.host("b", behind=b)
        assert await attempt(net, *hosts) is direct_path_possible(a, b)
        assert net.direct_path_possible(*hosts) is direct_path_possible(a, b)


def random_box(chance: random.Random) -> NatBehavior:
    return NatBehavior(
        mapping=chance.choice(list(Dependence)),
        filtering=chance.choice(list(Dependence)),
        port_preservation=chance.random() < 0.3,
        hairpin=chance.random() < 0.5,
        translates=chance.random() < 0.8,
    )


@pytest.mark.parametrize("seed", range(200))
async def test_random_topologies(seed: int, autojump_clock: trio.abc.Clock) -> None:
    chance = random.Random(seed)
    async with VirtualInternet(seed=seed) as net:
        fork: Nat | None = None
        for number in range(chance.choice([0, 0, 1, 1, 2])):
            fork = net.nat(f"shared{number}", random_box(chance), parent=fork)
        hosts = []
        for name in "ab":
            place = fork
            for number in range(chance.choice([0, 1, 1, 2])):
                place = net.nat(f"{name}{number}", random_box(chance), parent=place)
            hosts.append(net.host(name, behind=place))
        a, b = hosts
        assert await attempt(net, a, b) is net.direct_path_possible(a, b), [nat.behavior for nat in (*a.nats, *b.nats)]
