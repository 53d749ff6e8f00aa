"""Asking peers where they see a node, and what they do for each other, in virtual time."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, Identity, NodeClosedError, NodeConfig, PeerId, TraversalConfig
from netmesh_trio.node.network import UdpSocket
from netmesh_trio.testing import DROP, Packet, Verdict
from netmesh_trio.traversal import (
    PeerNotReachableError,
    ReflexTimeoutError,
    TransportError,
    TraversalError,
    UnsupportedError,
)
from netmesh_trio.traversal.reflex import CanaryOrder, Help, HelpRequest, ReflexAnswer, ReflexRequest
from netmesh_trio.wire import frames
from tests.traversal_node.nat_lab import config_of, open_nat_lab, reflexes, session


async def test_a_peer_says_where_it_sees_us(autojump_clock: MockClock) -> None:
    async with open_nat_lab("symmetric") as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        seen = [await lab.node.probe_reflex(relay.peer_id) for relay in lab.relays]
        assert seen == [session(relay, lab.node).path.address for relay in lab.relays]  # type: ignore[union-attr]
        assert seen[0] != seen[1]
        assert await lab.node.probe_reflex(str(lab.relays[0].peer_id)) == seen[0]


async def test_many_probes_at_once_are_matched(autojump_clock: MockClock) -> None:
    async with open_nat_lab("symmetric") as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        found: list[tuple[PeerId, Address]] = []

        async def probe(peer_id: PeerId) -> None:
            found.append((peer_id, await lab.node.probe_reflex(peer_id)))

        async with trio.open_nursery() as nursery:
            for relay in lab.relays * 5:
                nursery.start_soon(probe, relay.peer_id)
        assert len(found) == 10
        assert len(set(found)) == 2


async def test_no_session(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await lab.node.wait_connected()
        with pytest.raises(PeerNotReachableError, match="connect"):
            await lab.node.probe_reflex(Identity.generate().peer_id)


async def test_no_answer(autojump_clock: MockClock) -> None:
    async with open_nat_lab(config=config_of(reflex_timeout=2.0)) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(5)
        lab.net.block(lab.host, lab.net.hosts["r0"])
        then = trio.current_time()
        with pytest.raises(ReflexTimeoutError) as caught:
            await lab.node.probe_reflex(lab.relays[0].peer_id)
        assert caught.value.kind == "reflex-timeout"
        assert trio.current_time() - then == pytest.approx(2.0)
        assert not reflexes(lab.node)._waiting


async def test_a_lossy_line(autojump_clock: MockClock) -> None:
    async with open_nat_lab(seed=3) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        lab.host.link.loss = 0.25
        for _ in range(10):
            await lab.node.probe_reflex(lab.relays[0].peer_id)


async def test_a_late_answer_is_not_taken_for_a_later_probe(autojump_clock: MockClock) -> None:
    async with open_nat_lab(config=config_of(reflex_timeout=0.5)) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(10)
        relay = lab.relays[0]
        true = await lab.node.probe_reflex(relay.peer_id)
        wrong = Address("203.0.113.99", 9)
        # a relay that answers each question late, and with something else the first time
        send = relay._engine.send_control
        held: list[bytes] = []

        def hold(live: object, subprotocol: int, payload: bytes) -> bool:
            if subprotocol == frames.SUBPROTOCOL_REFLEX and len(payload) == 27:
                held.append(payload)
                return True
            return send(live, subprotocol, payload)  # type: ignore[arg-type]

        relay._engine.send_control = hold  # type: ignore[method-assign]
        with pytest.raises(ReflexTimeoutError):
            await lab.node.probe_reflex(relay.peer_id)
        live = relay._engine.direct_session(lab.node.peer_id)
        assert live is not None
        before = lab.stats().reflex_unmatched
        found: list[Address] = []

        async def again() -> None:
            found.append(await lab.node.probe_reflex(relay.peer_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(again)
            await trio.sleep(0.1)
            old, new = held[0], held[-1]
            assert old[:8] != new[:8]
            send(live, frames.SUBPROTOCOL_REFLEX, ReflexAnswer(wrong, old[:8]).encode())
            send(live, frames.SUBPROTOCOL_REFLEX, ReflexAnswer(wrong).encode())
            await trio.sleep(0.1)
            assert not found
            send(live, frames.SUBPROTOCOL_REFLEX, new)
        assert found == [true]
        assert lab.stats().reflex_unmatched == before + 2


async def test_an_answer_of_another_peer_counts_for_nothing(autojump_clock: MockClock) -> None:
    async with open_nat_lab(config=config_of(reflex_timeout=0.5)) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(10)
        honest, liar = lab.relays
        true = await lab.node.probe_reflex(honest.peer_id)
        live = liar._engine.direct_session(lab.node.peer_id)
        assert live is not None
        async with trio.open_nursery() as nursery:

            async def probe() -> None:
                assert await lab.node.probe_reflex(honest.peer_id) == true

            nursery.start_soon(probe)
            await trio.sleep(0.001)
            [token] = reflexes(lab.node)._waiting
            lie = ReflexAnswer(Address("203.0.113.99", 9), token).encode()
            liar._engine.send_control(live, frames.SUBPROTOCOL_REFLEX, lie)


async def test_a_relayed_session_shows_no_address(autojump_clock: MockClock) -> None:
    quiet = NodeConfig(traversal=TraversalConfig(auto_direct_upgrade=False))
    async with open_nat_lab("symmetric", strangers=1, config=quiet) as lab:
        await lab.node.wait_connected()
        peer = await lab.node.connect(lab.relays[-1].peer_id)
        assert peer.path is not None
        assert peer.path.via is not None
        with pytest.raises(TransportError, match="relay"):
            await lab.node.probe_reflex(peer.peer_id)


async def test_a_node_without_traversal(autojump_clock: MockClock) -> None:
    off = config_of(enabled=False)
    async with open_nat_lab(config=off, relay_configs=[None, off]) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(5)
        with pytest.raises(UnsupportedError, match="this node"):
            await lab.node.probe_reflex(lab.relays[0].peer_id)
        with pytest.raises(UnsupportedError, match=lab.node.peer_id.short):
            await lab.relays[0].probe_reflex(lab.node.peer_id)
        assert lab.node.nat_type.value == "unknown"
        assert lab.node.reflex_addr is None
        assert await lab.node.reclassify_nat() is lab.node.nat_type
        announced = lab.relays[0]._store.get(lab.node.peer_id)
        assert announced is not None
        assert announced.tags[:2] == ("nat:unknown", "relay-capable")
        assert "nat-traversal" not in announced.tags


async def test_a_closed_node(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await lab.node.wait_connected()
    with pytest.raises(NodeClosedError):
        await lab.node.probe_reflex(lab.relays[0].peer_id)
    with pytest.raises(NodeClosedError):
        await lab.node.reclassify_nat()


async def test_both_forms_are_answered(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(5)
        engine = lab.node._engine
        got: list[bytes] = []
        dispatch = engine.dispatch_control

        def watch(live: object, event: object) -> None:
            got.append(event.payload)  # type: ignore[attr-defined]
            dispatch(live, event)  # type: ignore[arg-type]

        engine.dispatch_control = watch  # type: ignore[method-assign]
        live = engine.direct_session(lab.relays[0].peer_id)
        assert live is not None
        for request in (ReflexRequest(), ReflexRequest(b"12345678")):
            engine.send_control(live, frames.SUBPROTOCOL_REFLEX, request.encode())
        for wrong in (b"1", bytes(20), bytes(300)):
            engine.send_control(live, frames.SUBPROTOCOL_REFLEX, wrong)
        await trio.sleep(0.2)
        seen = session(lab.relays[0], lab.node).path.address  # type: ignore[union-attr]
        assert seen is not None
        assert got == [seen.pack(), b"12345678" + seen.pack()]
        assert lab.relays[0].statistics().invalid_control == 3
        assert lab.relays[0].statistics().canaries_invalid == 0


async def test_canaries_and_what_was_declined_are_shown(autojump_clock: MockClock) -> None:
    async with open_nat_lab("full-cone", relays=2, strangers=1) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await lab.node.reclassify_nat(thorough=True)
        stats = lab.stats()
        assert stats.canaries_received == reflexes(lab.node).counters.canaries_received > 0
        relays = [relay.statistics() for relay in lab.relays]
        assert sum(relay.canaries_sent for relay in relays) > 0
        for relay in lab.relays[:2]:  # the node knows nobody else who could send one, and whom they do not know
            with suppress(TraversalError):
                await reflexes(relay).ask_for_canary(lab.node.peer_id, Help.OTHER_PEER)
        assert lab.stats().reflex_declined == reflexes(lab.node).counters.declined > stats.reflex_declined
        reflexes(lab.node)._on_canary_untrusted(b"no canary", 0, Address("203.0.113.7", 4650))
        assert lab.stats().canaries_invalid == 1


async def test_budgets_of_the_one_who_answers(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(20)
        relay = lab.relays[0]
        engine = lab.node._engine
        live = engine.direct_session(relay.peer_id)
        assert live is not None
        before = relay.statistics()
        for number in range(100):
            engine.send_control(live, frames.SUBPROTOCOL_REFLEX, ReflexRequest(bytes(7) + bytes((number,))).encode())
        await trio.sleep(1)
        after = relay.statistics()
        assert after.reflex_answered - before.reflex_answered == 32
        assert after.reflex_refused - before.reflex_refused == 68
        await trio.sleep(20)
        assert await lab.node.probe_reflex(relay.peer_id)


async def test_budgets_of_helpers(autojump_clock: MockClock) -> None:
    """Whoever asks for canaries gets few of them, at its own address, from sockets that are closed at once."""
    async with open_nat_lab("full-cone", strangers=1) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(30)
        relay, stranger = lab.relays[0], lab.relays[-1]
        engine = lab.node._engine
        live = engine.direct_session(relay.peer_id)
        assert live is not None
        open_now = most = 0
        bind = relay._engine.network.bind

        async def counted(host: str, port: int) -> UdpSocket:
            nonlocal open_now, most
            socket = await bind(host, port)
            close = socket.close

            def closed() -> None:
                nonlocal open_now
                open_now -= 1
                close()

            socket.close = closed  # type: ignore[method-assign]
            open_now += 1
            most = max(most, open_now)
            return socket

        relay._engine.network.bind = counted  # type: ignore[method-assign]
        before = relay.statistics(), stranger.statistics()
        for number in range(30):
            what = Help.OTHER_PORT if number % 2 else Help.OTHER_PEER
            message = HelpRequest(bytes(7) + bytes((number,)), what).encode()
            engine.send_control(live, frames.SUBPROTOCOL_REFLEX, message)
        await trio.sleep(2)
        assert relay.statistics().canaries_sent - before[0].canaries_sent == 4
        assert relay.statistics().reflex_refused - before[0].reflex_refused == 22
        assert stranger.statistics().canaries_sent - before[1].canaries_sent == 4
        assert (open_now, most) == (0, 1)
        assert not reflexes(relay)._orders


async def test_an_order_against_somebody(autojump_clock: MockClock) -> None:
    """A peer that names other hosts as targets gets 4 small packets in 10 s, and none to private addresses."""
    async with open_nat_lab(strangers=1) as lab:
        await lab.until(lambda: len(lab.node.peers()) == 2)
        await trio.sleep(30)
        relay = lab.relays[0]
        engine = lab.node._engine
        live = engine.direct_session(relay.peer_id)
        assert live is not None
        hit: list[Packet] = []

        def watch(packet: Packet) -> Verdict | None:
            if packet.destination.port == 53:
                hit.append(packet)
                return DROP
            return None

        lab.net.on_packet = watch
        for number in range(200):
            for host in (f"198.51.100.{number + 1}", f"192.168.1.{number + 1}", "127.0.0.1"):
                order = CanaryOrder(bytes(7) + bytes((number,)), Address(host, 53)).encode()
                engine.send_control(live, frames.SUBPROTOCOL_REFLEX, order)
        await trio.sleep(3)
        assert len(hit) == 4
        assert all(len(p.data) == 12 and p.destination.host.startswith("198.51.100.") for p in hit)
