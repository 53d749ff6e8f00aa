"""Peers and relays that lie: they get few packets out of anybody, and nothing but the shorter path can be lost."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from netmesh_trio import NodeConfig, PathKind
from netmesh_trio.addresses import Address
from netmesh_trio.node.live import LiveSession
from netmesh_trio.testing import DROP, Host, Packet, Verdict, VirtualInternet
from netmesh_trio.traversal import TraversalConfig
from netmesh_trio.traversal.guard import Verdict as GuardVerdict
from netmesh_trio.traversal.rendezvous import (
    Candidate,
    CandidateKind,
    Candidates,
    PunchAck,
    PunchIntroduce,
    PunchReject,
    PunchRequest,
    RejectReason,
    decode_rendezvous_message_untrusted,
)
from netmesh_trio.wire import frames
from tests.traversal_node.lab import Lab, Member, open_lab, until

MANUAL = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))
VICTIM = "192.0.2.66"
#: Packets of one keep-alive train to one address, and trains that one peer gets out of a node in ten seconds.
TRAIN = 8
TRAINS = 4


def with_victim(
    kind_a: str = "port-restricted", kind_b: str = "port-restricted"
) -> Callable[[VirtualInternet], tuple[Host, Host]]:
    def place(net: VirtualInternet) -> tuple[Host, Host]:
        net.host("victim", VICTIM)
        return net.host("a", behind=kind_a), net.host("b", behind=kind_b)

    return place


def received(lab: Lab, name: str = "victim") -> int:
    """Datagrams that came to a host on which nobody listens."""
    stats = lab.net.hosts[name].statistics()
    return stats.no_socket + stats.delivered


def say(sender: Member, receiver: Member, message: object) -> None:
    """Send a rendezvous message inside the session, whatever it says."""
    live = sender.peer(receiver).live
    assert live is not None
    sender.engine.send_control(live, frames.SUBPROTOCOL_RENDEZVOUS, message.encode())  # type: ignore[attr-defined]


def victims(*ports: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(CandidateKind.MAPPED, Address(VICTIM, port)) for port in ports)


async def works(lab: Lab) -> None:
    with trio.fail_after(15.0):
        stream = await lab.a.peer(lab.b).open_stream("echo")
        async with stream:
            await stream.send_all(b"carried all the same")
            assert await stream.receive_some() == b"carried all the same"
            await stream.send_eof()


# addresses of third parties


async def test_candidates_that_name_a_third_party(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that floods us with the addresses of somebody else as its own."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        lab.net.block(lab.a.host, lab.b.host)
        seconds = 30
        for number in range(seconds * 10):
            ports = range(1000 + 8 * number, 1008 + 8 * number)
            say(lab.a, lab.b, Candidates(lab.chance.randbytes(8), victims(*ports), True, True))
            await trio.sleep(0.1)
        await trio.sleep(6.0)
        sent = received(lab)
        # two addresses that nobody vouches for, each with the packets of a train
        assert sent <= 2 * TRAIN * TRAINS * (seconds / 10 + 1)
        lab.check_clean()
        await works(lab)


async def test_asking_for_candidates_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    """Each answer takes a look at all interfaces, and the request is a few bytes."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        await trio.sleep(10.0)
        looked = told = 0
        addresses = lab.b.host.interface_addresses
        send = lab.b.rendezvous._send

        def look() -> list[str]:
            nonlocal looked
            looked += 1
            return addresses()

        def tell(live: LiveSession, payload: bytes) -> None:
            nonlocal told
            told += isinstance(decode_rendezvous_message_untrusted(payload), Candidates)
            send(live, payload)

        lab.b.host.interface_addresses = look  # type: ignore[method-assign]
        lab.b.rendezvous._send = tell  # type: ignore[method-assign]
        for _ in range(300):
            for _ in range(10):
                say(lab.a, lab.b, Candidates(None, (), True, False))
            await trio.sleep(0.1)
        assert 8 <= told <= 8 * 4
        assert looked <= 40
        lab.b.host.interface_addresses = addresses  # type: ignore[method-assign]
        await works(lab)


