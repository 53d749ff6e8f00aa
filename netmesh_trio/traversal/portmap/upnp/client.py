"""The UPnP client: mappings of an IPv4 router, pinholes in the firewall of an IPv6 one."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..mapping import Gateway, PortMapCause, PortMapError, PortMapping, PortMapProtocol, RouterStatus
from .connections import Connections
from .control import ControlPoint, OpenSocket, failure
from .description import Service
from .pinholes import Pinholes

__all__ = ["UpnpClient"]

T = TypeVar("T")

_CALL_TIMEOUT = 8.0  # seconds for all that one call of the client does

#: After these the router is searched again: it has another port since a restart, or uses another connection.
_STALE = (PortMapCause.NETWORK_FAILURE, PortMapCause.TIMEOUT, PortMapCause.MALFORMED)


class UpnpClient:
    """UPnP towards one router; see :class:`~netmesh_trio.traversal.portmap.PortMapClient`.

    :param open_socket: makes a socket of a family and a kind, as :func:`socket.socket` does.
    """

    protocol: PortMapProtocol = "upnp"

    def __init__(self, gateway: Gateway, *, open_socket: OpenSocket = socket.socket) -> None:
        self.gateway = gateway
        self._control = ControlPoint(gateway, open_socket)
        self._asks = Pinholes(gateway, self._control) if gateway.family == 6 else Connections(gateway, self._control)
        self._service: Service | None = None
        self._name = ""

    async def status(self) -> RouterStatus:
        """Find the router, and ask whether it is connected and what its outside address is."""

        async def ask(service: Service) -> RouterStatus:
            external = await self._asks.external(service)
            return RouterStatus(protocol="upnp", external=external, description=self._name)

        return await self._with_service(ask)

    async def map(
        self, *, internal_port: int, external_port: int, lifetime: float, previous: PortMapping | None = None
    ) -> PortMapping:
        """Ask for a mapping, or renew ``previous``.

        The port that is wanted is asked for first, then any other.  A router that gives no leases gives a mapping that
        stays until it is removed.  One that has the mapping in its table for another host, or disabled, or not at all,
        has not granted it.
        """

        async def ask(service: Service) -> PortMapping:
            return await self._asks.map(service, internal_port, external_port or internal_port, lifetime, previous)

        return await self._with_service(ask)

    async def unmap(self, mapping: PortMapping | None = None) -> None:
        """Remove a mapping; None is what requests that failed or were cancelled may have left behind.

        A mapping that by now is another host's stays.
        """
        if mapping is None and not self._asks.in_doubt:
            return

        async def ask(service: Service) -> None:
            if mapping is None:
                await self._asks.settle(service)
            else:
                await self._asks.unmap(service, mapping)

        await self._with_service(ask)

    async def _with_service(self, ask: Callable[[Service], Awaitable[T]]) -> T:
        """Ask the service in use; if it is not what it was, search the router again and ask once more."""
        try:
            with trio.fail_after(_CALL_TIMEOUT):
                if self._service is not None:
                    try:
                        return await ask(self._service)
                    except PortMapError as error:
                        if error.cause not in _STALE:
                            raise
                        self._service = None
                self._service = await self._find()
                return await ask(self._service)
        except trio.TooSlowError:
            raise failure(PortMapCause.TIMEOUT, "the router answers too slowly") from None

    async def _find(self) -> Service:
        """The first service of the router that can do what is asked for."""
        description = await self._control.find(pinholes=self._asks.pinholes)
        self._name = description.name
        error: PortMapError | None = None
        for service in description.services:
            if service.opens_pinholes is self._asks.pinholes:
                try:
                    await self._asks.check(service)
                    return service
                except PortMapError as cause:
                    error = error or cause
        assert error is not None  # there was a service to check
        raise error
