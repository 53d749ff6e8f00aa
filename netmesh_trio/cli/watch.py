"""Turns the events of a node into events of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from netmesh_trio.cli.output import Reporter
from netmesh_trio.errors import NetmeshError
from netmesh_trio.events import (
    Event,
    EventsLost,
    KeyInUse,
    NatChanged,
    PathChanged,
    PathReport,
    PeerConnected,
    PeerDisconnected,
    PortMapChanged,
)
from netmesh_trio.identity import PeerId

if TYPE_CHECKING:
    from netmesh_trio import Node

__all__ = ["report", "report_path", "report_port_mapping", "watch"]


async def watch(node: Node, reporter: Reporter, ready: trio.Event, *, nat: bool = True) -> None:
    """Report what changes, from ``ready`` on, until cancelled; without ``nat``, nothing of the NAT."""
    async for event in node.events():
        # What comes before is kept, and told after the ready line.
        await ready.wait()
        if nat or not isinstance(event, NatChanged):
            report(reporter, event)


def report(reporter: Reporter, event: Event) -> None:
    """Print one event of a node."""
    if isinstance(event, PeerConnected):
        peer_id = str(event.peer_id)
        reporter.event("peer", peer_id=peer_id, state="connected", reason=None)
        report_path(reporter, event.peer_id, event.path)
    elif isinstance(event, PeerDisconnected):
        reporter.event(
            "peer",
            f"peer   {event.peer_id.short} is gone ({event.reason})",
            peer_id=str(event.peer_id),
            state="disconnected",
            reason=event.reason,
        )
    elif isinstance(event, PathChanged):
        report_path(reporter, event.peer_id, event.path, event.reason)
    elif isinstance(event, NatChanged):
        reporter.nat(str(event.nat_type), None if event.reflex_addr is None else str(event.reflex_addr))
    elif isinstance(event, PortMapChanged):
        report_port_mapping(reporter, event)
    elif isinstance(event, KeyInUse):
        reporter.note(str(event))
    elif isinstance(event, EventsLost):
        reporter.note(f"{event.count} events came too fast to be told")


def report_path(
    reporter: Reporter, peer_id: PeerId, path: PathReport, reason: str | None = None, *, quiet: bool = False
) -> None:
    """Print the path to a peer; the reason is why it changed, else why it is not direct."""
    if reason is None and isinstance(path.error, NetmeshError):
        reason = path.error.kind
    reporter.path(
        peer_id=str(peer_id),
        kind=path.kind.value,
        addr=None if path.addr is None else str(path.addr),
        via=None if path.via is None else str(path.via),
        rtt_ms=None if path.rtt is None else path.rtt * 1000,
        reason=reason,
        quiet=quiet,
    )


def report_port_mapping(reporter: Reporter, event: PortMapChanged) -> None:
    """Print what became of the request for a port mapping."""
    if event.external is not None:
        human = f"portmap {event.protocol}: the router passes on what comes to {event.external}"
        if not event.public:
            human += ", which is not public: another NAT stands in front of it"
    else:
        human = f"portmap none: {event.error or 'given back'}"
    reporter.event(
        "portmap",
        human,
        protocol=event.protocol,
        external=None if event.external is None else str(event.external),
        public=event.public,
        family=event.family,
        reason=None if event.error is None else event.error.kind,
        detail=None if event.error is None else event.error.detail,
    )
