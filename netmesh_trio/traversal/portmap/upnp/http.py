"""One HTTP request to a router and its answer.  h11 does the protocol; what is added are limits."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import h11

from ....wire.errors import DecodeError
from .locations import Location

__all__ = ["MAX_HEAD", "HttpAnswer", "HttpExchange"]

MAX_HEAD = 16 * 1024
"""Bytes of status line and headers, and what framing may add to a body."""

_MAX_EVENTS = 2000  # chunks and interim answers; h11 takes some 20 us for each, however short


@attrs.frozen
class HttpAnswer:
    """What came back."""

    status: int
    body: bytes


class HttpExchange:
    """A request, and a reader of the answer to it.

    Redirects are not followed: they are answers like others.
    """

    def __init__(
        self, method: str, location: Location, *, headers: Mapping[str, str], body: bytes = b"", max_body: int
    ) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        fields = {"Host": location.authority, "Connection": "close", **headers}
        if body:
            fields["Content-Length"] = str(len(body))
        request = h11.Request(method=method, target=location.path, headers=list(fields.items()))
        parts = (request, h11.Data(body), h11.EndOfMessage()) if body else (request, h11.EndOfMessage())
        #: What to send.
        self.request: bytes = b"".join(self._connection.send(part) or b"" for part in parts)
        self._max_body = max_body
        self._received = 0
        self._events = 0
        self._status = 0
        self._body = bytearray()

    def feed(self, data: bytes) -> HttpAnswer | None:
        """Take what was received, empty at the end; the answer when it is complete.

        :raises DecodeError: if it is not HTTP, too large, or ends too early.  Nothing can be fed after that.
        """
        self._received += len(data)
        if self._received > self._max_body + MAX_HEAD:
            raise DecodeError("an HTTP answer that is too large")
        try:
            self._connection.receive_data(data)
            return self._read()
        except h11.RemoteProtocolError as error:
            raise DecodeError(f"not HTTP: {error}") from None

    def _read(self) -> HttpAnswer | None:
        while self._events < _MAX_EVENTS:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                return None
            self._events += 1
            if isinstance(event, h11.Response):
                self._status = event.status_code
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._max_body:
                    raise DecodeError("an HTTP answer that is too large")
            elif isinstance(event, h11.EndOfMessage):
                return HttpAnswer(self._status, bytes(self._body))
            elif not isinstance(event, h11.InformationalResponse):  # switched to another protocol, or closed
                raise DecodeError("not the answer to an HTTP request")
        raise DecodeError("an HTTP answer in too many pieces")
