"""Calls of a router's actions and its answers: SOAP 1.1 as UPnP uses it (Device Architecture 1.1, 3.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

import attrs

from ....wire.errors import DecodeError
from .description import printable
from .tree import Element, read_tree_untrusted

__all__ = ["Fault", "read_answer_untrusted", "soap_call"]

_ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
_ENCODING = "http://schemas.xmlsoap.org/soap/encoding/"
_CODE = re.compile(r"[0-9]{1,5}")


@attrs.frozen
class Fault:
    """A router refused a call."""

    code: int
    """UPnP's error code, such as 718; 0 if it told none."""
    description: str = ""
    """In the router's words, fit to be shown."""

    def __str__(self) -> str:
        return f"{self.code} {self.description}".strip()


def soap_call(service_type: str, action: str, arguments: Mapping[str, str | int]) -> bytes:
    """The body of a call.  The order of the arguments matters to some routers."""
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in arguments.items())
    return (
        f'<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="{_ENVELOPE}" s:encodingStyle="{_ENCODING}"><s:Body>'
        f'<u:{action} xmlns:u="{service_type}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    ).encode()


def read_answer_untrusted(document: bytes, action: str) -> dict[str, str] | Fault:
    """What a call of ``action`` gave: its results by name, or why it was refused.

    :raises DecodeError: if it is neither.
    """
    envelope = read_tree_untrusted(document)
    body = envelope.first("Body")
    if envelope.name != "Envelope" or body is None or not body.children:
        raise DecodeError("no SOAP answer")
    fault = body.first("Fault")
    if fault is not None:
        return _fault(fault)
    response = body.first(f"{action}Response")
    if response is None:
        raise DecodeError("an answer to another call")
    results: dict[str, str] = {}
    for child in response.children:
        results.setdefault(child.name, child.text)
    return results


def _fault(fault: Element) -> Fault:
    for element in fault.walk():
        code = element.text_of("errorCode")
        if _CODE.fullmatch(code):
            return Fault(int(code), printable(element.text_of("errorDescription")))
    return Fault(0, printable(fault.text_of("faultstring")))
