"""What streams and listeners tell about themselves, as anyio's typed attributes."""

from __future__ import annotations

import anyio

from ..events import PathReport
from ..identity import PeerId

__all__ = ["MeshAttribute"]


class MeshAttribute(anyio.TypedAttributeSet):
    """For ``extra()`` of the objects of this module: ``stream.extra(MeshAttribute.peer_id)``.

    Streams on a direct path have :attr:`anyio.abc.SocketAttribute.remote_address`, too.  It may change, and go, with
    the path; who is at the other end is :attr:`peer_id`.
    """

    #: Who is at the other end; authenticated.
    peer_id: PeerId = anyio.typed_attribute()
    #: The service that a stream was opened for, or that a listener or a datagram stream is for.
    service: str = anyio.typed_attribute()
    #: The path that data takes now; None without a session.
    path: PathReport | None = anyio.typed_attribute()
    #: This node's own identity.
    local_peer_id: PeerId = anyio.typed_attribute()
