"""What the machine allows: UDP in the kernel's batches and one AEAD a packet, and nothing else.

No streams, no loss recovery, no congestion control; the sender only waits when the receiver, which says now and then
how much came, is a window behind.  A datagram is a header of 16 bytes, whose first is the kind and whose second the
cipher, and ciphertext.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from benchmarks.loops import Blocking
from benchmarks.subject import Channel, Datagrams, Endpoint, Link
from netmesh_trio.node.ciphers import aes_is_faster
from netmesh_trio.session.keys import PacketKey

_HEADER = 16
_TAG = 16
_SINK = 0
_ECHO = 1
_COUNT = 2
_NONCE = bytes(12)
_BUFFER = 8 << 20
_GRO = (17, 104)
_SEGMENT = (17, 103)
_SO_RCVBUFFORCE = 33
_BATCH = 65000
_SEGMENTS = 64
_WINDOW = 2 << 20
_WINDOW_OF_SMALL = 64 << 10
_TELL = 16 << 10
_SMALL = 1000
_SILENCE = 0.1
_tally = struct.Struct("!Qd")


def _cipher(aes: int) -> PacketKey:
    return PacketKey(bytes(32), bool(aes))


def _socket(host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    made.setsockopt(*_GRO, 1)
    made.bind((host, 0))
    return made


def _address(where: str) -> tuple[str, int]:
    host, _, port = where.rpartition(":")
    return host, int(port)


def _size_of(control: Sequence[tuple[int, int, bytes]], length: int) -> int:
    """The size of each datagram in a received batch."""
    for level, kind, data in control:
        if (level, kind) == _GRO:
            return int.from_bytes(data[:4], sys.byteorder)
    return length


class Subject(Blocking):
    """One socket a process.  Linux only: other kernels have no batches."""

    async def serve(self, ready: Callable[[str], None]) -> None:
        """As :meth:`benchmarks.subject.Subject.serve`."""
        sock = _socket(self.bind)
        address = "{}:{}".format(*sock.getsockname())
        if self.relay_at is not None:
            sock.sendto(b"", _address(self.relay_at))
        ready(address if self.relay_at is None else self.relay_at)
        ciphers = _cipher(0), _cipher(1)
        buffer = memoryview(bytearray(65536))
        plain = bytearray(65536)
        total = told = 0
        first = last = 0.0
        while True:
            length, control, _, source = sock.recvmsg_into([buffer], 64)
            kind, cipher = buffer[0], ciphers[buffer[1] & 1]
            if kind == _SINK:
                size = _size_of(control, length)
                for at in range(_HEADER, length, size):
                    end = min(at - _HEADER + size, length)
                    cipher.decrypt_into(_NONCE, buffer[at:end], None, memoryview(plain)[: end - at - _TAG])
                    total += end - at - _TAG
                last = time.perf_counter()
                first = first or last
                if total - told > _TELL:
                    told = total
                    sock.sendto(_tally.pack(total, last - first), source)
            elif kind == _ECHO:
                message = cipher.decrypt(_NONCE, buffer[_HEADER:length], None)
                sock.sendto(bytes(buffer[:_HEADER]) + cipher.encrypt(_NONCE, message, None), source)
            elif kind == _COUNT:
                sock.sendto(_tally.pack(total, last - first) + b"!", source)
                total, told, first = 0, 0, 0.0

    async def relay(self, ready: Callable[[str], None]) -> None:
        """Forward whole batches between the first to speak, who serves, and the other."""
        sock = _socket(self.bind)
        ready("{}:{}".format(*sock.getsockname()))
        buffer = memoryview(bytearray(65536))
        server = other = sock.recvfrom(1)[1]
        while True:
            length, control, _, source = sock.recvmsg_into([buffer], 64)
            if source != server:
                other = source
            size = _size_of(control, length)
            segment = [(*_SEGMENT, size.to_bytes(2, sys.byteorder))] if length > size else []
            sock.sendmsg([buffer[:length]], segment, 0, other if source == server else server)

    @asynccontextmanager
    async def endpoint(self) -> AsyncIterator[Endpoint]:
        """As :meth:`benchmarks.subject.Subject.endpoint`."""
        yield _Endpoint("0.0.0.0", self.datagram or 8900)


class _Endpoint(Endpoint):
    def __init__(self, host: str, size: int) -> None:
        self._host = host
        self._size = size

    @asynccontextmanager
    async def connect(self, where: str) -> AsyncIterator[Link]:
        with _socket(self._host) as sock:
            sock.connect(_address(where))
            yield _Link(sock, self._size)


class _Link(Link):
    def __init__(self, sock: socket.socket, size: int) -> None:
        self._sock = sock
        self._size = size

    async def sink(self) -> Channel:
        return _Sink(self._sock, self._size)

    async def echo(self) -> Channel:
        return _Echo(self._sock)

    async def datagrams(self) -> Datagrams:
        return _Datagrams(self._sock)


class _Sender:
    """Fills batches and sends them."""

    def __init__(self, sock: socket.socket, size: int, window: int) -> None:
        self._sock = sock
        self._window = window
        aes = int(aes_is_faster())
        self._cipher = _cipher(aes)
        self._size = size
        self._batch = memoryview(bytearray((_SINK, aes)).ljust(size, b"\0") * _SEGMENTS)
        self._control = [(*_SEGMENT, size.to_bytes(2, sys.byteorder))]
        self._sent = self._taken = 0

    @property
    def segments(self) -> int:
        """Datagrams in a full batch."""
        return min(_SEGMENTS, _BATCH // self._size)

    def send(self, data: memoryview) -> None:
        """Send up to a batch of data."""
        batch, size, cipher = self._batch, self._size, self._cipher
        chunk = size - _HEADER - _TAG
        at = 0
        for begin in range(0, len(data), chunk):
            piece = data[begin : begin + chunk]
            end = at + _HEADER + len(piece) + _TAG
            cipher.encrypt_into(_NONCE, piece, None, batch[at + _HEADER : end])
            at = end
        self._sock.sendmsg([batch[:at]], self._control if at > size else [])
        self._sent += len(data)
        while self._sent - self._taken > self._window:
            self.take()

    def take(self) -> None:
        """Read one tally; what is lost when none comes is given up."""
        self._sock.settimeout(_SILENCE)
        try:
            self._taken, _ = _tally.unpack(self._sock.recv(64))
        except TimeoutError:
            self._taken = self._sent
        self._sock.settimeout(None)

    def finish(self) -> tuple[int, float]:
        """What came, of all."""
        self._sock.send(bytes((_COUNT,)))
        while len(answer := self._sock.recv(64)) == _tally.size:
            pass  # one of those on the way
        total, seconds = _tally.unpack_from(answer)
        return total, seconds


class _Sink(Channel):
    def __init__(self, sock: socket.socket, size: int) -> None:
        self._sock = sock
        self._size = size
        self._sender: _Sender | None = None
        self._piece = 0

    async def send(self, data: bytes) -> None:
        if self._sender is None:
            self._sender = _Sender(self._sock, self._size, _WINDOW if len(data) > _SMALL else _WINDOW_OF_SMALL)
            self._piece = self._sender.segments * (self._size - _HEADER - _TAG)
        view = memoryview(data)
        for at in range(0, len(data), self._piece):
            self._sender.send(view[at : at + self._piece])

    async def finish(self) -> int:
        return 0 if self._sender is None else self._sender.finish()[0]


class _Datagrams(Datagrams):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sender: _Sender | None = None
        self._length = 1

    async def send(self, message: bytes, count: int) -> None:
        if self._sender is None:
            self._length = len(message)
            self._sender = _Sender(self._sock, self._length + _HEADER + _TAG, _WINDOW_OF_SMALL)
        data = memoryview(message * count)
        piece = self._sender.segments * len(message)
        for at in range(0, len(data), piece):
            self._sender.send(data[at : at + piece])

    async def finish(self) -> tuple[int, float]:
        total, seconds = (0, 0.0) if self._sender is None else self._sender.finish()
        return total // self._length, seconds


class _Echo(Channel):
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        aes = int(aes_is_faster())
        self._cipher = _cipher(aes)
        self._header = bytes((_ECHO, aes)).ljust(_HEADER, b"\0")

    async def exchange(self, data: bytes) -> None:
        self._sock.send(self._header + self._cipher.encrypt(_NONCE, data, None))
        self._cipher.decrypt(_NONCE, self._sock.recv(2048)[_HEADER:], None)
