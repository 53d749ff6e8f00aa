"""The connections of one tunnel: how many there are, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import trio

from netmesh_trio import Stream
from netmesh_trio.cli.output import Reporter, human_bytes
from netmesh_trio.cli.tunnel.splice import Carried, abort, splice, why_ended

__all__ = ["Gate", "turn_away"]

#: Connections at once, of all peers together: fewer than the files that most systems let a program open.
LIMIT = 500


class Gate:
    """Counts the connections of a command, and reports each as it opens and ends."""

    def __init__(self, reporter: Reporter, limit: int = LIMIT) -> None:
        self._reporter = reporter
        self._limit = limit
        self.running: int = 0
        self.opened: int = 0
        self.failed: int = 0
        self.total: Carried = Carried()

    @property
    def full(self) -> bool:
        """Whether no more are taken."""
        return self.running >= self._limit

    def refuse(self, kind: str, why: str, who: str, fields: Mapping[str, str | None]) -> None:
        """A connection did not come about; the command goes on."""
        self.failed += 1
        self._reporter.event("connection", number=None, state="refused", reason=kind, **fields)
        self._reporter.error(kind, f"{who}: {why}")

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Count one for the length of the block, also while it is being set up."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def carry(self, who: str, local: trio.SocketStream, mesh: Stream, fields: Mapping[str, str | None]) -> None:
        """Move the bytes of one connection until it ends."""
        self.opened += 1
        number, carried, start = self.opened, Carried(), trio.current_time()
        self._reporter.event("connection", f"open   #{number} {who}", number=number, state="open", **fields)
        problem: Exception | None = None
        try:
            problem = await splice(local, mesh, carried)
        finally:
            self.total.to_mesh += carried.to_mesh
            self.total.from_mesh += carried.from_mesh
            took = trio.current_time() - start
            kind, why = (None, "") if problem is None else why_ended(problem)
            self._reporter.event(
                "connection",
                f"closed #{number} {who}: {human_bytes(carried.to_mesh)} to the mesh, "
                f"{human_bytes(carried.from_mesh)} from it, {took:.1f} s" + (f"; {why}" if kind == "broken" else ""),
                number=number,
                state="closed",
                **fields,
                to_mesh=carried.to_mesh,
                from_mesh=carried.from_mesh,
                seconds=round(took, 3),
                reason=kind,
            )
            if kind is not None and kind != "broken":
                # not the end of a conversation: it never came about, or the peer is gone
                self.failed += 1
                self._reporter.error(kind, f"#{number} {who}: {why}")

    def done(self) -> None:
        """The command is over."""
        connections = "1 connection" if self.opened == 1 else f"{self.opened:,} connections"
        failed = f", {self.failed:,} failed" if self.failed else ""
        self._reporter.event(
            "done",
            f"done   {connections}{failed}, {human_bytes(self.total.to_mesh)} to the mesh, "
            f"{human_bytes(self.total.from_mesh)} from it, {self._reporter.seconds:.1f} s",
            connections=self.opened,
            failed=self.failed,
            to_mesh=self.total.to_mesh,
            from_mesh=self.total.from_mesh,
            seconds=round(self._reporter.seconds, 3),
        )


def turn_away(local: trio.SocketStream) -> None:
    """End a connection that leads nowhere, so that its program sees a failure."""
    abort(local)
    local.socket.close()
