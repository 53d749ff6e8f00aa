"""Small messages in quick succession: many go into one packet, and none waits for a clock.

A message that is sent while nothing is under way goes out at once.  One that follows another closely, while that is
under way, waits for the program: as long as it goes on writing each time that its task runs, up to a limit of bytes.
When it stops, what it wrote goes out two turns of the event loop later, some ten microseconds on an idle machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .waiting import WaitingPlace

if TYPE_CHECKING:
    from .live import LiveSession

__all__ = ["Bursts"]

#: Seconds between two messages that make the second part of a burst.
GAP = 0.0002
#: Bytes, and datagrams, of a burst that go out without waiting for more.
ENOUGH = 4096
ENOUGH_DATAGRAMS = 32
# Tasks run in any order in a turn: one that writes in every turn is seen to write in each second one at least.
_TURNS = 2


class Bursts:
    """The sessions with an unsent burst, and the task that waits for its end."""

    def __init__(self) -> None:
        #: Turns without anything new, for each.
        self._waiting: dict[LiveSession, int] = {}
        self._idle = WaitingPlace()

    def add(self, live: LiveSession) -> None:
        """The session got something that may wait for more."""
        if not self._waiting:
            self._idle.wake()
        self._waiting[live] = 0

    def over(self, live: LiveSession) -> None:
        """The session is driven now."""
        self._waiting.pop(live, None)

    async def run(self) -> None:
        """Run for ever."""
        waiting = self._waiting
        while True:
            if not waiting:
                await self._idle.wait()
            await trio.lowlevel.checkpoint()
            for live, turns in list(waiting.items()):
                if turns < _TURNS:
                    waiting[live] = turns + 1
                else:
                    live.drive()
