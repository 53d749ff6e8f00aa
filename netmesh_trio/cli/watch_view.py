"""How ``netmesh-trio watch`` looks: rates from counters, and the picture on a terminal."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import click
import trio

from netmesh_trio.cli.output import Reporter, human_bytes
from netmesh_trio.identity import PeerId

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from netmesh_trio import Node, Peer

__all__ = ["Rates", "Sampler", "View"]

_EVENTS = 200
_FRAME = 9
"""Lines of the picture beside peers and events."""


@attrs.frozen
class Rates:
    """Bytes a second since the last look: of the whole node, and of each peer."""

    received: float
    sent: float
    relayed: float
    peers: dict[PeerId, tuple[float, float]]
    known: tuple[Peer, ...]

    def __str__(self) -> str:
        count = len(self.known)
        return (
            f"{count} {'peer' if count == 1 else 'peers'}, {human_bytes(self.received)}/s in, "
            f"{human_bytes(self.sent)}/s out, {human_bytes(self.relayed)}/s relayed"
        )

    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "received": round(self.received, 1),
            "sent": round(self.sent, 1),
            "relayed": round(self.relayed, 1),
            "peers": [self._peer(peer) for peer in self.known],
        }

    def _peer(self, peer: Peer) -> dict[str, Any]:
        path, why = peer.path, peer.why_not_direct
        received, sent = self.peers[peer.peer_id]
        return {
            "peer_id": str(peer.peer_id),
            "kind": None if path is None else path.kind.value,
            "addr": None if path is None or path.addr is None else str(path.addr),
            "via": None if path is None or path.via is None else str(path.via),
            "rtt_ms": None if path is None or path.rtt is None else round(path.rtt * 1e3, 3),
            "reason": None if why is None else why.kind,
            "received": round(received, 1),
            "sent": round(sent, 1),
        }


class Sampler:
    """Turns counters into rates."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._totals = (0, 0, 0)
        self._peers: dict[PeerId, tuple[int, int]] = {}

    def look(self, node: Node) -> Rates:
        """The rates since the last look; zero at the first."""
        now, stats, peers = trio.current_time(), node.statistics(), tuple(node.peers())
        took = max(now - self._at, 1e-3) if self._at is not None else float("inf")
        totals = (stats.bytes_received, stats.bytes_sent, stats.relayed_bytes)
        received, sent, relayed = (max(0, new - old) / took for new, old in zip(totals, self._totals, strict=True))
        counts = {}
        for peer in peers:
            of_peer = peer.statistics()
            counts[peer.peer_id] = (of_peer.bytes_received, of_peer.bytes_sent)
        rates: dict[PeerId, tuple[float, float]] = {}
        for peer_id, (in_bytes, out_bytes) in counts.items():
            # fewer than before: the session is another one
            was_in, was_out = self._peers.get(peer_id, (in_bytes, out_bytes))
            rates[peer_id] = (max(0, in_bytes - was_in) / took, max(0, out_bytes - was_out) / took)
        self._at, self._totals, self._peers = now, totals, counts
        return Rates(received, sent, relayed, rates, peers)


class View:
    """The picture, for as long as :meth:`show` runs."""

    def __init__(self) -> None:
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self._started = trio.current_time()
        self._shown = False

    def reporter(self) -> Reporter:
        """A reporter whose lines become the events of the picture."""
        return Reporter(stdout=_Lines(self._add), stderr=_Lines(self._add))

    def _add(self, line: str) -> None:
        minutes, seconds = divmod(int(trio.current_time() - self._started), 60)
        if not self._shown:
            click.echo(line, err=True)
        self._events.append(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}  {line}")

    async def show(self, node: Node, sampler: Sampler, interval: float) -> None:
        """Draw until cancelled."""
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        self._shown = True
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                live.update(self._render(console, node, sampler.look(node)), refresh=True)
                await trio.sleep(interval)

    def _render(self, console: Console, node: Node, rates: Rates) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        about = Table.grid(padding=(0, 2))
        about.add_column(style="dim", no_wrap=True)
        about.add_column(overflow="fold")
        about.add_row("this node", str(node.peer_id))
        about.add_row("NAT", f"{node.nat_type.value}, seen from outside as {node.reflex_addr or '?'}")
        about.add_row("traffic", str(rates))

        wide = console.width >= 100
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        table.add_column("peer", no_wrap=True, min_width=8)
        table.add_column("path", no_wrap=True, overflow="ellipsis", ratio=3)
        for name in ("rtt", "in", "out"):
            table.add_column(name, justify="right", no_wrap=True, min_width=9)
        if wide:
            table.add_column("not direct because", no_wrap=True, overflow="ellipsis", ratio=2)
        room = max(1, console.height - _FRAME - 3)
        known = rates.known[: max(1, room * 2 // 3)]
        for peer in known:
            path, why = peer.path, peer.why_not_direct
            received, sent = rates.peers[peer.peer_id]
            color = "" if path is None else "green" if path.kind.value == "direct" else "cyan"
            row: list[RenderableType] = [
                Text(peer.peer_id.short, style="bold"),
                Text("" if path is None else path.route, style=color),
                "" if path is None or path.rtt is None else f"{path.rtt * 1e3:.1f} ms",
                f"{human_bytes(received)}/s",
                f"{human_bytes(sent)}/s",
            ]
            table.add_row(*row, *([Text("" if why is None else why.kind, style="dim")] if wide else []))
        if len(known) < len(rates.known):
            table.add_row(f"... and {len(rates.known) - len(known)} more")
        left = max(1, room - len(known))
        events = Text("\n".join(list(self._events)[-left:]), style="dim", no_wrap=True, overflow="ellipsis")
        return Panel(
            Group(about, Text(), table, Text(), events),
            title="[bold]netmesh-trio watch[/]  Ctrl-C ends it",
            border_style="blue",
            padding=(0, 1),
            height=console.height,
        )


class _Lines(io.StringIO):
    """A file that hands on what is written to it, line by line."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._take(line.strip())
        return len(text)
