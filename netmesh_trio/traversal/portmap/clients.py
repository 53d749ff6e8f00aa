"""Clients of the two protocols that take a few datagrams each: PCP and NAT-PMP."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...addresses import Address
from ...wire.errors import DecodeError
from . import natpmp, pcp
from .exchange import Bind, ask
from .mapping import (
    MAX_LIFETIME,
    Gateway,
    PortMapCause,
    PortMapError,
    PortMapping,
    PortMapProtocol,
    RouterStatus,
)

__all__ = ["MIN_LIFETIME", "NatPmpClient", "PcpClient", "check_grant"]

MIN_LIFETIME = 2.0
"""Seconds.  A router that grants less would have us ask all the time."""

# What a router says to this may have left a mapping, or not.
_IN_DOUBT = frozenset((PortMapCause.TIMEOUT, PortMapCause.MALFORMED))


def check_grant(protocol: PortMapProtocol, external: Address, lifetime: float) -> float:
    """The lifetime of a mapping that a router granted.  Raises PortMapError if there is no sense in it."""
    if not external.port or not external.is_unicast:
        if Address(external.host, 0).is_unspecified:
            raise PortMapError(PortMapCause.NETWORK_FAILURE, protocol, "the router has no outside address now")
        raise PortMapError(PortMapCause.MALFORMED, protocol, f"the router grants {external}")
    if lifetime < MIN_LIFETIME:
        raise PortMapError(PortMapCause.MALFORMED, protocol, f"the router grants {lifetime:g} s")
    return min(lifetime, MAX_LIFETIME)


def _seconds(lifetime: float) -> int:
    return max(1, math.ceil(min(lifetime, MAX_LIFETIME)))


class NatPmpClient:
    """A :class:`~netmesh_trio.traversal.portmap.PortMapClient` of NAT-PMP (RFC 6886); for IPv4."""

    protocol: PortMapProtocol = "nat-pmp"

    def __init__(self, bind: Bind, gateway: Gateway) -> None:
        self._bind = bind
        self.gateway = gateway
        self._in_doubt: int | None = None

    async def status(self) -> RouterStatus:
        """See :class:`~netmesh_trio.traversal.portmap.PortMapClient`."""
        answer = await self._ask(natpmp.ADDRESS_REQUEST, natpmp.read_address_answer_untrusted)
        return RouterStatus(protocol=self.protocol, external=answer.external, epoch=answer.epoch)

    async def map(
        self, *, internal_port: int, external_port: int, lifetime: float, previous: PortMapping | None = None
    ) -> PortMapping:
        """See :class:`~netmesh_trio.traversal.portmap.PortMapClient`."""
        address = await self._ask(natpmp.ADDRESS_REQUEST, natpmp.read_address_answer_untrusted)
        wanted = external_port if previous is None else previous.external.port
        self._in_doubt = internal_port
        try:
            answer = await self._ask_map(internal_port, wanted, _seconds(lifetime))
        except PortMapError as error:
            if error.cause not in _IN_DOUBT:
                self._in_doubt = None
            raise
        external = Address(address.external, answer.external_port)
        granted = check_grant(self.protocol, external, answer.lifetime)
        self._in_doubt = None
        return PortMapping(
            protocol=self.protocol,
            gateway=self.gateway,
            internal=Address(self.gateway.local, internal_port),
            external=external,
            lifetime=granted,
            epoch=answer.epoch,
        )

    async def unmap(self, mapping: PortMapping | None = None) -> None:
        """See :class:`~netmesh_trio.traversal.portmap.PortMapClient`."""
        port = self._in_doubt if mapping is None else mapping.internal.port
        if port is not None:
            await self._ask_map(port, 0, 0)
            self._in_doubt = None

    async def _ask(self, request: bytes, read: Callable[[bytes], natpmp.AddressAnswer]) -> natpmp.AddressAnswer:
        return await ask(self._bind, self.gateway, natpmp.PORT, self.protocol, request, read)

    async def _ask_map(self, internal_port: int, external_port: int, lifetime: int) -> natpmp.MapAnswer:
        def read(data: bytes) -> natpmp.MapAnswer:
            answer = natpmp.read_map_answer_untrusted(data)
            if answer.internal_port != internal_port or (not lifetime and answer.lifetime):
                raise DecodeError("an answer to another request")
            return answer

        request = natpmp.encode_map_request(internal_port, external_port, lifetime)
        return await ask(self._bind, self.gateway, natpmp.PORT, self.protocol, request, read)


class PcpClient:
    """A :class:`~netmesh_trio.traversal.portmap.PortMapClient` of PCP (RFC 6887), for IPv4 and for IPv6 pinholes.

    ``nonce`` gives the 12 bytes that prove to the router whose the mapping of an inside address is; others must not be
    able to guess them.  If they stay the same, a program that was killed takes up its mapping when it is started again.
    """

    protocol: PortMapProtocol = "pcp"

    def __init__(self, bind: Bind, gateway: Gateway, nonce: Callable[[Address], bytes]) -> None:
        self._bind = bind
        self.gateway = gateway
        self._nonce = nonce
        self._in_doubt: int | None = None

    async def status(self) -> RouterStatus:
        """See :class:`~netmesh_trio.traversal.portmap.PortMapClient`."""
        request = pcp.encode_announce_request(self.gateway.local)
        epoch = await ask(
            self._bind, self.gateway, natpmp.PORT, self.protocol, request, pcp.read_announce_answer_untrusted
        )
        return RouterStatus(protocol=self.protocol, epoch=epoch)

    async def map(
        self, *, internal_port: int, external_port: int, lifetime: float, previous: PortMapping | None = None
    ) -> PortMapping:
        """See :class:`~netmesh_trio.traversal.portmap.PortMapClient`."""
        self._in_doubt = internal_port
        seconds = _seconds(lifetime)
        try:
            if previous is None:
                any_host = "::" if self.gateway.family == 6 else "0.0.0.0"
                answer = await self._ask_map(internal_port, seconds, Address(any_host, external_port))
            else:
                answer = await self._renew(internal_port, seconds, previous.external)
        except PortMapError as error:
            if error.cause not in _IN_DOUBT:
                self._in_doubt = None
            raise
        granted = check_grant(self.protocol, answer.external, answer.lifetime)
        self._in_doubt = None
        return PortMapping(
            protocol=self.protocol,
            gateway=self.gateway,
            internal=Address(self.gateway.local, internal_port),
            external=answer.external,
            lifetime=granted,
            epoch=answer.epoch,
        )

    async def unmap(self, mapping: PortMapping | None = None) -> None:
        """See :class:`~netmesh_trio.traversal.portmap.PortMapClient`."""
        port = self._in_doubt if mapping is None else mapping.internal.port
        if port is not None:
            await self._ask_map(port, 0, None)
            self._in_doubt = None

    async def _renew(self, internal_port: int, seconds: int, external: Address) -> pcp.MapAnswer:
        """The outside address is known to others: the same or none, and only then another."""
        try:
            return await self._ask_map(internal_port, seconds, external, prefer_failure=True)
        except pcp.PcpRefusal as refusal:
            if refusal.result != pcp.CANNOT_PROVIDE_EXTERNAL and refusal.result not in pcp.OPTION_RESULTS:
                raise
        return await self._ask_map(internal_port, seconds, external)

    async def _ask_map(
        self, internal_port: int, seconds: int, suggested: Address | None, *, prefer_failure: bool = False
    ) -> pcp.MapAnswer:
        nonce = self._nonce(Address(self.gateway.local, internal_port))

        def read(data: bytes) -> pcp.MapAnswer:
            answer = pcp.read_map_answer_untrusted(data, nonce, internal_port)
            if not seconds and answer.lifetime:
                raise DecodeError("an answer to an earlier request")
            return answer

        request = pcp.encode_map_request(
            self.gateway.local, nonce, internal_port, seconds, suggested, prefer_failure=prefer_failure
        )
        return await ask(self._bind, self.gateway, natpmp.PORT, self.protocol, request, read)
