"""Opening the packets that come in: which key, which are new, and what they hold.

Nearly all traffic of a busy session are batches of full packets with consecutive bytes of one stream.  Those are
checked and taken in as a whole; whatever is not exactly that goes packet by packet.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from ..paths.path import AMPLIFICATION, Path
from ..wire import frames
from ..wire.errors import DecodeError
from ..wire.packets import DATA_HEADER_SIZE, DATA_OVERHEAD, data_prefix, unpack_data_header
from .incoming import Incoming
from .keys import PacketKey, pack_nonce
from .workspace import Workspace

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Receiving"]

# Batches that go packet by packet after one that turned out, when opened, not to be of one stream.
_PATIENCE = 16


class Receiving:
    """The receiving side of one session, up to the AEAD."""

    __slots__ = ("_incoming", "_key", "_patience", "_prefix", "_session", "_workspace")

    def __init__(self, session: Session, workspace: Workspace) -> None:
        self._session = session
        self._workspace = workspace
        self._incoming = Incoming(session)
        self._prefix = int.from_bytes(data_prefix(0, session.local_index), "little")
        self._key = session.keys.opener(0)
        self._patience = 0

    def refer_to(self, session: Session) -> None:
        """Use another reference to the session."""
        self._session = session
        self._incoming.refer_to(session)

    def receive(self, data: memoryview, skip: int, stride: int, path: Path, now: float) -> int:
        """See :meth:`Session.receive`."""
        session = self._session
        total = len(data)
        newest = session.acks.expected
        try:
            at = self._receive_run(data, skip, stride, now) if total >= 2 * stride else 0
            newer = at > 0
            authentic = at // stride
            if at < total:
                used, singly, newer_too = self._receive_singly(data[at:], skip, stride, path, newest, now)
                at += used
                authentic += singly
                newer = newer or newer_too
        except DecodeError as error:
            session.stats.dropped_invalid += 1
            session.fail(str(error), now)
            return total
        stats = session.stats
        stats.packets_received += authentic
        stats.bytes_received += at
        if authentic:
            if not path.validated:
                path.credit += AMPLIFICATION * at
            session.heard(path, newer, now)
        return at

    def _receive_run(self, data: memoryview, skip: int, stride: int, now: float) -> int:
        """Take in the full packets if they are consecutive, and carry consecutive bytes of one stream and nothing
        else.  Returns their bytes; 0 if they are anything else, and nothing has changed."""
        if self._patience:
            self._patience -= 1
            return 0
        session = self._session
        key = self._key
        opening = self._workspace.opening(stride, skip)
        count = min(len(data) // stride, len(opening.bodies))
        if opening.chunk <= 0 or key is None:
            return 0
        headers = opening.headers(data, count)
        first = headers[1]
        stop = first + count
        if (
            first < session.acks.expected
            or headers[::2].count(self._prefix) != count
            or headers[1::2] != tuple(range(first, stop))
        ):
            return 0
        bodies = map(data.__getitem__, opening.bodies[:count])
        try:
            # a deque of no length runs through a map without a line of Python for each packet
            deque(map(key.decrypt_into, map(pack_nonce, range(first, stop)), bodies, repeat(None), opening.plains), 0)
        except (InvalidTag, OverflowError):
            return 0  # the others are good: each is looked at by itself
        told = opening.frames(count)
        stream_id, offset = told[1], told[2]
        end = offset + count * opening.chunk
        if (
            told[::3].count(frames.STREAM) != count
            or told[1::3].count(stream_id) != count
            or told[2::3] != tuple(range(offset, end, opening.chunk))
        ):
            self._patience = _PATIENCE
            return 0
        streams = session.streams
        stream = streams.receiving.get(stream_id)
        if stream is None and session.arrived(stream_id):
            stream = streams.receiving[stream_id]
        if stream is not None:
            streams.on_grown(stream.push(offset, b"".join(opening.texts[:count]), 0, end - offset, False))
            session.on_stream_data(now)
            if stream.stop_code is not None:
                session.on_stopped(stream)
            session.readable.add(stream_id)
        session.acks.add(first, stop, count, now)
        return count * stride

    def _receive_singly(
        self, data: memoryview, skip: int, stride: int, path: Path, newest: int, now: float
    ) -> tuple[int, int, bool]:
        """Take in packets one by one: ``(bytes, how many were authentic, whether one is newer than all before)``."""
        session = self._session
        stats = session.stats
        acks = session.acks
        nonce = pack_nonce
        total = len(data)
        at = 0
        run_first = run_stop = acks.expected
        eliciting = authentic = 0
        moved = False
        while at < total:
            start = at + skip
            at += stride
            stop = at if at < total else total
            if stop - start <= DATA_OVERHEAD:
                stats.dropped_invalid += 1
                continue
            prefix, number = unpack_data_header(data, start)
            key = self._key if prefix == self._prefix else self._key_of(prefix)
            if key is None:
                if (prefix ^ self._prefix) & ~0xFF00:
                    at -= stride
                    break
                stats.dropped_invalid += 1
                continue
            if number != run_stop or number < acks.expected:
                # not simply the next one: a late packet's successor may have come before it
                if run_stop > run_first:
                    acks.add(run_first, run_stop, eliciting, now)
                    eliciting = 0
                    run_first = run_stop
                if not acks.is_new(number):
                    stats.dropped_replayed += 1
                    continue
            try:
                plain = key.decrypt(nonce(number), data[start + DATA_HEADER_SIZE : stop], None)
            except (InvalidTag, OverflowError):
                stats.dropped_forged += 1
                continue
            if number != run_stop:
                run_first = number
            run_stop = number + 1
            authentic += 1
            if prefix != self._prefix:
                self._new_epoch(prefix, key)
            asks, non_probing = self._incoming.read(plain, 0, path, now)
            eliciting += asks
            if non_probing and number >= newest:
                moved = True
            if session.closed:
                break
        if run_stop > run_first:
            acks.add(run_first, run_stop, eliciting, now)
        return min(at, total), authentic, moved

    def authentic(self, packet: memoryview) -> bool:
        """See :meth:`Session.authentic`."""
        prefix, number = unpack_data_header(packet)
        key = self._key_of(prefix)
        return key is not None and self._session.acks.is_new(number) and key.authentic(packet)

    def _key_of(self, prefix: int) -> PacketKey | None:
        # another epoch of ours, or not ours at all
        if (prefix ^ self._prefix) & ~0xFF00:
            return None
        return self._session.keys.opener(prefix >> 8 & 0xFF)

    def _new_epoch(self, prefix: int, key: PacketKey) -> None:
        epoch = prefix >> 8 & 0xFF
        if epoch == self._session.keys.generation & 0xFF:
            self._prefix = prefix
            self._key = key
            self._session.keys.on_received(epoch)
