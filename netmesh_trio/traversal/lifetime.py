"""How long a NAT remembers a binding that nobody uses (RFC 4787, section 4.3): which waits to try, what follows."""

from __future__ import annotations

import attrs

__all__ = ["WAITS", "LifetimeSearch", "keep_alive_for"]

#: Seconds of silence that are tried.  RFC 4787 asks for 120 at least and recommends 300; many routers forget after 30.
WAITS = (7.5, 15.0, 30.0, 60.0, 120.0, 300.0)
_FIRST = WAITS.index(30.0)
# Of a wait that a binding is known to survive, so much passes before it is refreshed.
_SAFE = 0.75


@attrs.define
class LifetimeSearch:
    """Goes up from 30 seconds while bindings survive, or down until one does."""

    #: The longest silence, seconds, that a binding is known to have survived; 0 if none is.
    alive: float = 0.0
    #: The shortest after which one is known to be gone; None if none was.
    gone: float | None = None
    _next: int | None = _FIRST

    @property
    def wait(self) -> float | None:
        """The silence to try next, seconds; None when there is nothing more to find out."""
        return None if self._next is None else WAITS[self._next]

    def record(self, survived: bool) -> None:
        """What became of a binding after :attr:`wait`."""
        if self._next is None:
            raise ValueError("the search is over")
        wait = WAITS[self._next]
        if survived:
            self.alive = max(self.alive, wait)
            self._next = self._next + 1 if self.gone is None and self._next + 1 < len(WAITS) else None
        else:
            self.gone = wait if self.gone is None else min(self.gone, wait)
            self._next = self._next - 1 if not self.alive and self._next else None


def keep_alive_for(wanted: float, alive: float, gone: float | None) -> float:
    """Seconds between keep-alives where bindings survive ``alive`` and not ``gone``: ``wanted`` or fewer."""
    if gone is None or wanted <= _SAFE * alive:
        return wanted
    return min(wanted, _SAFE * (alive or WAITS[0] / 2))
