"""Memory in which packets are made and opened, a batch at a time.

It is used again and again.  Memory that is taken anew for each batch costs more than what is written into it: the
kernel gives back and zeroes a page for every 4 KiB.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..wire.frames import STREAM_HEADER_SIZE
from ..wire.packets import DATA_HEADER_SIZE, DATA_OVERHEAD, TAG_SIZE

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_PACKETS", "Opening", "Sealing", "Workspace"]

#: One batch: what the kernel takes in one call (UDP_SEGMENT: 64 KiB and 64 datagrams).
MAX_BATCH_BYTES = 65000
MAX_BATCH_PACKETS = 64
# Datagram sizes whose layout is kept: of the paths that are busy now.
_MAX_LAYOUTS = 8
# What programs read and write comes and goes as objects of up to a megabyte, for which the allocator of glibc would go
# to the kernel each time.  It learns not to from the largest that it ever gave back: from then on it keeps so much.
_KEPT = 4 << 20


class Sealing(NamedTuple):
    """Where the packets of a batch of one size go."""

    #: The ciphertext of each packet.
    bodies: list[memoryview]
    #: The plaintext of one packet, and the part of it behind the header of a STREAM frame.
    plain: memoryview
    text: memoryview


class Opening:
    """Where the packets of a batch of one size are, and their plaintexts go."""

    __slots__ = ("_frames", "_headers", "_size", "_skip", "bodies", "chunk", "plain", "plains", "texts")

    def __init__(self, plain: memoryview, size: int, skip: int) -> None:
        length = size - skip - DATA_OVERHEAD
        count = min(MAX_BATCH_PACKETS, len(plain) // size)
        self._size = size
        self._skip = skip
        self._headers: dict[int, struct.Struct] = {}
        self._frames: dict[int, struct.Struct] = {}
        self.plain: memoryview = plain
        #: Bytes of stream data in a packet that has nothing else.
        self.chunk: int = length - STREAM_HEADER_SIZE
        #: The ciphertext of each packet.
        self.bodies: list[slice] = [slice(i * size + skip + DATA_HEADER_SIZE, (i + 1) * size) for i in range(count)]
        #: The plaintext of each, and the part of it behind the header of a STREAM frame.
        self.plains: list[memoryview] = [plain[i * length : (i + 1) * length] for i in range(count)]
        self.texts: list[memoryview] = [each[STREAM_HEADER_SIZE:] for each in self.plains]

    def headers(self, data: memoryview, count: int) -> tuple[int, ...]:
        """Of ``count`` packets, each: the first eight bytes as an integer, and the counter."""
        layout = self._headers.get(count)
        if layout is None:
            gap = self._size - DATA_HEADER_SIZE
            layout = self._headers[count] = struct.Struct(f"<{self._skip}x" + f"QQ{gap}x" * (count - 1) + "QQ")
        return layout.unpack_from(data)

    def frames(self, count: int) -> tuple[int, ...]:
        """Of ``count`` plaintexts, each: the type of the first frame; stream and offset if it is a STREAM frame."""
        layout = self._frames.get(count)
        if layout is None:
            layout = self._frames[count] = struct.Struct(">" + f"BIQ{self.chunk}x" * (count - 1) + "BIQ")
        return layout.unpack_from(self.plain)


class Workspace:
    """Memory for one batch.  All sessions of a node share one: each is done with it before the next begins."""

    __slots__ = ("_opening", "_plain", "_sealing", "packets")

    def __init__(self) -> None:
        bytes(_KEPT)
        #: The batch on its way out, until the next one is made.
        self.packets: memoryview = memoryview(bytearray(MAX_BATCH_BYTES + 536))
        self._plain = memoryview(bytearray(len(self.packets)))
        self._sealing: dict[tuple[int, int], Sealing] = {}
        self._opening: dict[tuple[int, int], Opening] = {}

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

    def opening(self, size: int, skip: int) -> Opening:
        """The layout of packets of ``size`` bytes, ``skip`` of them a circuit header."""
        found = self._opening.get((size, skip))
        if found is None:
            if len(self._opening) >= _MAX_LAYOUTS:
                self._opening.clear()
            found = self._opening[size, skip] = Opening(self._plain, size, skip)
        return found
