"""What a session does with the frames that come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..paths.path import Path
from ..wire import frames
from ..wire.errors import DecodeError
from .events import ControlReceived, DatagramReceived, StreamsAllowed, StreamStopped
from .parameters import CLOSE_NORMAL

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Incoming"]


class Incoming:
    """The receiving side of one session, behind the AEAD.  Whatever a peer sends gives a change of state or a
    DecodeError, for which the session ends."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def refer_to(self, session: Session) -> None:
        """Use another reference to the session."""
        self._session = session

    def read(self, plain: bytes, at: int, path: Path, now: float) -> tuple[int, bool]:
        """Handle a packet's frames: ``(1 if it asks for an acknowledgement, whether it is more than a probe)``."""
        session = self._session
        end = len(plain)
        asks = 0
        challenged = non_probing = False
        while at < end:
            kind = plain[at]
            at += 1
            if kind == frames.ACK:
                runs, delay, at = frames.read_ack(plain, at)
                session.delivery.on_ack(runs, delay, path, now)
                continue
            if kind == frames.DATAGRAM:
                asks = 1
                non_probing = True
                service, payload, at = frames.read_datagram(plain, at)
                session.events.append(DatagramReceived(service, payload))
                continue
            if kind == frames.PADDING:
                break
            if kind in (frames.PATH_CHALLENGE, frames.PATH_RESPONSE):
                token = plain[at : at + 8]
                at += 8
                if len(token) != 8:
                    raise DecodeError("path frame is cut short")
                if kind == frames.PATH_CHALLENGE:
                    # one answer a packet: the address may be somebody else's, who must not get more than was sent
                    if not challenged:
                        challenged = True
                        session.out.queue_probe(path, bytes((frames.PATH_RESPONSE,)) + token)
                else:
                    session.on_path_response(token, path, now)
                continue
            asks = 1
            non_probing = True
            if frames.STREAM <= kind <= frames.STREAM_LEN_FIN:
                at = self._on_stream(kind, plain, at, now)
            elif kind == frames.CONTROL:
                at = self._on_control(plain, at, path, now)
            elif kind == frames.RESET_STREAM:
                self._need(plain, at, 16)
                stream_id, code, size = frames.unpack_reset(plain, at)
                at += 16
                self._on_reset(stream_id, code, size)
            elif kind == frames.STOP_SENDING:
                self._need(plain, at, 8)
                stream_id, code = frames.unpack_stop(plain, at)
                at += 8
                self._on_stop(stream_id, code)
            elif kind == frames.CLOSE:
                code, reason = frames.read_close(plain, at)
                session.end("closed" if code == CLOSE_NORMAL else "protocol", reason)
                return 0, True
            elif kind != frames.PING:
                raise DecodeError(f"unknown frame type {kind:#x}")
        return asks, non_probing

    @staticmethod
    def _need(plain: bytes, at: int, size: int) -> None:
        if len(plain) < at + size:
            raise DecodeError("frame is cut short")

    def _on_stream(self, kind: int, plain: bytes, at: int, now: float) -> int:
        session = self._session
        if kind & 2:
            self._need(plain, at, 14)
            stream_id, offset, size = frames.unpack_stream_len(plain, at)
            start = at + 14
            stop = start + size
            self._need(plain, start, size)
        else:
            self._need(plain, at, 12)
            stream_id, offset = frames.unpack_stream(plain, at)
            start = at + 12
            stop = len(plain)
        stream = session.streams.receiving.get(stream_id)
        if stream is None and session.arrived(stream_id):
            stream = session.streams.receiving[stream_id]
        if stream is not None:
            session.streams.on_grown(stream.push(offset, plain, start, stop, bool(kind & 1)))
            session.on_stream_data(now)
            if stream.stop_code is not None:
                session.on_stopped(stream)
            session.readable.add(stream_id)
        return stop

    def _on_control(self, plain: bytes, at: int, path: Path, now: float) -> int:
        session = self._session
        self._need(plain, at, 4)
        subprotocol, size = frames.unpack_control(plain, at)
        start = at + 4
        self._need(plain, start, size)
        payload = plain[start : start + size]
        if subprotocol == frames.SUBPROTOCOL_STREAM_WINDOW:
            told, more = session.streams.receive_windows(payload)
            session.drained.update(told)
            if more:
                session.events.append(StreamsAllowed())
        elif subprotocol == frames.SUBPROTOCOL_REKEY:
            answer = session.keys.receive_rekey(payload)
            if answer is not None:
                session.keys.check_rate(now, session.stats.packets_received)
                session.queue_rekey(answer)
        else:
            session.events.append(ControlReceived(subprotocol, payload, path))
        return start + size

    def _on_reset(self, stream_id: int, code: int, final_size: int) -> None:
        session = self._session
        stream = session.streams.receiving.get(stream_id)
        if stream is None:
            if not session.arrived(stream_id):
                return
            stream = session.streams.receiving[stream_id]
        if stream.reset_code is None:
            session.streams.on_grown(stream.reset(code, final_size))
            if stream.reset_code is not None:
                # what was not read, or never came, is given back to the session's window
                session.streams.on_consumed(stream.discard(), stream)
            session.readable.add(stream_id)
            session.forget_if_done(stream_id)

    def _on_stop(self, stream_id: int, code: int) -> None:
        session = self._session
        stream = session.streams.sending.get(stream_id)
        if stream is None and session.arrived(stream_id):
            stream = session.streams.sending[stream_id]
        if stream is not None and stream.stop_code is None:
            stream.stop_code = code
            session.events.append(StreamStopped(stream_id, code))
            session.drained.add(stream_id)
            session.reset_stream(stream_id, code)
