"""How the demo looks: a live picture on a terminal, lines elsewhere, events for programs."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import trio

from netmesh_trio.cli.output import Reporter, human_bytes
from netmesh_trio.cli.transfer import Outcome, Progress
from netmesh_trio.cli.watch import report_path

if TYPE_CHECKING:
    from rich.console import RenderableType

    from netmesh_trio import Node, Peer
    from netmesh_trio.testing import VirtualInternet

__all__ = ["DemoView"]

_TIMELINE = 12
_REFRESH = 0.1


class DemoView:
    """Collects what happens and shows it, for the length of a ``with`` block."""

    def __init__(self, reporter: Reporter, net: VirtualInternet, delay: float) -> None:
        self._reporter = reporter
        self._net = net
        self._delay = delay
        self._nodes: dict[str, tuple[Node, str]] = {}
        self._pair: tuple[Node, Node, Peer] | None = None
        self._last_path: tuple[object, ...] | None = None
        self._timeline: list[tuple[float, str]] = []
        self._progress: Progress | None = None
        self._live: Any = None

    def __enter__(self) -> DemoView:
        if self._reporter.terminal:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(console=console, get_renderable=self._render, auto_refresh=False)
            self._live.__enter__()
        self.happened(f"an internet in this process: a relay, two NATs, {self._delay:g} ms to each peer")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, traceback)

    # -- what the play tells

    def happened(self, text: str, **fields: Any) -> None:
        """A line of the timeline."""
        now = self._reporter.seconds
        self._timeline.append((now, text))
        if self._live is not None:
            self._live.refresh()
        else:
            self._reporter.event("timeline", f"{now:6.2f} s  {text}", text=text, **fields)

    def joined(self, name: str, node: Node, how: str) -> None:
        """A node is up."""
        self._nodes[name] = (node, how)
        self.happened(f"{name} is {node.peer_id.short}, {how}")
        if self._reporter.as_json:
            self._reporter.ready(str(node.peer_id), [str(uri) for uri in node.addresses])

    def watch(self, near: Node, far: Node, peer: Peer) -> None:
        """From now on the path from ``near`` to ``far`` is of interest."""
        self._pair = (near, far, peer)
        self._check_path()

    def progress(self, progress: Progress) -> None:
        """Hook of the transfer."""
        self._progress = progress
        self._check_path()

    async def refresh(self) -> None:
        """Look for changes of the path until cancelled."""
        while True:
            self._check_path()
            if self._live is not None:
                # Not by rich's own thread, which would look at what we are changing.
                self._live.refresh()
            await trio.sleep(_REFRESH)

    def _check_path(self) -> None:
        if self._pair is None:
            return
        _, far, peer = self._pair
        path = peer.path
        if path is None:
            return
        kind = path.kind.value
        now = (kind, path.addr, path.via)
        if now == self._last_path:
            return
        self._last_path = now
        via = f" by {self._name(path.via)}" if path.via is not None else ""
        self.happened(f"the path from alice to bob is now {kind}{via}")
        if self._reporter.as_json:
            report_path(self._reporter, far.peer_id, path, None)

    def _name(self, peer_id: object) -> str:
        for name, (node, _) in self._nodes.items():
            if node.peer_id == peer_id:
                return name
        return str(peer_id)[:8]

    def finish(self, outcome: Outcome) -> None:
        """The last word."""
        counters = self._counters()
        if self._live is None:
            for name, value in counters.items():
                self._reporter.line(f"{name:>22}: {value}")
        self._reporter.transferred("sent", outcome, str(self._pair[1].peer_id if self._pair else ""))

    # -- the picture

    def _counters(self) -> dict[str, str]:
        relay = self._net.hosts["relay"].link.outbound.statistics()
        nats = [nat.statistics() for nat in self._net.nats.values()]
        return {
            "relay forwarded": f"{relay.passed:,} packets, {human_bytes(relay.passed_bytes)}",
            "dropped in its queue": f"{relay.queue_drops:,}",
            "NAT mappings": f"{sum(nat.mappings for nat in nats)}",
            "strangers kept out": f"{sum(nat.filtered + nat.unmapped for nat in nats):,} packets",
        }

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        nodes = Table(title="nodes", expand=True)
        for column in ("", "peer id", "where"):
            nodes.add_column(column)
        for name, (node, how) in self._nodes.items():
            nodes.add_row(name, node.peer_id.short, how)

        paths = Table(title="paths", expand=True)
        for column in ("from", "to", "path", "via", "round trip"):
            paths.add_column(column)
        path = None if self._pair is None else self._pair[2].path
        if path is not None:
            kind = path.kind.value
            color = "green" if kind == "direct" else "cyan"
            paths.add_row(
                "alice",
                "bob",
                f"[{color}]{kind}[/]",
                "" if path.via is None else self._name(path.via),
                "" if path.rtt is None else f"{path.rtt * 1000:.1f} ms",
            )

        timeline = Table.grid(padding=(0, 2))
        for when, text in self._timeline[-_TIMELINE:]:
            timeline.add_row(f"[dim]{when:5.2f} s[/]", text.replace("[", r"\["))
        counters = Table.grid(padding=(0, 2))
        for name, value in self._counters().items():
            counters.add_row(f"[dim]{name}[/]", value)
        parts: list[RenderableType] = [nodes, paths, Panel(timeline, title="timeline")]
        progress = self._progress
        if progress is not None:
            line = Table.grid(padding=(0, 2))
            line.add_row(
                ProgressBar(total=max(progress.total, 1), completed=progress.done, width=40),
                f"{human_bytes(progress.done)} of {human_bytes(progress.total)}",
            )
            parts.append(line)
        parts.append(Panel(counters, title="counters"))
        return Group(*parts)
