"""What each side tells the other in the handshake, encrypted.

Layout, big-endian: version u8 (1), boot id 8 bytes, largest datagram u16, session window u32, stream window u32,
streams u16, ordinal u32, n u8, n x 8 bytes of service tags, flags u8 (0 if it is missing).  What follows is ignored, so
that later versions can add to it.

====  ===================================================================================
flag  meaning
====  ===================================================================================
1     AES-256-GCM is faster here than ChaCha20-Poly1305; used if both sides say so
====  ===================================================================================
"""

from __future__ import annotations

import hashlib
import struct

import attrs

from .errors import DecodeError

__all__ = ["MAX_SERVICE_TAGS", "Hello", "service_tag"]

_FIXED = struct.Struct(">B8sHIIHIB")
#: How many services a hello names; the rest follows inside the session.
MAX_SERVICE_TAGS = 40
_PREFERS_AES = 1


def service_tag(name: str) -> bytes:
    """Eight bytes that stand for a service name where a list of names would be too long."""
    return hashlib.blake2s(name.encode(), digest_size=8, person=b"netmesh").digest()


@attrs.frozen(kw_only=True)
class Hello:
    """Parameters of one side of a session."""

    #: Drawn anew by every process: tells a restarted peer from one that merely moved.
    boot_id: bytes
    #: The largest UDP payload that this side takes in, bytes.
    max_datagram_size: int
    #: Bytes of stream data that this side takes before it grants more: for the session, for each stream.
    session_window: int
    stream_window: int
    #: How many streams the other side may have open.
    max_streams: int
    #: How many sessions this process has had so far: of two sessions with one peer it tells the newer.
    ordinal: int = 0
    #: :func:`service_tag` of the services that this side serves.
    service_tags: tuple[bytes, ...] = ()
    #: Whether this side would rather have AES-256-GCM for its packets.
    prefers_aes: bool = False

    def encode(self) -> bytes:
        """The bytes that go into the handshake."""
        tags = self.service_tags[:MAX_SERVICE_TAGS]
        return _FIXED.pack(
            1,
            self.boot_id,
            self.max_datagram_size,
            self.session_window,
            self.stream_window,
            self.max_streams,
            self.ordinal,
            len(tags),
        ) + b"".join((*tags, bytes((_PREFERS_AES if self.prefers_aes else 0,))))

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """Read a hello; raises DecodeError."""
        if len(data) < _FIXED.size:
            raise DecodeError("hello is cut short")
        version, boot_id, size, session, stream, streams, ordinal, count = _FIXED.unpack_from(data)
        end = _FIXED.size + 8 * count
        if version != 1 or len(data) < end or size < 1200 or count > MAX_SERVICE_TAGS:
            raise DecodeError("hello of another kind")
        tags = tuple(data[at : at + 8] for at in range(_FIXED.size, end, 8))
        flags = data[end] if len(data) > end else 0
        return cls(
            boot_id=boot_id,
            max_datagram_size=size,
            session_window=session,
            stream_window=stream,
            max_streams=streams,
            ordinal=ordinal,
            service_tags=tags,
            prefers_aes=bool(flags & _PREFERS_AES),
        )