async def test_candidates_of_a_third_party_in_answer_to_us(autojump_clock: trio.testing.MockClock) -> None:
    """The peer names the third party whenever we ask for its addresses, and makes us ask as often as it can."""
    async with open_lab(place=with_victim()) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        lab.b.rendezvous._candidates = lambda: victims(*range(7, 15))  # type: ignore[method-assign]
        await lab.connect()
        await trio.sleep(60.0)
        attempts = lab.a.node.traversal_stats().upgrades_attempted
        assert 1 <= attempts <= 3
        assert 0 < received(lab) <= attempts * 2 * TRAIN
        await works(lab)


async def test_an_announced_address_of_a_third_party(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that announces the third party's address as its own, another port of it every second."""
    async with open_lab(place=with_victim()) as lab:
        lab.net.block(lab.a.host, lab.b.host)
        await lab.connect()
        seconds = 40
        for number in range(seconds):
            lab.b.node.set_reflex_override(Address(VICTIM, 5000 + number))
            await trio.sleep(1.0)
        await trio.sleep(6.0)
        # announced and told at once, and all that in answer to new announcements
        assert received(lab) <= 2 * TRAIN * TRAINS * (seconds / 10 + 1)
        await works(lab)


async def test_introductions_to_a_third_party(autojump_clock: trio.testing.MockClock) -> None:
    """A relay that introduces the two ends to somebody else."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        for _ in range(100):
            for relay in lab.relays:
                for one, other in ((lab.a, lab.b), (lab.b, lab.a)):
                    for initiator in (False, True):
                        say(
                            relay,
                            one,
                            PunchIntroduce(
                                lab.chance.randbytes(8), other.node.peer_id, Address(VICTIM, 9), 0, initiator
                            ),
                        )
            await trio.sleep(0.1)
        await trio.sleep(6.0)
        assert received(lab) == 0
        dropped = lab.b.rendezvous._guard.dropped
        assert dropped[GuardVerdict.FOREIGN_ADDRESS] + dropped[GuardVerdict.RATE_LIMITED] >= 200
        lab.check_clean()
        await works(lab)


@asynccontextmanager
async def open_lab_with_a_liar() -> AsyncGenerator[Lab, None]:
    """``a`` announces the address of the victim as its own, and no direct path leads to it."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        lab.net.block(lab.a.host, lab.b.host)
        lab.a.node.set_reflex_override(Address(VICTIM, 9))
        await trio.sleep(5.0)
        yield lab


async def test_a_relay_and_a_peer_together_against_a_third_party(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The peer announces the address, the relay introduces us to it: within the introducer's budget."""
    async with open_lab_with_a_liar() as lab:
        before = received(lab)
        seconds = 30
        for number in range(seconds * 10):
            address = Address(VICTIM, 2000 + number)
            say(
                lab.relays[0],
                lab.b,
                PunchIntroduce(lab.chance.randbytes(8), lab.a.node.peer_id, address, 0, False),
            )
            await trio.sleep(0.1)
        await trio.sleep(6.0)
        assert 0 < received(lab) - before <= TRAIN * TRAINS * (seconds / 10 + 1)
        lab.check_clean()


async def test_introductions_that_the_peer_spoke_of_have_a_budget(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The peer speaks of an attempt, and the relay repeats the introduction for it with one port after another."""
    async with open_lab_with_a_liar() as lab:
        before = received(lab)
        seconds = 30
        for number in range(seconds * 10):
            punch_id = lab.chance.randbytes(8)
            say(lab.a, lab.b, Candidates(punch_id, (), True, True))
            await trio.sleep(0.1)
            for more in range(5):
                address = Address(VICTIM, 2000 + 5 * number + more)
                say(lab.relays[0], lab.b, PunchIntroduce(punch_id, lab.a.node.peer_id, address, 0, False))
        await trio.sleep(6.0)
        # what the peer told, one introduction for each time, and what the introducer may do by itself
        assert 0 < received(lab) - before <= 3 * TRAIN * TRAINS * (seconds / 10 + 1)
        lab.check_clean()
        await works(lab)


async def test_the_request_names_a_third_party(autojump_clock: trio.testing.MockClock) -> None:
    """The coordinator compares with the address that it sees."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        coordinator = lab.relays[0].rendezvous._coordinator
        for _ in range(3):
            say(
                lab.a,
                lab.relays[0],
                PunchRequest(lab.chance.randbytes(8), lab.b.node.peer_id, Address(VICTIM, 9)),
            )
        await trio.sleep(6.0)
        assert coordinator.rejected[RejectReason.ADDRESS_MISMATCH] == 3
        assert coordinator.introduced == 0
        assert received(lab) == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "169.254.1.1", "10.1.2.3", "224.0.0.1", "255.255.255.255", "192.168.2.255", "192.168.2.9"]
)
async def test_what_no_peer_may_have_us_send_to(host: str, autojump_clock: trio.testing.MockClock) -> None:
    """Except on the network that we are in ourselves, no private address; and no special one at all."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        lab.net.block(lab.a.host, lab.b.host)
        sent: list[Address] = []

        def watch(packet: Packet) -> None:
            if packet.origin == "b":
                sent.append(packet.destination)

        lab.net.on_packet = watch
        try:
            message = Candidates(bytes(8), (Candidate(CandidateKind.HOST, Address(host, 80)),), False, True)
        except ValueError:
            return  # cannot even be said
        say(lab.a, lab.b, message)
        await trio.sleep(6.0)
        to_it = sum(1 for address in sent if address.host == host)
        assert to_it <= (TRAIN if host == "192.168.2.9" else 0)


# forgeries


async def test_forged_answers_get_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Acknowledgements, introductions and rejections that belong to nothing, from peers and from relays."""
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        for member in lab.members:  # a canary that helps the other to examine its NAT is no answer to a forgery
            await member.node.reclassify_nat(thorough=True)
        where = lab.a.node.reflex_addr
        assert where is not None
        quiet: list[Packet] = []

        def watch(packet: Packet) -> None:
            at_home = {r.host.address for r in lab.relays} | {lab.b.host.nats[-1].address}
            if packet.origin == "b" and packet.destination.host not in at_home:
                quiet.append(packet)

        lab.net.on_packet = watch
        before = lab.b.node.traversal_stats()
        for number in range(50):
            punch_id = number.to_bytes(8, "big")
            for sender in (lab.a, *lab.relays):
                say(sender, lab.b, PunchAck(punch_id, Address(VICTIM, 9)))
                say(sender, lab.b, PunchAck(punch_id, None))
                say(sender, lab.b, PunchReject(punch_id, RejectReason.RATE_LIMITED))
                say(sender, lab.b, PunchIntroduce(punch_id, lab.a.node.peer_id, where, 0, True))
            await trio.sleep(0.05)
        await trio.sleep(6.0)
        assert not quiet
        after = lab.b.node.traversal_stats()
        assert after == attrs.evolve(before, introductions_dropped=before.introductions_dropped + 50 * 3)
        lab.check_clean()
        await works(lab)


async def test_only_the_coordinator_that_was_asked_may_answer(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lab(place=with_victim(), config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        lab.net.block(lab.a.host, lab.b.host)
        asked: list[tuple[Member, PunchRequest]] = []
        for relay in lab.relays:
            # it keeps silent, and the other relay knows the id all the same
            monkeypatch.setattr(
                relay.rendezvous, "_on_request", lambda _, request, relay=relay: asked.append((relay, request))
            )
        reflex = lab.b.node.reflex_addr
        assert reflex is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.a.node.connect_direct, lab.b.node.peer_id)
            await until(lambda: bool(asked), 1.0)
            relay, request = asked[0]
            other = next(r for r in lab.relays if r is not relay)
            say(other, lab.a, PunchIntroduce(request.punch_id, lab.b.node.peer_id, reflex, 0, True))
            say(other, lab.a, PunchReject(request.punch_id, RejectReason.NO_SESSION))
            say(lab.b, lab.a, PunchReject(request.punch_id, RejectReason.NO_SESSION))
        stats = lab.a.node.traversal_stats()
        assert (stats.punches_attempted, stats.punch_rejections) == (0, 0)


# floods


async def test_a_flood_of_requests_gets_typed_rejections(autojump_clock: trio.testing.MockClock) -> None:
    async with open_lab(config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        lab.net.block(lab.a.host, lab.b.host)
        reflex = lab.a.node.reflex_addr
        assert reflex is not None
        rejections: list[PunchReject] = []
        real = lab.a.rendezvous._on_reject

        def on_reject(live: object, message: PunchReject) -> None:
            rejections.append(message)
            real(live, message)  # type: ignore[arg-type]

        lab.a.rendezvous._on_reject = on_reject  # type: ignore[method-assign]
        relay = lab.relays[0]
        for _ in range(20):
            for _ in range(50):
                say(lab.a, relay, PunchRequest(lab.chance.randbytes(8), lab.b.node.peer_id, reflex))
            await trio.sleep(0.4)
        await trio.sleep(6.0)
        coordinator = relay.rendezvous._coordinator
        assert coordinator.introduced == 4
        assert coordinator.rejected[RejectReason.RATE_LIMITED] == 996
        assert len(rejections) == 996
        assert {r.reason for r in rejections} == {RejectReason.RATE_LIMITED}
        # others are served all the while
        assert lab.b.rendezvous._guard.dropped[GuardVerdict.RATE_LIMITED] == 0
        theirs = lab.b.node.reflex_addr
        assert theirs is not None
        say(lab.b, relay, PunchRequest(bytes(8), lab.a.node.peer_id, theirs))
        await trio.sleep(1.0)
        assert coordinator.introduced == 5
        await works(lab)


async def test_noise_on_the_subprotocol(autojump_clock: trio.testing.MockClock) -> None:
    """Any bytes: counted, and nothing else."""
    async with open_lab(config_a=MANUAL) as lab:
        await lab.connect()
        await until(lambda: lab.b.peer(lab.a).path is not None, 1.0)
        chance = random.Random(1)
        live = lab.a.peer(lab.b).live
        assert live is not None
        before = lab.b.node.statistics().invalid_control
        for _ in range(20):
            for _ in range(10):
                noise = chance.randbytes(chance.randrange(600))
                lab.a.engine.send_control(live, frames.SUBPROTOCOL_RENDEZVOUS, noise)
            await trio.sleep(0.1)
        await trio.sleep(1.0)
        assert lab.b.node.statistics().invalid_control - before == 200
        await works(lab)


# relays that meddle


def _is_relay(packet: Packet) -> bool:
    return packet.origin.startswith("relay")


def _dropping(_lab: Lab, chance: random.Random) -> Callable[[Packet], Verdict | None]:
    return lambda packet: DROP if _is_relay(packet) and chance.random() < 0.3 else None


def _delaying(_lab: Lab, chance: random.Random) -> Callable[[Packet], Verdict | None]:
    return lambda packet: Verdict(delay=chance.uniform(0.0, 1.0)) if _is_relay(packet) else None


def _doubling(_lab: Lab, chance: random.Random) -> Callable[[Packet], Verdict | None]:
    return lambda packet: Verdict(copies=chance.randint(1, 3)) if _is_relay(packet) else None


def _reordering(_lab: Lab, chance: random.Random) -> Callable[[Packet], Verdict | None]:
    return lambda packet: Verdict(delay=chance.choice((0.0, 0.0, 0.08))) if _is_relay(packet) else None


@pytest.mark.parametrize("meddle", [_dropping, _delaying, _doubling, _reordering])
@pytest.mark.parametrize("seed", range(2))
async def test_a_relay_that_meddles_with_packets(
    meddle: Callable[[Lab, random.Random], Callable[[Packet], Verdict | None]],
    seed: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_lab(seed=seed) as lab:
        lab.net.on_packet = meddle(lab, random.Random(seed))
        await lab.connect()
        await works(lab)
        await lab.direct_within(40.0)
        await works(lab)
        if lab.a.path(lab.b).kind is PathKind.RELAYED:
            why = lab.a.peer(lab.b).why_not_direct
            assert why is None or why.kind in {"punch-failed", "rendezvous-rejected", "peer-not-reachable"}


def _drop_introductions(relay: Member, _: trio.Nursery) -> None:
    relay.rendezvous._send = lambda *_: None  # type: ignore[method-assign]


def _delay_introductions(relay: Member, nursery: trio.Nursery) -> None:
    real = relay.rendezvous._send

    async def later(live: object, payload: bytes) -> None:
        await trio.sleep(3.0)
        real(live, payload)  # type: ignore[arg-type]

    relay.rendezvous._send = lambda live, payload: nursery.start_soon(later, live, payload)  # type: ignore[method-assign]


def _double_introductions(relay: Member, _: trio.Nursery) -> None:
    real = relay.rendezvous._send

    def send(live: object, payload: bytes) -> None:
        for _ in range(5):
            real(live, payload)  # type: ignore[arg-type]

    relay.rendezvous._send = send  # type: ignore[method-assign]


def _mislead_introductions(relay: Member, _: trio.Nursery) -> None:
    """Right host, wrong port: the relay may say that."""
    real = relay.rendezvous._send

    def send(live: object, payload: bytes) -> None:
        message = decode_rendezvous_message_untrusted(payload)
        assert isinstance(message, PunchIntroduce)
        reflex = Address(message.reflex.host, 1)
        wrong = PunchIntroduce(message.punch_id, message.peer, reflex, 1_000_000, message.initiator)
        real(live, wrong.encode())  # type: ignore[arg-type]

    relay.rendezvous._send = send  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "meddle", [_drop_introductions, _delay_introductions, _double_introductions, _mislead_introductions]
)
async def test_a_coordinator_that_meddles_with_introductions(
    meddle: Callable[[Member, trio.Nursery], None], autojump_clock: trio.testing.MockClock
) -> None:
    """What the two ends tell each other inside their session is enough."""
    async with open_lab() as lab, trio.open_nursery() as nursery:
        for relay in lab.relays:
            meddle(relay, nursery)
        await lab.connect()
        await works(lab)
        assert await lab.direct_within(10.0) is not None
        await trio.sleep(8.0)
        assert lab.is_direct()
        lab.check_clean()
        await works(lab)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("hidden", [NodeConfig(traversal=TraversalConfig(enabled=False)), NodeConfig(direct=False)])
async def test_nobody_is_told_where_a_node_is_that_stays_on_relays(
    hidden: NodeConfig, autojump_clock: trio.testing.MockClock
) -> None:
    """A coordinator sees the address of every neighbor; those that take no part keep it from all others."""
    async with open_lab(config_a=MANUAL, config_b=hidden) as lab:
        relay = lab.relays[0]
        told: list[object] = []
        lab.a.rendezvous._on_introduce = lambda live, message: told.append(message)  # type: ignore[method-assign]
        seen = relay.peer(lab.a).live
        assert seen is not None
        assert seen.session.path is not None
        reflex = seen.session.path.address
        assert reflex is not None
        say(lab.a, relay, PunchRequest(bytes(8), lab.b.node.peer_id, reflex))
        await trio.sleep(2)
        assert told == []
        assert relay.rendezvous._coordinator.introduced == 0
        assert relay.rendezvous._coordinator.rejected[RejectReason.UNKNOWN_REFLEX] == 1
