"""Where a node is: numeric addresses, host names with a port, and ``netmesh://`` URIs.

:class:`Address` is what the socket loop handles: numbers only.  :class:`HostPort` may carry a DNS
name that somebody still has to resolve.  :class:`MeshUri` is what people hand to each other::

    netmesh://<peer-id>[@<host>:<port>][?via=<peer-id>[@<host>:<port>][&via=...]]

Parsing is strict: one spelling for each thing, no percent-encoding, no blanks, no default port.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any, Final, NamedTuple

import attrs

from netmesh_trio.errors import AddressError
from netmesh_trio.identity import PeerId
from netmesh_trio.wire.errors import DecodeError

__all__ = ["MAX_VIA", "PACKED_ADDRESS_SIZE", "Address", "HostPort", "MeshUri"]

PACKED_ADDRESS_SIZE: Final = 19
"""Bytes that :meth:`Address.pack` gives."""

MAX_VIA: Final = 8
"""Relay hints in one URI, at most."""

_SCHEME: Final = "netmesh://"
_MAX_URI: Final = 4096
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_V4_NOT_UNICAST: Final = (
    ipaddress.IPv4Network("0.0.0.0/8"),  # RFC 1122: this host on this network
    ipaddress.IPv4Network("224.0.0.0/4"),  # RFC 5771: multicast
    ipaddress.IPv4Network("240.0.0.0/4"),  # RFC 1112: reserved, and the broadcast address
)
_V4_PRIVATE: Final = (
    ipaddress.IPv4Network("10.0.0.0/8"),  # RFC 1918
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    ipaddress.IPv4Network("100.64.0.0/10"),  # RFC 6598: between a carrier's NAT and its customers
)
_V6_PRIVATE: Final = ipaddress.IPv6Network("fc00::/7")  # RFC 4193
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,32}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")


def _quote(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _parse_numeric(host: str) -> str | None:
    """The canonical spelling of a numeric host, IPv4-mapped ones as IPv4; None if it is none."""
    address, percent, scope = host.partition("%")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if not percent:
        return str(parsed)
    # RFC 4007 lets a scope stand with others, too; we send to none where it would matter.
    if parsed.version != 6 or not parsed.is_link_local or not _SCOPE.fullmatch(scope):
        return None
    return f"{parsed}%{scope}"


def _split_host_port(text: str, what: str) -> tuple[str, int, bool]:
    """Host, port and whether the host stood in brackets."""
    quoted = f"{what} {_quote(text)}"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise AddressError(f"{quoted} lacks the ']' after the IPv6 address: write [::1]:4650")
        bracketed = True
    else:
        host, colon, rest = text.partition(":")
        rest = colon + rest
        bracketed = False
        if rest.count(":") > 1:
            raise AddressError(f"{quoted} has an IPv6 address without brackets: write [::1]:4650")
    if not bracketed and not rest and _PORT.fullmatch(host):
        raise AddressError(f"{quoted} has no host: write HOST:PORT, such as 203.0.113.7:4650")
    if not rest.startswith(":") or rest == ":":
        raise AddressError(f"{quoted} has no port: write HOST:PORT, such as 203.0.113.7:4650")
    port = rest[1:]
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise AddressError(f"{quoted} has the port {_quote(port)}: write a number from 1 to 65535, digits only")
    if not host:
        raise AddressError(f"{quoted} has no host: write HOST:PORT, such as 203.0.113.7:4650")
    return host, int(port), bracketed


class Address(NamedTuple):
    """A numeric address and a UDP port.

    ``host`` is an IPv4 or IPv6 address in its canonical spelling, an IPv6 link-local one with its
    ``%scope``.  For IPv4 it equals, also as a dictionary key, the tuple that the kernel gives.  The
    constructor believes its caller; :meth:`parse`, :meth:`from_sockaddr` and :meth:`unpack` check.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``1.2.3.4:5`` or ``[::1]:5``; the port is 0 to 65535, 0 being for binding only.

        An IPv4-mapped IPv6 address (``::ffff:1.2.3.4``) becomes the IPv4 address.

        :raises AddressError: for all else, host names too.
        """
        host, port, bracketed = _split_host_port(text, "address")
        numeric = _parse_numeric(host)
        if numeric is None or bracketed != (":" in host):
            raise AddressError(f"address {_quote(text)} is not numeric: write 203.0.113.7:4650 or [2001:db8::7]:4650")
        return cls(numeric, port)

    @classmethod
    def from_sockaddr(cls, sockaddr: tuple[Any, ...]) -> Address:
        """Of what ``recvfrom``, ``getsockname`` or ``getaddrinfo`` gave, for either family.

        An IPv4-mapped address, as a dual-stack socket gives it, becomes the IPv4 address.  The
        scope of a link-local address becomes a name if the interface has one, else its number.

        :raises AddressError: if the host is not numeric.
        """
        host, port = sockaddr[0], sockaddr[1]
        if ":" not in host:
            return cls(host, port)
        if len(sockaddr) > 3 and sockaddr[3] and "%" not in host:
            host = f"{host}%{_scope_name(sockaddr[3])}"
        numeric = _parse_numeric(host)
        if numeric is None:
            raise AddressError(f"socket address {sockaddr!r} is not numeric")
        return cls(numeric, port)

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host else 4

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The host as a number, without its scope."""
        return ipaddress.ip_address(self.host.partition("%")[0])

    @property
    def is_private(self) -> bool:
        """Whether it means another host in each network: RFC 1918, RFC 6598 (carrier NAT), RFC
        4193.

        Not so: loopback and link-local, which have their own questions.
        """
        ip = self.ip
        if isinstance(ip, ipaddress.IPv4Address):
            return any(ip in network for network in _V4_PRIVATE)
        return ip in _V6_PRIVATE

    @property
    def is_loopback(self) -> bool:
        """127.0.0.0/8 or ::1."""
        return self.ip.is_loopback

    @property
    def is_link_local(self) -> bool:
        """169.254.0.0/16 or fe80::/10."""
        return self.ip.is_link_local

    @property
    def is_unspecified(self) -> bool:
        """0.0.0.0 or ::, the wildcards one binds to."""
        return self.ip.is_unspecified

    @property
    def is_unicast(self) -> bool:
        """Whether it can be one host: no wildcard, multicast, broadcast or reserved address."""
        ip = self.ip
        if isinstance(ip, ipaddress.IPv4Address):
            return not any(ip in network for network in _V4_NOT_UNICAST)
        return not ip.is_unspecified and not ip.is_multicast

    def pack(self) -> bytes:
        """Family (1 byte, 4 or 6), address (16 bytes, IPv4 in the first four, the rest zero), port
        (2 bytes, big-endian): 19 bytes.  A scope is left out, as it means nothing on another host.
        """
        ip = self.ip
        return bytes((ip.version,)) + ip.packed.ljust(16, b"\0") + self.port.to_bytes(2, "big")

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Address:
        """The address in 19 bytes from the network.

        :raises DecodeError: for another length or family, padding that is not zero, port 0, and an
            IPv4-mapped IPv6 address, which could slip past what filters IPv4.
        """
        raw = bytes(data)
        if len(raw) != PACKED_ADDRESS_SIZE:
            raise DecodeError(f"address of {len(raw)} bytes instead of {PACKED_ADDRESS_SIZE}")
        port = int.from_bytes(raw[17:], "big")
        if port == 0:
            raise DecodeError("address with port 0")
        if raw[0] == 4:
            if any(raw[5:17]):
                raise DecodeError("IPv4 address with padding that is not zero")
            return cls(str(ipaddress.IPv4Address(raw[1:5])), port)
        if raw[0] == 6:
            ip = ipaddress.IPv6Address(raw[1:17])
            if ip in _MAPPED:
                raise DecodeError("IPv4 address dressed up as IPv6")
            return cls(str(ip), port)
        raise DecodeError(f"address family {raw[0]} instead of 4 or 6")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Address {self}>"


