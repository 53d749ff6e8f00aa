"""What all parts of one virtual internet share: schedule, seed, log, who is cut off from whom."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from netmesh_trio.testing.packets import LogEntry, Packet, Train, Verdict
from netmesh_trio.testing.schedule import Schedule

if TYPE_CHECKING:
    from netmesh_trio.testing.host import Host

__all__ = ["Fabric"]


class Fabric:
    """Shared state.  Every part draws from a random stream of its own, named by the seed and the
    part: what happens on one link does not shift the draws of another."""

    def __init__(
        self,
        seed: int | str,
        segments: int,
        receive_buffer: int,
        log_limit: int,
        resolution: float,
    ) -> None:
        self.seed = seed
        self.segments = segments
        self.receive_buffer = receive_buffer
        self.resolution = resolution
        self.schedule: Schedule = Schedule()
        self.blocked: set[tuple[Host, Host]] = set()
        self.on_packet: Callable[[Packet], Verdict | None] | None = None
        self.unroutable = 0
        self.log: deque[LogEntry] = deque(maxlen=log_limit)
        self._logging = log_limit > 0

    def random(self, name: str) -> random.Random:
        """The random stream of the part called ``name``."""
        return random.Random(f"{self.seed}/{name}")

    def record(self, what: str, where: str, train: Train) -> None:
        """Write a line to the log, if there is one."""
        if self._logging:
            self.log.append(
                LogEntry(
                    self.schedule.now(),
                    what,
                    where,
                    train.source,
                    train.destination,
                    train.count,
                    len(train.data),
                )
            )
