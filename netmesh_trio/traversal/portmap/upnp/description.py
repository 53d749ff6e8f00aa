"""The description of a router: which of its services map ports, and where they are controlled."""

from __future__ import annotations

import contextlib
import re

import attrs

from ....wire.errors import DecodeError
from .locations import Location
from .tree import Element, read_tree_untrusted

__all__ = ["MAX_SERVICES", "Description", "Service", "read_description_untrusted", "printable"]

MAX_SERVICES = 8
"""Of one router that are looked at: one for each connection to the Internet."""

_MAX_NAME = 100
# The preferred ones first.
_KINDS = ("WANIPConnection", "WANPPPConnection", "WANIPv6FirewallControl")
_TYPE = re.compile(rf"urn:schemas-upnp-org:service:({'|'.join(_KINDS)}):([1-9])")


@attrs.frozen
class Service:
    """A service that maps ports or opens pinholes."""

    type: str
    """Its type, a URN."""
    control: Location
    """Where its actions are called."""

    @property
    def kind(self) -> str:
        """``WANIPConnection``, ``WANPPPConnection`` or ``WANIPv6FirewallControl``."""
        return self.type.split(":")[-2]

    @property
    def version(self) -> int:
        """From 1 on."""
        return int(self.type.split(":")[-1])

    @property
    def opens_pinholes(self) -> bool:
        """Whether it is for IPv6."""
        return self.kind == _KINDS[2]


@attrs.frozen
class Description:
    """What of it is of use here."""

    name: str
    """Of the router, for people; printable, at most 100 characters."""
    services: tuple[Service, ...]
    """The preferred ones first: IP before PPP, the newer version before the older."""


def printable(text: str) -> str:
    """The beginning of what a router says, fit to be shown."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text[: 2 * _MAX_NAME].split()))[:_MAX_NAME]


def read_description_untrusted(document: bytes, location: Location) -> Description:
    """Read the description that was at ``location``.

    A service that is controlled on another host, or whose entry makes no sense, is left out.

    :raises DecodeError: if it is not XML, or has no device in it.
    """
    root = read_tree_untrusted(document)
    device = root.first("device")
    if device is None:
        raise DecodeError("a description without a device")
    base = location
    # Deprecated since UPnP 1.1.  It is wrong on some routers, which then are right without it.
    if url := root.text_of("URLBase"):
        with contextlib.suppress(DecodeError):
            base = location.resolve(url)
    services = [service for element in device.walk() if (service := _service(element, base)) is not None]
    services = list(dict.fromkeys(services))
    services.sort(key=lambda service: (_KINDS.index(service.kind), -service.version))
    names = (device.text_of("friendlyName"), device.text_of("manufacturer"), device.text_of("modelName"))
    name = printable(", ".join(dict.fromkeys(filter(None, names))))
    return Description(name, tuple(services[:MAX_SERVICES]))


def _service(element: Element, base: Location) -> Service | None:
    type_ = element.text_of("serviceType")
    control = element.text_of("controlURL")
    if element.name != "service" or not _TYPE.fullmatch(type_) or not control:
        return None
    try:
        return Service(type_, base.resolve(control))
    except DecodeError:
        return None