def _scope_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


class HostPort(NamedTuple):
    """A host, by number or by DNS name, and a port.

    ``host`` is canonical: a numeric address as in :class:`Address`, a name in lower case.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read ``relay.example.org:4650``, ``203.0.113.7:4650`` or ``[2001:db8::7]:4650``.

        The port is 0 to 65535, 0 being for binding only.

        :raises AddressError: if it is something else.
        """
        host, port, bracketed = _split_host_port(text, "host and port")
        numeric = _parse_numeric(host)
        if numeric is not None and bracketed == (":" in host):
            return cls(numeric, port)
        quoted = f"host and port {_quote(text)}"
        if bracketed:
            raise AddressError(f"{quoted} has no IPv6 address in its brackets: write [::1]:4650")
        if not host.isascii():
            raise AddressError(f"{quoted} has letters beyond ASCII: write the name as xn--...")
        name = host.lower()
        labels = name.split(".")
        # What inet_aton(3) inside a resolver would take for a number, hexadecimal too.
        if _NUMBER.fullmatch(labels[-1]):
            raise AddressError(
                f"{quoted} looks like an IPv4 address but is none: write four numbers from 0 to 255"
                " without leading zeros"
            )
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            raise AddressError(
                f"{quoted} has no valid host name: use letters, digits, hyphens and single dots,"
                " none of them at either end of a part but letters and digits"
            )
        return cls(name, port)

    @property
    def address(self) -> Address | None:
        """The same as a numeric address, or None for a name that needs resolving."""
        return Address(self.host, self.port) if _parse_numeric(self.host) is not None else None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<HostPort {self}>"


