"""Streams as a program sees them: :class:`trio.abc.HalfCloseableStream` over one stream of a session."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import trio

from ..errors import ServiceNotFoundError, StreamResetError
from ..identity import PeerId
from ..octets import octets
from .waiting import WaitingPlace

if TYPE_CHECKING:
    from .live import LiveSession
    from .peer import Peer

__all__ = ["CODE_BACKLOG_FULL", "CODE_CLOSED", "CODE_NO_SERVICE", "CODE_RESET", "Stream"]

#: Error codes from here up are the library's own.
_RESERVED = 0xFFFF_FF00
CODE_CLOSED = _RESERVED
CODE_NO_SERVICE = _RESERVED + 1
CODE_BACKLOG_FULL = _RESERVED + 2
CODE_RESET = _RESERVED + 3

_HIGH_WATER = 512 * 1024
_PIECE = 1024 * 1024
_DEFAULT_READ = 256 * 1024


class Stream(trio.abc.HalfCloseableStream):
    """One stream with a peer: bytes in order, both ways, over whichever path the session uses.

    Errors are trio's: :class:`trio.ClosedResourceError` when this side closed it, :class:`trio.BusyResourceError`
    when two tasks do the same to it, and :class:`trio.BrokenResourceError` in one of three kinds:
    :class:`StreamResetError` (the peer gave it up, with a code), :class:`ServiceNotFoundError` (nobody serves the
    name), :class:`SessionClosedError` (the peer is gone, or this node was closed).
    """

    def __init__(self, live: LiveSession, stream_id: int, service: str) -> None:
        self._live = live
        self._session = live.session
        self._id = stream_id
        # the session forgets a stream that is over; what is left to tell the program is in its halves
        self._send_half = live.session.streams.sending[stream_id]
        self._receive_half = live.session.streams.receiving[stream_id]
        #: The name that the stream was opened for.
        self.service = service
        self._sending = False
        self._receiving = False
        self._closed = False
        self._eof_sent = False
        self._refused: int | None = None
        self._readable = WaitingPlace()
        self._writable = WaitingPlace()
        self.accepted = False

    def __repr__(self) -> str:
        state = "closed " if self._closed else ""
        return f"<Stream {self._id} {state}for {self.service!r} with {self.peer_id.short}>"

    @property
    def peer(self) -> Peer:
        """The peer at the other end."""
        return self._live.peer

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end; authenticated."""
        return self._session.peer_id

    # the node's side

    def wake_reader(self) -> None:
        """Something about reading changed."""
        self._readable.wake()

    def wake_writer(self) -> None:
        """Something about writing changed."""
        self._writable.wake()

    def refused(self, code: int) -> None:
        """The peer stopped the stream with this code."""
        self._refused = code
        self.wake_writer()

    def broken(self) -> Exception:
        """Why the stream cannot go on."""
        closed = self._session.closed
        if closed is not None:
            return self._live.closed_error()
        code = self._receive_half.reset_code if self._refused is None else self._refused
        return self._coded(CODE_CLOSED if code is None else code)

    def _coded(self, code: int) -> Exception:
        if code == CODE_NO_SERVICE:
            return ServiceNotFoundError(
                f"peer {self.peer_id.short} serves nothing under {self.service!r}", self.service
            )
        if code == CODE_BACKLOG_FULL:
            return StreamResetError(f"peer {self.peer_id.short} is too busy to accept the stream", code)
        if code == CODE_CLOSED:
            return StreamResetError(f"peer {self.peer_id.short} closed the stream", code)
        return StreamResetError(f"peer {self.peer_id.short} reset the stream with code {code:#x}", code)

    # sending

    def _check_send(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._eof_sent:
            raise trio.ClosedResourceError("the end of this stream was already sent")
        if self._session.closed is not None or self._refused is not None:
            raise self.broken()

    async def _wait_writable(self) -> None:
        while True:
            if self._send_half.reset_code is not None:
                raise self.broken()
            if self._send_half.unsent < _HIGH_WATER:
                return
            await self._writable.wait()
            self._check_send()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``; returns once it is taken over for sending, which waits while the peer does not read.

        Any buffer will do, and goes out as the bytes that it has in memory.  Raises TypeError for everything else.
        """
        if type(data) is not bytes:
            data = octets(data)
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_send()
        self._sending = True
        try:
            size = len(data)
            if size <= _PIECE:
                if size:
                    await self._wait_writable()
                    self._session.write(self._id, data)
                    self._live.drive_message(self._send_half.unsent)
            else:
                data = memoryview(data)  # of bytes, it is not copied
                for at in range(0, size, _PIECE):
                    await self._wait_writable()
                    self._session.write(self._id, data[at : at + _PIECE])
                    self._live.drive()
        finally:
            self._sending = False
        # the data is on its way already: let the others run while it travels
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a little data would be taken over at once."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            if self._closed or self._eof_sent:
                raise trio.ClosedResourceError("this stream was closed for sending")
            while not (self._refused is not None or self._session.closed is not None):
                if self._send_half.reset_code is not None or self._send_half.unsent < _HIGH_WATER:
                    return
                await self._writable.wait()
                if self._closed:
                    raise trio.ClosedResourceError("this stream was closed")
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Tell the peer that nothing more comes; receiving goes on."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await trio.lowlevel.checkpoint()
        self.push_eof()

    # sending, for who bounds what it sends in another way: the adapter for other event loops

    @property
    def has_room(self) -> bool:
        """Whether a push now would not go beyond what :meth:`send_all` takes over, or would fail at once."""
        return self._send_half.unsent < _HIGH_WATER or self._send_half.reset_code is not None

    def push(self, data: bytes) -> None:
        """As :meth:`send_all`, without waiting for anything."""
        self._check_send()
        if self._send_half.reset_code is not None:
            raise self.broken()
        if data:
            self._session.write(self._id, data)
            self._live.drive()

    def push_eof(self) -> None:
        """As :meth:`send_eof`, without a checkpoint."""
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if not self._eof_sent:
            if self._session.closed is not None:
                raise self._live.closed_error()
            self._eof_sent = True  # also when the peer reads no more: there is nothing left to tell it
            self._session.finish(self._id)
            self._live.drive()

    # receiving

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes, at least one; ``b""`` at the end of the stream."""
        if max_bytes is None:
            max_bytes = _DEFAULT_READ
        elif operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._receiving = True
        waited = False
        try:
            while not self._closed:
                data = self._receive_nowait(max_bytes)
                if data is not None:
                    if not waited:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    return data
                waited = True
                await self._readable.wait()
            raise trio.ClosedResourceError("this stream was closed")
        finally:
            self._receiving = False

    def _receive_nowait(self, max_bytes: int) -> bytes | None:
        """What a read returns now; None when it has to wait."""
        receive = self._receive_half
        session = self._session
        if receive.next > receive.consumed and receive.reset_code is None:
            data = session.read(self._id, max_bytes)
            if session.streams.window_dirty:
                self._live.drive()
            return data
        if receive.at_end:
            return b""
        if receive.reset_code is not None:
            raise self._coded(receive.reset_code)
        if session.closed is not None:
            raise self._live.closed_error()
        return None

    # closing

    async def aclose(self) -> None:
        """Close.  What was sent still arrives; what the peer still sends is refused."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint."""
        if not self._closed:
            self._closed = True
            if not self._eof_sent and self._refused is None:
                self._session.finish(self._id)
            self._stop_reading(CODE_CLOSED)
            self._live.drive()
            self.wake_reader()
            self.wake_writer()

    def reset(self, code: int = CODE_RESET) -> None:
        """Give the stream up at once, both ways: nothing more is delivered, and the peer sees ``code``.

        Codes from 0xFFFFFF00 up are the library's.
        """
        code = operator.index(code)
        if not 0 <= code <= 0xFFFF_FFFF:
            raise ValueError("a code is a number from 0 to 0xFFFFFFFF")
        self._closed = True
        self._session.reset_stream(self._id, code)
        self._stop_reading(code)
        self._live.drive()
        self.wake_reader()
        self.wake_writer()

    def _stop_reading(self, code: int) -> None:
        session = self._session
        session.stop_stream(self._id, code)
