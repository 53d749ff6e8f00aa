"""Pinholes, against a firewall in the form of a dictionary; the real one is in tests/kernel/test_upnp.py."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import attrs
import pytest

from netmesh_trio import Address
from netmesh_trio.traversal.portmap import Gateway, PortMapCause, PortMapError, PortMapping
from netmesh_trio.traversal.portmap.upnp.control import ControlPoint
from netmesh_trio.traversal.portmap.upnp.description import Service
from netmesh_trio.traversal.portmap.upnp.locations import Location
from netmesh_trio.traversal.portmap.upnp.pinholes import Pinholes
from netmesh_trio.traversal.portmap.upnp.soap import Fault

HERE = "2001:db8::2"
GATEWAY = Gateway("fe80::1", HERE, 2)
SERVICE = Service("urn:schemas-upnp-org:service:WANIPv6FirewallControl:1", Location("2001:db8::1", 80, "/fw"))
Answer = dict[str, str] | Fault


class Firewall(ControlPoint):
    """Keeps pinholes by name, and can be told to answer something else."""

    def __init__(self) -> None:
        super().__init__(GATEWAY, socket.socket)
        self.open: dict[str, dict[str, str | int]] = {}
        self.told: dict[str, Answer] = {}
        self.calls: list[str] = []

    async def call(self, service: Service, action: str, arguments: Mapping[str, str | int]) -> Answer:
        self.calls.append(action)
        if action in self.told:
            return self.told[action]
        name = str(arguments.get("UniqueID", ""))
        if action == "AddPinhole":
            same = [name for name, pinhole in self.open.items() if pinhole["InternalPort"] == arguments["InternalPort"]]
            name = same[0] if same else str(len(self.calls))
            self.open[name] = dict(arguments)
            return {"UniqueID": name}
        if action in ("UpdatePinhole", "DeletePinhole"):
            if name not in self.open:
                return Fault(704)
            if action == "DeletePinhole":
                del self.open[name]
            else:
                self.open[name]["LeaseTime"] = arguments["NewLeaseTime"]
        return {}


@pytest.fixture
def firewall() -> Firewall:
    return Firewall()


@pytest.fixture
def pinholes(firewall: Firewall) -> Pinholes:
    return Pinholes(GATEWAY, firewall)


async def opened(
    pinholes: Pinholes, previous: PortMapping | None = None, lifetime: float = 600, port: int = 4650
) -> PortMapping:
    return await pinholes.map(SERVICE, port, 1234, lifetime, previous)


async def test_open_keep_and_close(firewall: Firewall, pinholes: Pinholes) -> None:
    mapping = await opened(pinholes)
    assert mapping.internal == mapping.external == Address(HERE, 4650)
    assert mapping.lifetime == 600
    assert list(firewall.open.values()) == [
        {
            "RemoteHost": "",
            "RemotePort": 0,
            "InternalClient": HERE,
            "InternalPort": 4650,
            "Protocol": 17,
            "LeaseTime": 600,
        }
    ]
    assert (await opened(pinholes, mapping, 900)).lifetime == 900
    assert [pinhole["LeaseTime"] for pinhole in firewall.open.values()] == [900]
    assert firewall.calls == ["AddPinhole", "UpdatePinhole"]
    assert not pinholes.in_doubt
    await pinholes.unmap(SERVICE, mapping)
    assert firewall.open == {}
    await pinholes.unmap(SERVICE, mapping)


async def test_a_day_at_most(firewall: Firewall, pinholes: Pinholes) -> None:
    assert (await opened(pinholes, lifetime=1e9)).lifetime == 86400


async def test_one_that_was_forgotten_is_opened_again(firewall: Firewall, pinholes: Pinholes) -> None:
    mapping = await opened(pinholes)
    firewall.open.clear()
    again = await opened(pinholes, mapping)
    assert len(firewall.open) == 1
    await pinholes.unmap(SERVICE, again)
    assert firewall.open == {}


async def test_a_mapping_of_somebody_else_is_not_closed(firewall: Firewall, pinholes: Pinholes) -> None:
    await pinholes.unmap(SERVICE, attrs.evolve(await opened(pinholes), handle=None))
    assert len(firewall.open) == 1


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (Fault(606), PortMapCause.REFUSED),
        (Fault(701), PortMapCause.OUT_OF_RESOURCES),
        (Fault(702), PortMapCause.UNSUPPORTED),
        (Fault(703), PortMapCause.REFUSED),
        (Fault(705), PortMapCause.UNSUPPORTED),
        (Fault(708), PortMapCause.UNSUPPORTED),
        (Fault(0), PortMapCause.REFUSED),
        ({}, PortMapCause.MALFORMED),
        ({"UniqueID": "<evil>"}, PortMapCause.MALFORMED),
    ],
)
async def test_refusals(told: Answer, cause: PortMapCause, firewall: Firewall, pinholes: Pinholes) -> None:
    firewall.told["AddPinhole"] = told
    with pytest.raises(PortMapError) as caught:
        await opened(pinholes)
    assert caught.value.cause is cause
    assert pinholes.in_doubt is isinstance(told, dict)


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ({"FirewallEnabled": "1", "InboundPinholeAllowed": "1"}, None),
        ({}, None),
        (Fault(401), None),
        ({"FirewallEnabled": "0", "InboundPinholeAllowed": "1"}, PortMapCause.UNSUPPORTED),
        ({"FirewallEnabled": "1", "InboundPinholeAllowed": "0"}, PortMapCause.REFUSED),
    ],
)
async def test_whether_the_firewall_lets_them_be_opened(
    told: Answer, cause: PortMapCause | None, firewall: Firewall, pinholes: Pinholes
) -> None:
    firewall.told["GetFirewallStatus"] = told
    if cause is None:
        await pinholes.check(SERVICE)
        return
    with pytest.raises(PortMapError) as caught:
        await pinholes.check(SERVICE)
    assert caught.value.cause is cause


@pytest.mark.parametrize(("code", "gone"), [(704, True), (402, True), (606, False)])
async def test_refusals_to_close(code: int, gone: bool, firewall: Firewall, pinholes: Pinholes) -> None:
    mapping = await opened(pinholes)
    firewall.told["DeletePinhole"] = Fault(code)
    if gone:
        await pinholes.unmap(SERVICE, mapping)
    else:
        with pytest.raises(PortMapError, match=str(code)):
            await pinholes.unmap(SERVICE, mapping)


async def test_what_is_in_doubt_is_closed(firewall: Firewall, pinholes: Pinholes) -> None:
    firewall.told["AddPinhole"] = {"UniqueID": "unreadable"}
    with pytest.raises(PortMapError):
        await opened(pinholes)
    del firewall.told["AddPinhole"]
    firewall.open["77"] = {"InternalPort": 4650}  # it was opened all the same
    firewall.open["78"] = {"InternalPort": 4651}
    assert pinholes.in_doubt
    await pinholes.settle(SERVICE)
    assert firewall.open.keys() == {"78"}
    assert not pinholes.in_doubt