@attrs.frozen(repr=False)
class MeshUri:
    """A peer and where to look for it.

    ``address`` is where it listens, if anybody can tell; ``via`` are relays under which it is
    reachable, best first, each with an address or not and without relays of its own.  A peer id
    alone is enough to reach a peer that the mesh knows.

    ``str(uri)`` gives what :meth:`parse` reads.

    :raises AddressError: for port 0, more than 8 relays, a relay twice, a relay with relays, or a
        peer that is its own relay.
    :raises TypeError: for anything but these types, as for text.
    """

    peer_id: PeerId
    address: HostPort | None = None
    via: tuple[MeshUri, ...] = ()

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.peer_id, PeerId):
            given = type(self.peer_id).__name__
            raise TypeError(f"the peer of a URI is a PeerId, not {given}; MeshUri.parse(...) reads text")
        if self.address is not None and not isinstance(self.address, HostPort):
            raise TypeError(f"the address of a URI is a HostPort or None, not {type(self.address).__name__}")
        via: object = self.via
        if not isinstance(via, tuple) or not all(isinstance(relay, MeshUri) for relay in via):
            raise TypeError(f"the relays of a URI are a tuple of MeshUri, not {via!r}")
        if self.address is not None and not 1 <= self.address.port <= 65535:
            raise AddressError(f"{self.address} has the port 0: write the one the peer listens on")
        if len(self.via) > MAX_VIA:
            raise AddressError(f"{len(self.via)} relays are too many: keep the best {MAX_VIA}")
        for relay in self.via:
            if relay.via:
                raise AddressError(f"relay {relay.peer_id} has relays of its own: leave them out")
            if relay.peer_id == self.peer_id:
                raise AddressError(f"peer {self.peer_id} is its own relay: leave out that via=")
        if len(set(self.via)) != len(self.via):
            raise AddressError(f"peer {self.peer_id} has the same relay twice: leave one via= out")

    @classmethod
    def parse(cls, text: str) -> MeshUri:
        """Read ``netmesh://PEER[@HOST:PORT][?via=PEER[@HOST:PORT][&via=...]]``.

        :raises AddressError: says what is wrong and how to mend it.
        """
        quoted = f"URI {_quote(text)}"
        if len(text) > _MAX_URI:
            raise AddressError(f"{quoted} is longer than {_MAX_URI} characters: leave out relays")
        if f",{_SCHEME}" in text:
            raise AddressError(f"{quoted} is several in one: give one at a time, or in a variable with blanks between")
        if not text.startswith(_SCHEME):
            raise AddressError(f"{quoted} does not begin with {_SCHEME!r}: put that in front")
        rest = text[len(_SCHEME) :]
        if "#" in rest:
            raise AddressError(f"{quoted} has a '#': leave it and what follows out")
        target, mark, query = rest.partition("?")
        if "/" in target:
            raise AddressError(f"{quoted} has a '/' after the peer: leave it and what follows out")
        try:
            relays = _parse_query(query) if mark else []
            peer_id, address = _parse_target(target)
            return cls(peer_id, address, tuple(cls(*relay) for relay in relays))
        except AddressError as error:
            raise AddressError(f"{quoted}: {error}") from None

    def _target(self) -> str:
        return str(self.peer_id) if self.address is None else f"{self.peer_id}@{self.address}"

    def __str__(self) -> str:
        query = "&".join(f"via={relay._target()}" for relay in self.via)
        return _SCHEME + self._target() + ("?" + query if query else "")

    def __repr__(self) -> str:
        return f"<MeshUri {self}>"


def _parse_target(text: str) -> tuple[PeerId, HostPort | None]:
    if not text:
        raise AddressError("the peer id is missing: write netmesh://PEER or netmesh://PEER@HOST:PORT")
    peer, at, where = text.partition("@")
    if not at and ":" in peer:
        raise AddressError("there is a ':' but no '@': write PEER@HOST:PORT")
    return PeerId.parse(peer), HostPort.parse(where) if at else None


def _parse_query(query: str) -> list[tuple[PeerId, HostPort | None]]:
    items = query.split("&")
    if len(items) > MAX_VIA:
        raise AddressError(f"{len(items)} relays are too many: keep the best {MAX_VIA}")
    relays = []
    for item in items:
        name, _, value = item.partition("=")
        if name != "via":
            raise AddressError(
                f"{_quote(item)} after the '?' is not understood: only via=PEER[@HOST:PORT] is, with '&' between two"
            )
        relays.append(_parse_target(value))
    return relays
