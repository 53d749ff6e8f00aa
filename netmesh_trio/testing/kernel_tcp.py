"""The reference to compare a transfer with: one TCP connection of the kernel, with CUBIC.

Run by path, ``receive`` or ``send HOST PORT BYTES``, with the standard library only.
"""

from __future__ import annotations

import json
import socket
import sys
import time

_PIECE = 256 * 1024


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def receive() -> None:
    """Accept one connection on any port (printed), read it to its end, answer one byte."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        _tell(str(server.getsockname()[1]))
        connection, _ = server.accept()
    with connection:
        buffer = bytearray(_PIECE)
        total = 0
        while count := connection.recv_into(buffer):
            total += count
        connection.sendall(b"!")
    _tell(str(total))


def send(host: str, port: int, size: int, congestion: str) -> None:
    """Send ``size`` bytes; print the seconds from the first SYN to the receiver's answer."""
    piece = bytes(_PIECE)
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        # By socket: outside the first namespace the kernel does not let CUBIC be the default.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        connection.connect((host, port))
        left = size
        while left > 0:
            connection.sendall(piece[: min(left, _PIECE)])
            left -= _PIECE
        connection.shutdown(socket.SHUT_WR)
        answered = connection.recv(1) == b"!"
    seconds = time.monotonic() - began
    _tell(json.dumps({"seconds": seconds, "answered": answered}))


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive()
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
