"""Links with delay, loss and a rate: the laboratory's side of the forwarder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import attrs

from netmesh_trio.testing.kernel_netns import LabError, open_tap

_PROGRAM = Path(__file__).with_name("kernel_forwarder.py")
_ANSWER_TIMEOUT = 10.0
MAX_SHAPED_MTU = 9000
"""Largest MTU of a link that has a shape, bytes."""


@attrs.frozen(kw_only=True)
class LinkShape:
    """How a link treats packets, the same in either direction.

    Raises ``ValueError`` if a value is out of range.
    """

    delay: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    """One way, seconds."""

    loss: float = attrs.field(default=0.0, validator=[attrs.validators.ge(0), attrs.validators.le(1)])
    """Part of the packets that is dropped, 0 to 1, each by its own chance."""

    rate: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    """Bits per second, headers counted; None is as fast as the forwarder can."""

    queue: int = attrs.field(default=256 * 1024, validator=attrs.validators.gt(0))
    """Bytes that may wait for the rate; what comes on top is dropped. Without a rate none wait."""

    def _message(self) -> bytes:
        rate = None if self.rate is None else self.rate / 8
        values = {"delay": self.delay, "loss": self.loss, "rate": rate, "queue": self.queue}
        return json.dumps(values).encode() + b"\n"


@attrs.frozen(kw_only=True)
class LinkStats:
    """What one direction of a shaped link has done so far, in packets (``bytes``: bytes)."""

    forwarded: int
    """Handed to the other end, address resolution included."""
    bytes: int
    """Their bytes, Ethernet headers included."""
    lost: int
    """Dropped by chance."""
    queue_drops: int
    """Dropped since the queue was full."""
    refused: int
    """Dropped since the far end was down."""
    waited: float
    """Seconds that all of them together waited for the rate; divided by the packets, how full the queue was."""


class ShapedLink:
    """A running forwarder between an interface in one namespace and an interface in another."""

    def __init__(self, lower: tuple[str, str], upper: tuple[str, str], shape: LinkShape, seed: int) -> None:
        taps: list[int] = []
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_ANSWER_TIMEOUT)
        try:
            for namespace, interface in (lower, upper):
                taps.append(open_tap(namespace, interface))
            handles = [*taps, theirs.fileno()]
            arguments = [*map(str, handles), str(seed)]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), *arguments],
                pass_fds=handles,
                start_new_session=True,
            )
        except BaseException:  # also at Ctrl-C: nobody else will close it
            self._control.close()
            raise
        finally:
            theirs.close()
            for tap in taps:
                os.close(tap)
        self._shape = shape
        # Not answered before the program runs: the answer is read with the next command or by
        # `ready`.
        self._control.sendall(shape._message())
        self._unread = 1

    @property
    def shape(self) -> LinkShape:
        """How the link treats packets now."""
        return self._shape

    def set(self, shape: LinkShape) -> None:
        """Treat packets differently from now on; those on the wire arrive as planned."""
        self._ask(shape._message())
        self._shape = shape

    def ready(self) -> None:
        """Return when the forwarder is running."""
        if self._unread:
            self._answers()

    def stats(self) -> MappingProxyType[str, LinkStats]:
        """Counters of the two directions, ``"up"`` (towards the internet) and ``"down"``."""
        up, down = self._ask(b"{}\n")
        return MappingProxyType({"up": up, "down": down})

    def _ask(self, message: bytes) -> list[LinkStats]:
        self._control.sendall(message)
        self._unread += 1
        return self._answers()

    def _answers(self) -> list[LinkStats]:
        data = b""
        while data.count(b"\n") < self._unread:
            try:
                piece = self._control.recv(65536)
            except OSError as error:
                raise LabError(f"the forwarder of a link does not answer: {error}") from error
            if not piece:
                raise LabError(f"the forwarder of a link ended with {self._process.wait()}")
            data += piece
        self._unread = 0
        return [LinkStats(**counters) for counters in json.loads(data.splitlines()[-1])]

    def close(self) -> None:
        """End the forwarder; both interfaces go with it."""
        self._control.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
