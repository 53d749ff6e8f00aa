"""Mappings of a router's IPv4 connection to the Internet: WANIPConnection:1 and :2, WANPPPConnection:1."""

from __future__ import annotations

import ipaddress
import random

import attrs

from ....addresses import Address
from ..mapping import Gateway, PortMapCause, PortMapping
from .attempts import (
    Attempt,
    Entry,
    Owner,
    after_fault,
    cause_of,
    first_attempt,
    granted_lifetime,
    number,
    owner_of,
)
from .control import ControlPoint, failure
from .description import Service
from .soap import Fault

__all__ = ["Connections"]

_NAME = "netmesh-trio"  # in the router's table, for people
_MAX_ENTRIES = 32  # of the router's table, looked through for a mapping of ours


@attrs.frozen
class _Doubt:
    """A request whose outcome is not known."""

    internal_port: int
    external_port: int | None
    """None if the router chose it."""


class Connections:
    """What is asked of a connection to the Internet, and what is remembered of the answers."""

    pinholes = False

    def __init__(self, gateway: Gateway, control: ControlPoint) -> None:
        self._gateway = gateway
        self._control = control
        self._chance = random.Random()
        self._only_permanent = False
        self._doubts: set[_Doubt] = set()

    @property
    def in_doubt(self) -> bool:
        """Whether something may be left of a request that failed or was cancelled."""
        return bool(self._doubts)

    async def check(self, service: Service) -> None:
        """Whether it is connected; a router that does not tell is taken to be."""
        answer = await self._control.call(service, "GetStatusInfo", {})
        if isinstance(answer, dict):
            status = answer.get("NewConnectionStatus", "")
            if status.lower() not in ("connected", "up"):
                raise failure(PortMapCause.NETWORK_FAILURE, "the router is not connected to the Internet")

    async def external(self, service: Service) -> str:
        """The outside address."""
        answer = await self._control.require(service, "GetExternalIPAddress", {})
        text = answer.get("NewExternalIPAddress", "")
        if text in ("", "0.0.0.0"):
            raise failure(PortMapCause.NETWORK_FAILURE, "the router has no outside address")
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise failure(PortMapCause.MALFORMED, "the router's outside address is none") from None

    async def map(
        self, service: Service, internal_port: int, external_port: int, lifetime: float, previous: PortMapping | None
    ) -> PortMapping:
        """Ask until a mapping is granted and the router has it in its table, or nothing is left to ask for."""
        external = await self.external(service)
        attempt = first_attempt(
            external_port if previous is None else previous.external.port,
            lifetime,
            version=service.version,
            only_permanent=self._only_permanent,
            chance=self._chance,
        )
        while isinstance(outcome := await self._try(service, attempt, internal_port), Fault):
            following = after_fault(attempt, outcome.code, internal_port)
            if following is None:
                raise failure(cause_of(outcome.code), str(outcome))
            attempt = following
        port, granted = outcome
        self._only_permanent = attempt.lease == 0
        self._doubts.discard(_doubt(attempt, internal_port))
        return PortMapping(
            protocol="upnp",
            gateway=self._gateway,
            internal=Address(self._gateway.local, internal_port),
            external=Address(external, port),
            lifetime=granted,
        )

    async def _try(self, service: Service, attempt: Attempt, internal_port: int) -> tuple[int, float] | Fault:
        """Ask for one mapping; the outside port and the lifetime granted."""
        owner = Owner.UNKNOWN
        if not attempt.any_port:
            # Some routers let one host take away the port of another.
            owner = owner_of(await self._entry(service, attempt.external_port), self._gateway.local, internal_port)
            if owner is Owner.ANOTHER:
                return Fault(718, "the port is another's")
        answer = await self._add(service, attempt, internal_port)
        if isinstance(answer, Fault) and answer.code == 718 and owner is Owner.OURS:
            # Some do not renew what is there.
            await self._delete(service, attempt.external_port, internal_port)
            answer = await self._add(service, attempt, internal_port)
        if isinstance(answer, Fault):
            return answer
        port: int | None = attempt.external_port
        if attempt.any_port:
            port = number(answer.get("NewReservedPort", ""))
        if port is None or not 0 < port < 65536:
            raise failure(PortMapCause.MALFORMED, "the port that the router reserved is none")
        entry = await self._entry(service, port)
        owner = owner_of(entry, self._gateway.local, internal_port)
        if owner is Owner.ANOTHER:
            self._doubts.discard(_doubt(attempt, internal_port))
            return Fault(718, "the port is another's")
        if owner is Owner.NOBODY:
            raise failure(PortMapCause.MALFORMED, "the router agrees to a mapping, and then has none")
        if isinstance(entry, Entry) and not entry.enabled:
            raise failure(PortMapCause.REFUSED, "the router keeps the mapping disabled")
        return port, granted_lifetime(attempt.lease, entry)

    async def _add(self, service: Service, attempt: Attempt, internal_port: int) -> dict[str, str] | Fault:
        doubt = _doubt(attempt, internal_port)
        self._doubts.add(doubt)
        answer = await self._control.call(
            service,
            "AddAnyPortMapping" if attempt.any_port else "AddPortMapping",
            {
                **_key(attempt.external_port),
                "NewInternalPort": internal_port,
                "NewInternalClient": self._gateway.local,
                "NewEnabled": 1,
                "NewPortMappingDescription": _NAME,
                "NewLeaseDuration": attempt.lease,
            },
        )
        if isinstance(answer, Fault):
            self._doubts.discard(doubt)
        return answer

    async def _entry(self, service: Service, external_port: int) -> Entry | Fault:
        answer = await self._control.call(service, "GetSpecificPortMappingEntry", _key(external_port))
        return answer if isinstance(answer, Fault) else Entry.of(answer)

    # Removing

    async def unmap(self, service: Service, mapping: PortMapping) -> None:
        """Remove a mapping, unless by now it is another's."""
        await self._delete(service, mapping.external.port, mapping.internal.port)

    async def settle(self, service: Service) -> None:
        """Remove what is in doubt."""
        for doubt in tuple(self._doubts):
            if doubt.external_port is not None:
                ports = [doubt.external_port]
            else:
                ports = await self._our_ports(service, doubt.internal_port)
            for port in ports:
                await self._delete(service, port, doubt.internal_port)
            self._doubts.discard(doubt)

    async def _delete(self, service: Service, external_port: int, internal_port: int) -> None:
        owner = owner_of(await self._entry(service, external_port), self._gateway.local, internal_port)
        if owner in (Owner.ANOTHER, Owner.NOBODY):
            return
        answer = await self._control.call(service, "DeletePortMapping", _key(external_port))
        if isinstance(answer, Fault) and answer.code != 714:
            raise failure(cause_of(answer.code), f"DeletePortMapping: {answer}")

    async def _our_ports(self, service: Service, internal_port: int) -> list[int]:
        """The outside ports that the router's table has for us."""
        found = []
        for index in range(_MAX_ENTRIES):
            answer = await self._control.call(service, "GetGenericPortMappingEntry", {"NewPortMappingIndex": index})
            if isinstance(answer, Fault):  # 713: that was the last
                break
            port = number(answer.get("NewExternalPort", ""))
            entry = Entry.of(answer)
            ours = owner_of(entry, self._gateway.local, internal_port) is Owner.OURS and entry.description == _NAME
            if port and ours and answer.get("NewProtocol", "").upper() == "UDP":
                found.append(port)
        return found


def _doubt(attempt: Attempt, internal_port: int) -> _Doubt:
    return _Doubt(internal_port, None if attempt.any_port else attempt.external_port)


def _key(external_port: int) -> dict[str, str | int]:
    """What names a mapping: anybody may send to that UDP port."""
    return {"NewRemoteHost": "", "NewExternalPort": external_port, "NewProtocol": "UDP"}
