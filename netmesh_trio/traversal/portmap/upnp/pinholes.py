"""Pinholes in the firewall of an IPv6 router: WANIPv6FirewallControl:1."""

from __future__ import annotations

import attrs

from ....addresses import Address
from ..mapping import Gateway, PortMapCause, PortMapping
from .attempts import MAX_PINHOLE_LEASE, cause_of, lease_of, number
from .control import ControlPoint, failure
from .description import Service
from .soap import Fault

__all__ = ["Pinholes"]

_UDP = 17  # IANA's number of the protocol


@attrs.frozen
class _Pinhole:
    """The name that the router gave one."""

    unique_id: str


class Pinholes:
    """What is asked of a firewall, and what is remembered of the answers."""

    pinholes = True

    def __init__(self, gateway: Gateway, control: ControlPoint) -> None:
        self._gateway = gateway
        self._control = control
        self._doubts: set[int] = set()  # inside ports

    @property
    def in_doubt(self) -> bool:
        """Whether something may be left of a request that failed or was cancelled."""
        return bool(self._doubts)

    async def check(self, service: Service) -> None:
        """Whether there is a firewall that lets pinholes be opened."""
        answer = await self._control.call(service, "GetFirewallStatus", {})
        if isinstance(answer, Fault):  # it is seen when a pinhole is asked for
            return
        if answer.get("FirewallEnabled") == "0":
            raise failure(PortMapCause.UNSUPPORTED, "the router's firewall is off")
        if answer.get("InboundPinholeAllowed") == "0":
            raise failure(PortMapCause.REFUSED, "the router allows no pinholes")

    async def external(self, service: Service) -> str | None:
        """None: a pinhole changes no address."""
        return None

    async def map(
        self, service: Service, internal_port: int, external_port: int, lifetime: float, previous: PortMapping | None
    ) -> PortMapping:
        """Open a pinhole, or keep ``previous`` open."""
        lease = lease_of(lifetime, MAX_PINHOLE_LEASE)
        pinhole = None
        if previous is not None and isinstance(previous.handle, _Pinhole):
            arguments: dict[str, str | int] = {"UniqueID": previous.handle.unique_id, "NewLeaseTime": lease}
            if not isinstance(await self._control.call(service, "UpdatePinhole", arguments), Fault):
                pinhole = previous.handle
        if pinhole is None:
            pinhole = await self._open(service, internal_port, lease)
        self._doubts.discard(internal_port)
        here = Address(self._gateway.local, internal_port)
        return PortMapping(
            protocol="upnp",
            gateway=self._gateway,
            internal=here,
            external=here,
            lifetime=float(lease),
            handle=pinhole,
        )

    async def _open(self, service: Service, internal_port: int, lease: int) -> _Pinhole:
        self._doubts.add(internal_port)
        answer = await self._control.call(
            service,
            "AddPinhole",
            {
                "RemoteHost": "",
                "RemotePort": 0,
                "InternalClient": self._gateway.local,
                "InternalPort": internal_port,
                "Protocol": _UDP,
                "LeaseTime": lease,
            },
        )
        if isinstance(answer, Fault):
            self._doubts.discard(internal_port)
            raise failure(cause_of(answer.code), f"AddPinhole: {answer}")
        unique_id = answer.get("UniqueID", "")
        if number(unique_id) is None:
            raise failure(PortMapCause.MALFORMED, "the pinhole has no number")
        return _Pinhole(unique_id)

    async def unmap(self, service: Service, mapping: PortMapping) -> None:
        """Close a pinhole."""
        if isinstance(mapping.handle, _Pinhole):
            await self._close(service, mapping.handle)

    async def settle(self, service: Service) -> None:
        """Close what is in doubt.  The same request gives the same pinhole, and thereby its name."""
        for internal_port in tuple(self._doubts):
            await self._close(service, await self._open(service, internal_port, 1))
            self._doubts.discard(internal_port)

    async def _close(self, service: Service, pinhole: _Pinhole) -> None:
        answer = await self._control.call(service, "DeletePinhole", {"UniqueID": pinhole.unique_id})
        # 704: there is none.  miniupnpd says 402 for the same.
        if isinstance(answer, Fault) and answer.code not in (402, 704):
            raise failure(cause_of(answer.code), f"DeletePinhole: {answer}")
