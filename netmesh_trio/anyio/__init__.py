"""The same node for anyio programs, on either backend.

On anyio's trio backend the objects here are thin covers of trio's.  On asyncio the node runs on a trio loop in a thread
of its own, and calls, data and cancellation cross over.

``attributes``: what ``extra()`` tells; ``streams``, ``node``: the public objects; ``ports``: how they reach the node,
which is ``native`` on trio, and a ``bridge`` with its bounded ``buffers`` on asyncio.
"""

from __future__ import annotations

from .attributes import MeshAttribute
from .node import Node, Peer, open_node
from .streams import DatagramReceiveStream, DatagramSendStream, EventStream, Listener, Stream

__all__ = [
    "DatagramReceiveStream",
    "DatagramSendStream",
    "EventStream",
    "Listener",
    "MeshAttribute",
    "Node",
    "Peer",
    "Stream",
    "open_node",
]
