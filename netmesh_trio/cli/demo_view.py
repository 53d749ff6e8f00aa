"""How the demo looks: a live picture on a terminal, lines elsewhere, events for programs."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

import trio

from netmesh_trio.cli.output import Reporter, human_bytes
from netmesh_trio.cli.punches import reason_of
from netmesh_trio.cli.transfer import Outcome, Progress
from netmesh_trio.cli.watch import report_path
from netmesh_trio.traversal import NatType

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from netmesh_trio import Node, Peer
    from netmesh_trio.testing import VirtualInternet
    from netmesh_trio.traversal import TraversalError

__all__ = ["DemoView"]

_REFRESH = 0.1
_SPEED_OVER = 8  # looks
_COLORS = {"relayed": "cyan", "direct": "green"}
# lines of the picture beside the timeline and a line for each node
_FRAME = 14


class DemoView:
    """Collects what happens and shows it, for the length of a ``with`` block."""

    def __init__(self, reporter: Reporter, net: VirtualInternet) -> None:
        self._reporter = reporter
        self._net = net
        self._nodes: dict[str, tuple[Node, str]] = {}
        self._pair: tuple[Node, Node, Peer] | None = None
        self._last_path: tuple[object, ...] | None = None
        self._last_error: TraversalError | None = None
        self._timeline: list[tuple[float, str, str]] = []
        self._progress: Progress | None = None
        #: How many bytes were done at most while the path was of this kind, in order.
        self._parts: list[tuple[int, str]] = []
        self._looks: deque[tuple[float, int]] = deque(maxlen=_SPEED_OVER)
        self._nats: dict[str, tuple[str, str | None]] = {}
        self._moved = False
        self._over = False
        # What is left when the nodes are closed.
        self._counted: dict[str, str] | None = None
        self._last: RenderableType | None = None
        self._console: Console | None = None
        self._live: Any = None

    def __enter__(self) -> DemoView:
        if self._reporter.terminal:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(stderr=True)
            self._live = Live(
                console=self._console, get_renderable=self._render, auto_refresh=False, redirect_stdout=False
            )
            self._live.__enter__()
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

    def happened(self, text: str, style: str = "", **fields: Any) -> None:
        """A line of the timeline."""
        now = self._reporter.seconds
        self._timeline.append((now, text, style))
        if self._live is not None:
            self._live.refresh()
        else:
            self._reporter.event("timeline", f"{now:6.2f} s  {text}", text=text, **fields)

    def joined(self, name: str, node: Node, where: str) -> None:
        """A node is up."""
        self._nodes[name] = (node, where)
        self.happened(f"{name} is {node.peer_id.short}, {where}")
        if self._reporter.as_json:
            self._reporter.ready(str(node.peer_id), [str(uri) for uri in node.addresses])
        self._look_at_nats()

    def moved(self, name: str, where: str) -> None:
        """A node is in another network."""
        self._nodes[name] = (self._nodes[name][0], where)
        self._moved = True
        self.happened(f"{name} moves: now {where}", "yellow")

    def watch(self, near: Node, far: Node, peer: Peer) -> None:
        """From now on the path from ``near`` to ``far`` is of interest."""
        self._pair = (near, far, peer)
        self.look()

    def progress(self, progress: Progress) -> None:
        """Hook of the transfer."""
        self._progress = progress
        self.look()

    async def refresh(self) -> None:
        """Look for changes of the path until cancelled."""
        while True:
            self.look()
            done = 0 if self._progress is None else self._progress.done
            self._looks.append((trio.current_time(), done))
            if self._live is not None:
                # Not by rich's own thread, which would look at what we are changing.
                self._live.refresh()
            await trio.sleep(_REFRESH)

    def look(self) -> None:
        """Tell it if the path is another one than before, or why it is not direct."""
        self._look_at_nats()
        if self._pair is None:
            return
        near, far, peer = self._pair
        path = peer.path
        if path is None:
            return
        kind = path.kind.value
        now = (kind, path.addr, path.via)
        if now != self._last_path:
            changed = self._last_path is not None
            self._last_path = now
            where = f"relayed by {self._name(path.via)}" if path.via is not None else f"direct, to {path.addr}"
            rtt = "" if path.rtt is None else f", {path.rtt * 1000:.0f} ms"
            self.happened(f"the path is {'now ' if changed else ''}{where}{rtt}", f"bold {_COLORS[kind]}")
            if self._reporter.as_json:
                reason = ("silent" if path.via is not None else "better") if changed else None
                report_path(self._reporter, far.peer_id, path, reason)
        error = peer.why_not_direct
        # Until the peer has told of its new network, what fails is an attempt with the NAT that it has left.
        stale = self._moved and near.peer_nat_type(far.peer_id) is NatType.SYMMETRIC
        if error is not None and error is not self._last_error and not stale:
            self.happened(f"it stays on the relay, {error.kind}: {error.detail or reason_of(error)}")
        self._last_error = error
        if self._progress is not None:
            done = self._progress.done
            if self._parts and self._parts[-1][1] == kind:
                self._parts[-1] = (done, kind)
            else:
                self._parts.append((done, kind))

    def _look_at_nats(self) -> None:
        """For programs: the NAT of every node, whenever it is another one."""
        if not self._reporter.as_json:
            return
        for name, (node, _) in self._nodes.items():
            now = (node.nat_type.value, None if node.reflex_addr is None else str(node.reflex_addr))
            if self._nats.get(name) != now:
                self._nats[name] = now
                self._reporter.event("nat", peer_id=str(node.peer_id), nat_type=now[0], reflex_addr=now[1])

    def _name(self, peer_id: object) -> str:
        for name, (node, _) in self._nodes.items():
            if node.peer_id == peer_id:
                return name
        return str(peer_id)[:8]

    def finish(self, outcome: Outcome) -> None:
        """The last word."""
        if self._live is None:
            self._reporter.table({f"  {name}": value for name, value in self._counters().items()})
        self._reporter.transferred("sent", outcome, str(self._pair[1].peer_id if self._pair else ""))

    def close(self) -> None:
        """The play is over, and nothing moves any more; the nodes are still up."""
        self._over = True
        self.look()
        self._counted = self._counters()
        if self._live is not None:
            self._last = self._render()
            self._live.refresh()

    # -- the picture

    def _counters(self) -> dict[str, str]:
        if self._counted is not None:
            return self._counted
        relays = [host.link.outbound.statistics() for name, host in self._net.hosts.items() if "relay" in name]
        found = {
            "relays forwarded": f"{sum(r.passed for r in relays):,} packets, "
            f"{human_bytes(sum(r.passed_bytes for r in relays))}",
        }
        sizes: dict[str, int] = {}
        before = 0
        for done, kind in self._parts:
            sizes[kind] = sizes.get(kind, 0) + done - before
            before = done
        if any(sizes.values()):
            found["of the file"] = ", ".join(f"{human_bytes(size)} {kind}" for kind, size in sizes.items() if size)
        if self._pair is not None:
            stats = self._pair[0].traversal_stats()
            found["upgrades"] = f"{stats.upgrades_succeeded} of {stats.upgrades_attempted} attempts"
            found["failovers"] = f"{stats.path_failovers}"
        return found

    def _speed(self) -> str:
        if self._over or len(self._looks) < 2:
            return ""
        (t0, done0), (t1, done1) = self._looks[0], self._looks[-1]
        return f"{(done1 - done0) / max(t1 - t0, 1e-9) / 1e6:.1f} MB/s"

    def _render(self) -> RenderableType:
        from rich.align import Align
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        if self._last is not None:
            return self._last
        console = self._console
        assert console is not None
        width = min(console.width, 100)

        nodes = Table.grid(padding=(0, 2))
        for name, (node, where) in self._nodes.items():
            kind = node.nat_type.value
            nodes.add_row(
                Text(name, style="bold"),
                Text(node.peer_id.short, style="dim"),
                Text(f"NAT type {kind}", style="dim" if kind == "unknown" else "magenta"),
                where,
            )

        room = max(4, console.height - _FRAME - len(self._nodes))
        timeline = Table.grid(padding=(0, 2))
        timeline.add_column(min_width=7)
        timeline.add_column()
        shown = self._timeline if self._over else self._timeline[-room:]
        for when, text, style in shown:
            timeline.add_row(Text(f"{when:5.2f} s", style="dim"), Text(text, style=style))

        counters = Table.grid(padding=(0, 2))
        for name, value in self._counters().items():
            counters.add_row(Text(name, style="dim"), value)
        parts: list[RenderableType] = [
            nodes,
            Text(),
            Align.center(self._wire(width - 8)),
            Align.center(self._bar(width - 8)),
            Text(),
            timeline,
            Text(),
            counters,
        ]
        title = "[bold]netmesh-trio demo[/]  an internet in this process"
        return Panel(Group(*parts), title=title, width=width, padding=(0, 2), border_style="blue")

    def _wire(self, width: int) -> Text:
        """The way that the data takes."""
        from rich.text import Text

        path = None if self._pair is None else self._pair[2].path
        if path is None:
            return Text("alice" + " " * max(1, width // 2) + "bob", style="dim")
        kind = path.kind.value
        color = _COLORS[kind]
        stops = ["alice", "bob"] if path.via is None else ["alice", self._name(path.via), "bob"]
        rtt = "" if path.rtt is None else f"{path.rtt * 1000:4.0f} ms"
        facts = f"   {kind:<8}{rtt}{self._speed():>11}"
        length = max(10, width - sum(map(len, stops)) - 2 * len(stops) - 32)
        leg = length // (len(stops) - 1)
        text = Text()
        at = int(self._reporter.seconds * 30) % max(1, length)
        for number, stop in enumerate(stops):
            text.append(stop, style="bold")
            if number < len(stops) - 1:
                text.append(" ")
                for cell in range(leg):
                    moving = not self._over and abs(number * leg + cell - at) <= 1
                    text.append("━", style="bold bright_white" if moving else color)
                text.append("▶ ", style=color)
        text.append(facts.ljust(30)[:30], style=color)
        return text

    def _bar(self, width: int) -> Text:
        """How much of the file is there, in the colors of the paths that carried it."""
        from rich.text import Text

        progress = self._progress
        if progress is None:
            return Text()
        total = max(progress.total, 1)
        facts = f"  {human_bytes(progress.done)} of {human_bytes(progress.total)}"
        cells = max(10, width - 26)
        text = Text()
        filled = 0
        for done, kind in self._parts:
            upto = cells * done // total
            text.append("█" * (upto - filled), style=_COLORS[kind])
            filled = max(filled, upto)
        text.append("░" * (cells - filled), style="dim")
        text.append(facts.ljust(26)[:26])
        return text
