"""Memory in which packets are made and opened, a batch at a time.

It is used again and again.  Memory that is taken anew for each batch costs more than what is written into it: the
kernel gives back and zeroes a page for every 4 KiB.
"""

from __future__ import annotations

from typing import NamedTuple

from ..wire.frames import STREAM_HEADER_SIZE
from ..wire.packets import TAG_SIZE

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_PACKETS", "Sealing", "Workspace"]

#: One batch: what the kernel takes in one call (UDP_SEGMENT: 64 KiB and 64 datagrams).
MAX_BATCH_BYTES = 65000
MAX_BATCH_PACKETS = 64
# Datagram sizes whose layout is kept: of the paths that are busy now.
_MAX_LAYOUTS = 8


class Sealing(NamedTuple):
    """Where the packets of a batch of one size go."""

    #: The ciphertext of each packet.
    bodies: list[memoryview]
    #: The plaintext of one packet, and the part of it behind the header of a STREAM frame.
    plain: memoryview
    text: memoryview


class Workspace:
    """Memory for one batch.  All sessions of a node share one: each is done with it before the next begins."""

    __slots__ = ("_plain", "_sealing", "packets")

    def __init__(self) -> None:
        #: The batch on its way out, until the next one is made.
        self.packets: memoryview[int] = memoryview(bytearray(MAX_BATCH_BYTES + 536))
        self._plain = memoryview(bytearray(len(self.packets)))
        self._sealing: dict[tuple[int, int], Sealing] = {}

    def sealing(self, size: int, skip: int) -> Sealing:
        """The layout of packets of ``size`` bytes, ``skip`` of them in front of the ciphertext."""
        found = self._sealing.get((size, skip))
        if found is None:
            if len(self._sealing) >= _MAX_LAYOUTS:
                self._sealing.clear()
            count = max(1, min(MAX_BATCH_PACKETS, MAX_BATCH_BYTES // size))
            plain = self._plain[: size - skip - TAG_SIZE]
            found = self._sealing[size, skip] = Sealing(
                [self.packets[i * size + skip : (i + 1) * size] for i in range(count)],
                plain,
                plain[STREAM_HEADER_SIZE:],
            )
        return found
