"""How long a NAT remembers, found out in virtual time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address, PeerId
from netmesh_trio.node.bindings import BindingHelper, Bindings
from netmesh_trio.testing import NatBehavior
from netmesh_trio.traversal.reflex import Help, HelperBudgets, HelpRequest
from tests.traversal_node.nat_lab import NatLab, classifying, open_nat_lab, reflexes, session


async def known(lab: NatLab) -> None:
    with trio.fail_after(1000):
        while not classifying(lab.node).bindings.known.is_set():
            await trio.sleep(1)


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("mapping", ["endpoint-independent", "address-and-port-dependent"])
@pytest.mark.parametrize(
    ("lifetime", "survives", "gone", "keep_alive"),
    [(10, 7.5, 15, 5.625), (20, 15, 30, 11.25), (90, 60, 120, 25), (600, 300, None, 25)],
)
async def test_lifetime(
    autojump_clock: MockClock,
    lifetime: float,
    survives: float,
    gone: float | None,
    keep_alive: float,
    mapping: str,
    inbound: bool,
) -> None:
    behavior = NatBehavior(mapping=mapping, lifetime=lifetime, inbound_refresh=inbound)
    async with open_nat_lab(behavior) as lab:
        assert lab.node.nat_report.binding_lifetime is None
        await known(lab)
        report = lab.node.nat_report
        assert (report.binding_survives, report.binding_lifetime) == (survives, gone)
        await trio.sleep(60)
        assert session(lab.node, lab.relays[0]).keep_alive == keep_alive
        # nothing is left of the search, and the node is reached after a long silence
        assert not classifying(lab.node).bindings._trials
        assert len(lab.host._sockets) == 1
        await trio.sleep(100)
        before = session(lab.relays[0], lab.node)
        await lab.relays[0].probe_reflex(lab.node.peer_id)
        assert session(lab.relays[0], lab.node) is before


async def test_a_search_in_which_nobody_could_help_goes_on_soon(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[float] = []
    find = Bindings._find

    async def fail_twice(bindings: Bindings) -> bool:
        if bindings is not classifying(lab.node).bindings:
            return await find(bindings)
        attempts.append(trio.current_time())
        return len(attempts) > 2 and await find(bindings)

    monkeypatch.setattr(Bindings, "_find", fail_twice)
    async with open_nat_lab(NatBehavior(mapping="endpoint-independent", lifetime=90)) as lab:
        await known(lab)
        assert len(attempts) == 3
        assert attempts[-1] - attempts[0] < 60
        assert lab.node.nat_report.binding_survives == 60


async def test_nobody_is_asked_without_a_nat(autojump_clock: MockClock) -> None:
    async with open_nat_lab(None, strangers=1) as lab:
        await trio.sleep(700)
        assert not classifying(lab.node).bindings.known.is_set()
        assert lab.node.nat_report.binding_survives is None


async def test_another_network_is_examined_anew(autojump_clock: MockClock) -> None:
    async with open_nat_lab(NatBehavior(lifetime=20)) as lab:
        await known(lab)
        first = classifying(lab.node).bindings.known
        lab.host.roam(lab.net.nat("other", "port-restricted", lifetime=200))
        await lab.until(lambda: classifying(lab.node).bindings.known is not first, 200)
        assert lab.node.nat_report.binding_lifetime is None
        await known(lab)
        assert lab.node.nat_report.binding_lifetime == 300
        assert session(lab.node, lab.relays[0]).keep_alive == 25


async def test_packets_get_lost(autojump_clock: MockClock) -> None:
    async with open_nat_lab(NatBehavior(lifetime=90), seed=5) as lab:
        lab.host.link.loss = 0.05
        await known(lab)
        assert lab.node.nat_report.binding_lifetime == 120


class Helper:
    """A helper's part without a node, and what it sends."""

    def __init__(self) -> None:
        self.now = 0.0
        self.canaries: list[object] = []
        self.answers: list[object] = []
        engine: Any = SimpleNamespace(
            now=lambda: self.now,
            send_packet=lambda _packet, key, _via: self.canaries.append(key),
            send_control=lambda live, *_: self.answers.append(live),
        )
        self.helper = BindingHelper(engine, HelperBudgets())

    @staticmethod
    def session(number: int) -> Any:
        peer = SimpleNamespace(peer_id=PeerId(number.to_bytes(32, "big")))
        return SimpleNamespace(peer=peer, household=peer.peer_id)

    def ask(self, live: Any, token: int, what: Help = Help.BINDING) -> bool:
        return self.helper.on_request(live, AT, HelpRequest(token.to_bytes(8, "big"), what))

    def canary(self, token: int, source: Address) -> bool:
        return self.helper.on_canary_untrusted(token.to_bytes(8, "big"), 0, source)


AT = Address("198.51.100.1", 1000)


def test_a_helper_watches_two_sockets_of_each_for_ten_minutes() -> None:
    helper = Helper()
    live = helper.session(1)
    assert all(helper.ask(live, token) for token in range(5))
    assert len(helper.helper._watched) == 2
    helper.now = 601.0
    assert helper.ask(helper.session(2), 10)
    assert len(helper.helper._watched) == 1


def test_a_helper_sends_to_nobody_but_who_asked() -> None:
    helper = Helper()
    live, other = helper.session(1), helper.session(2)
    helper.ask(live, 1)
    # the canary came from elsewhere
    assert helper.canary(1, Address("198.51.100.66", 1000))
    assert helper.answers == []
    assert not helper.ask(live, 1, Help.REVISIT)
    source = Address(AT.host, 2000)
    assert helper.canary(1, source)
    assert helper.answers == [live]
    assert not helper.ask(other, 1, Help.REVISIT)
    assert helper.canaries == []
    assert helper.ask(live, 1, Help.REVISIT)
    assert helper.canaries == [(0, source)]


def test_a_flood_of_canaries_is_answered_within_a_budget() -> None:
    helper = Helper()
    helper.ask(helper.session(1), 1)
    assert all(helper.canary(1, AT) for _ in range(100))
    assert len(helper.answers) == 32


async def test_what_a_helper_watches_is_bounded(autojump_clock: MockClock) -> None:
    async with open_nat_lab() as lab:
        await known(lab)
        assert all(len(reflexes(relay)._binding_helper._watched) <= 2 for relay in lab.relays)
        assert sum(relay.statistics().canaries_sent for relay in lab.relays) < 40
