"""URLs of routers, and the answers to SSDP searches that tell the first of them (UPnP Device Architecture 1.1, 1.3)."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urljoin

import attrs

from ....wire.errors import DecodeError

__all__ = [
    "MAX_ANSWER",
    "MULTICAST_HOSTS",
    "SEARCH_TARGETS",
    "SSDP_PORT",
    "Location",
    "read_location_untrusted",
    "read_ssdp_answer_untrusted",
    "ssdp_search",
]

SSDP_PORT = 1900
MULTICAST_HOSTS = {4: "239.255.255.250", 6: "ff02::c"}
"""Where searches go, by address family."""

SEARCH_TARGETS = tuple(f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2))
"""An IGD of version 2 has to answer a search for version 1, too; not all do."""

MAX_ANSWER = 2048
"""Bytes of an SSDP answer; they have about 400."""

_MAX_URL = 1024
_URL = re.compile(
    r"(?i:http)://"
    r"(?:\[([0-9a-fA-F:.]{2,45})(?:%[^\]]*)?\]|([0-9.]{7,15}))"  # a scope means something only to who wrote it
    r"(?::([1-9][0-9]{0,4}))?"
    r"(/[^#]*)?(?:#.*)?"
)
_PRINTABLE = re.compile(r"[!-~]*")
_STATUS = re.compile(r"HTTP/1\.[01] 200(?: |$)")


@attrs.frozen
class Location:
    """An http URL on a numeric host."""

    host: str
    port: int
    path: str
    """With the query, if there is one."""

    def resolve(self, reference: str) -> Location:
        """What a reference in the document at this location means.

        :raises DecodeError: as :func:`read_location_untrusted`, and if it leads to another host.
        """
        try:
            url = urljoin(str(self), reference)
        except ValueError:
            raise DecodeError("a reference that is none") from None
        target = read_location_untrusted(url)
        if target.host != self.host:
            raise DecodeError("a reference to another host")
        return target

    def __str__(self) -> str:
        return f"http://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, as the header ``Host`` has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_location_untrusted(url: str) -> Location:
    """Read an http URL of a numeric host.

    :raises DecodeError: for any other scheme, a host name, a user, a port out of range, anything but printable ASCII,
        and more than 1024 characters.
    """
    if len(url) > _MAX_URL or not _PRINTABLE.fullmatch(url):
        raise DecodeError("a URL that is too long, or has characters that do not belong there")
    match = _URL.fullmatch(url)
    if match is None:
        raise DecodeError("a URL that is not plain http to a numeric host")
    host6, host4, port, path = match.groups()
    try:
        host = ipaddress.ip_address(host6 or host4)
    except ValueError:
        raise DecodeError("a URL with an address that is none") from None
    if int(port or 80) > 65535:
        raise DecodeError("a URL with a port that is none")
    return Location(str(host), int(port or 80), path or "/")


def ssdp_search(target: str, family: int) -> bytes:
    """A search that whoever is the target answers within a second."""
    host = MULTICAST_HOSTS[family]
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {f'[{host}]' if family == 6 else host}:{SSDP_PORT}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {target}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def read_ssdp_answer_untrusted(datagram: bytes) -> Location:
    """Where the description of the gateway is that answered.

    :raises DecodeError: if it is no answer of an Internet gateway device, or its location is not as
        :func:`read_location_untrusted` wants it.
    """
    if len(datagram) > MAX_ANSWER:
        raise DecodeError("an SSDP answer that is too long")
    status, *lines = datagram.decode("latin-1").splitlines() or [""]
    if not _STATUS.match(status):
        raise DecodeError("no SSDP answer")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    if headers.get("st") not in SEARCH_TARGETS:
        raise DecodeError("an SSDP answer of something else")
    return read_location_untrusted(headers.get("location", ""))
