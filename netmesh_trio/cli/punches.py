"""``punch`` events: how the search for a direct path to a peer went.  The traffic rides the relay all the while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.watch import report_path
from netmesh_trio.events import PathChanged, PathKind, PeerConnected, PeerDisconnected
from netmesh_trio.identity import PeerId

if TYPE_CHECKING:
    from netmesh_trio import Node
    from netmesh_trio.traversal import TraversalError

__all__ = ["PunchWatcher", "reason_of"]

_EVERY = 0.25


def reason_of(error: TraversalError) -> str:
    """Kind and words of what keeps a path from being direct, without its general consequence."""
    return f"{error.kind}: {str(error).removesuffix('; traffic stays on the relay')}"


class PunchWatcher:
    """Reports it when a relayed session with a peer becomes direct, or when an attempt at that fails."""

    def __init__(self, node: Node, reporter: Reporter) -> None:
        self._node = node
        self._reporter = reporter
        self._kinds: dict[PeerId, PathKind] = {}
        self._failures: dict[PeerId, TraversalError] = {}

    async def watch_paths(self, ready: trio.Event) -> None:
        """Report what succeeds, from ``ready`` on, until cancelled."""
        async for event in self._node.events():
            await ready.wait()
            if isinstance(event, PeerConnected):
                self._kinds[event.peer_id] = event.path.kind
            elif isinstance(event, PeerDisconnected):
                self._kinds.pop(event.peer_id, None)
            elif isinstance(event, PathChanged):
                before = self._kinds.get(event.peer_id)
                self._kinds[event.peer_id] = event.path.kind
                if event.path.kind is PathKind.DIRECT and before is PathKind.RELAYED:
                    # the line about the path is enough for people
                    self._report(event.peer_id, "direct", None)

    async def watch_failures(self, ready: trio.Event) -> None:
        """Report what fails, from ``ready`` on, until cancelled."""
        await ready.wait()
        while True:
            self.check()
            await trio.sleep(_EVERY)

    def check(self) -> None:
        """Report attempts that have failed since the last time, and with what reason the path is what it was."""
        known = self._failures
        self._failures = {}
        for peer in self._node.peers():
            error = peer.why_not_direct
            if error is not None:
                self._failures[peer.peer_id] = error
                if error is not known.get(peer.peer_id):
                    self._report(peer.peer_id, "failed", error)
                    path = peer.path
                    if path is not None:
                        # for people, the line above says it
                        report_path(self._reporter, peer.peer_id, path, quiet=True)

    def _report(self, peer_id: PeerId, outcome: str, error: TraversalError | None) -> None:
        human = None
        if error is not None:
            human = f"punch  to {peer_id.short}: stays on the relay, {reason_of(error)}"
        self._reporter.event(
            "punch",
            human,
            peer_id=str(peer_id),
            outcome=outcome,
            kind=None if error is None else error.kind,
            message=None if error is None else str(error),
        )
