"""Talking to one router: searching it, fetching its description, calling its actions.  All of it within limits.

Whatever the router says, nothing is sent to anybody else: only datagrams from its own address are read, and every
connection goes to that address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping

import attrs
import trio

from ....wire.errors import DecodeError
from ..mapping import Gateway, PortMapCause, PortMapError
from .attempts import cause_of
from .description import Description, Service, read_description_untrusted
from .http import HttpAnswer, HttpExchange
from .locations import (
    MAX_ANSWER,
    MULTICAST_HOSTS,
    SEARCH_TARGETS,
    SSDP_PORT,
    Location,
    read_ssdp_answer_untrusted,
    ssdp_search,
)
from .soap import Fault, read_answer_untrusted, soap_call

__all__ = ["ControlPoint", "OpenSocket", "failure"]

#: Makes a socket of a family and a kind, as :func:`socket.socket` does.
OpenSocket = Callable[[int, int], socket.socket]

_EXCHANGE_TIMEOUT = 3.0  # seconds for one HTTP request
# Seconds after each round of searches.  An answer may take one (MX), and a datagram may get lost.
_SEARCH_WAITS = (0.5, 1.0, 1.5)
_MAX_DATAGRAMS = 256  # read in one search
_MAX_LOCATIONS = 4  # descriptions fetched in one search
_MAX_DESCRIPTION = 128 * 1024
_MAX_RESULT = 16 * 1024
_MULTICAST_HOPS = 2  # Device Architecture 1.1, 1.3.2


def failure(cause: PortMapCause, detail: str) -> PortMapError:
    """What to raise."""
    return PortMapError(cause, "upnp", detail)


class ControlPoint:
    """This host's end."""

    def __init__(self, gateway: Gateway, open_socket: OpenSocket) -> None:
        self._gateway = gateway
        self._open_socket = open_socket
        self._ip = ipaddress.ip_address(gateway.host.partition("%")[0])
        #: Datagrams that were no answer of the router's.
        self.ignored: int = 0

    # Searching

    async def find(self, *, pinholes: bool) -> Description:
        """Search the router until it shows a description with a service for port mappings, or for pinholes.

        :raises PortMapError: if it does not.
        """
        error = failure(PortMapCause.TIMEOUT, "the router does not answer searches")
        try:
            with await self._datagram_socket() as sock:
                search = _Search(sock)
                for wait in _SEARCH_WAITS:
                    await self._send_searches(sock)
                    end = trio.current_time() + wait
                    while (location := await self._next_location(search, end)) is not None:
                        try:
                            description = await self._describe(location)
                        except PortMapError as cause:
                            error = cause
                            continue
                        if any(service.opens_pinholes is pinholes for service in description.services):
                            return description
                        error = failure(PortMapCause.UNSUPPORTED, "the router describes no such service")
        except OSError as cause:
            raise failure(PortMapCause.NETWORK_FAILURE, str(cause)) from None
        raise error

    async def _datagram_socket(self) -> trio.socket.SocketType:
        gateway = self._gateway
        family = socket.AF_INET if gateway.family == 4 else socket.AF_INET6
        sock = trio.socket.from_stdlib_socket(self._open_socket(family, socket.SOCK_DGRAM))
        try:
            if gateway.family == 4:
                await sock.bind((gateway.local, 0))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(gateway.local))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _MULTICAST_HOPS)
            else:
                # To the wildcard, or else a router with a link-local address would answer from another one.
                await sock.bind(("::", 0))
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._scope())
        except BaseException:  # also when cancelled: nobody else will close it
            sock.close()
            raise
        return sock

    def _scope(self) -> int:
        scope = self._gateway.host.partition("%")[2]
        if self._gateway.interface or not scope:
            return self._gateway.interface
        return int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)

    def _sockaddr(self, host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        if self._gateway.family == 4:
            return host, port
        return host, port, 0, self._scope()

    async def _send_searches(self, sock: trio.socket.SocketType) -> None:
        family = self._gateway.family
        error: OSError | None = None
        sent = 0
        for target in SEARCH_TARGETS:
            for host in (str(self._ip), MULTICAST_HOSTS[family]):
                try:
                    await sock.sendto(ssdp_search(target, family), self._sockaddr(host, SSDP_PORT))
                    sent += 1
                except OSError as cause:  # not every interface takes multicast
                    error = cause
        if error is not None and not sent:
            raise error

    async def _next_location(self, search: _Search, end: float) -> Location | None:
        """Where the router says that its description is, if it says so until ``end``; each location once."""
        with trio.move_on_at(end):
            while search.datagrams < _MAX_DATAGRAMS and len(search.seen) < _MAX_LOCATIONS:
                search.datagrams += 1
                try:
                    datagram, source = await search.sock.recvfrom(MAX_ANSWER + 1)
                    location = self._location(datagram, source)
                except (OSError, DecodeError):  # an OSError is about a search that did not get there
                    self.ignored += 1
                    continue
                if location not in search.seen:
                    search.seen.add(location)
                    return location
            await trio.sleep_forever()
        return None

    def _location(self, datagram: bytes, source: tuple[str, int] | tuple[str, int, int, int]) -> Location:
        """What an answer says, if it is the router's."""
        if ipaddress.ip_address(source[0].partition("%")[0]) != self._ip:
            raise DecodeError("an answer of somebody else")
        location = read_ssdp_answer_untrusted(datagram)
        # For IPv6 the search went to the router's link-local address, and it tells its global one.  Connections go to
        # the former all the same, so only the family has to be right.
        if location.host != str(self._ip) and (self._gateway.family == 4 or ":" not in location.host):
            raise DecodeError("an answer that leads to somebody else")
        return location

    # Requests

    async def _describe(self, location: Location) -> Description:
        answer = await self._exchange(HttpExchange("GET", location, headers={}, max_body=_MAX_DESCRIPTION), location)
        if answer.status != 200:
            raise _refusal(answer.status)
        try:
            return read_description_untrusted(answer.body, location)
        except DecodeError as error:
            raise failure(PortMapCause.MALFORMED, str(error)) from None

    async def call(self, service: Service, action: str, arguments: Mapping[str, str | int]) -> dict[str, str] | Fault:
        """Call an action; its results by name, or why the router refused.

        :raises PortMapError: if it did neither.
        """
        exchange = HttpExchange(
            "POST",
            service.control,
            headers={"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.type}#{action}"'},
            body=soap_call(service.type, action, arguments),
            max_body=_MAX_RESULT,
        )
        answer = await self._exchange(exchange, service.control)
        if answer.status not in (200, 500):  # 500 is how faults come
            raise _refusal(answer.status)
        try:
            return read_answer_untrusted(answer.body, action)
        except DecodeError as error:
            raise failure(PortMapCause.MALFORMED, f"{action}: {error}") from None

    async def require(self, service: Service, action: str, arguments: Mapping[str, str | int]) -> dict[str, str]:
        """Call an action that has to succeed.

        :raises PortMapError: if it does not.
        """
        answer = await self.call(service, action, arguments)
        if isinstance(answer, Fault):
            raise failure(cause_of(answer.code), f"{action}: {answer}")
        return answer

    async def _exchange(self, exchange: HttpExchange, location: Location) -> HttpAnswer:
        try:
            with trio.fail_after(_EXCHANGE_TIMEOUT):
                async with await self._connect(location.port) as stream:
                    await stream.send_all(exchange.request)
                    while True:
                        answer = exchange.feed(await stream.receive_some(8192))
                        if answer is not None:
                            return answer
        except trio.TooSlowError:
            raise failure(PortMapCause.TIMEOUT, "the router answers a request too slowly") from None
        except (OSError, trio.BrokenResourceError) as error:
            raise failure(PortMapCause.NETWORK_FAILURE, str(error.__cause__ or error)) from None
        except DecodeError as error:
            raise failure(PortMapCause.MALFORMED, str(error)) from None

    async def _connect(self, port: int) -> trio.SocketStream:
        family = socket.AF_INET if self._gateway.family == 4 else socket.AF_INET6
        sock = trio.socket.from_stdlib_socket(self._open_socket(family, socket.SOCK_STREAM))
        try:
            # Routers map ports and open pinholes for who asks, and tell that by the address.
            await sock.bind((self._gateway.local, 0))
            await sock.connect(self._sockaddr(str(self._ip), port))
        except BaseException:  # also when cancelled: nobody else will close it
            sock.close()
            raise
        return trio.SocketStream(sock)


@attrs.define
class _Search:
    """What one search has seen."""

    sock: trio.socket.SocketType
    seen: set[Location] = attrs.Factory(set)
    datagrams: int = 0


def _refusal(status: int) -> PortMapError:
    cause = PortMapCause.REFUSED if status in (401, 403) else PortMapCause.MALFORMED
    more = ", and redirects are not followed" if 300 <= status < 400 else ""
    return failure(cause, f"HTTP status {status}{more}")
