"""Makes the pictures and tables of docs/scale.rst: ``python -m benchmarks.curves``.

The figures are in docs/scale.json: what ``python -m benchmarks.scale`` and ``python -m benchmarks.links`` write
with ``--json``, as its members ``relay``, ``mesh`` and ``links``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import attrs

__all__ = ["main", "render"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECORD = DOCS / "scale.json"

_WIDTH, _HEIGHT, _ROOM, _LEFT = 350, 150, 40, 10
_STYLE = """
.picture { color: #222; font: 12px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { .picture { color: #ddd } }
.picture text { fill: currentColor }
.picture .title { font-weight: 600 }
.picture .end { text-anchor: end }
.picture polyline { fill: none; stroke: #22a06b; stroke-width: 2 }
.picture circle { fill: #22a06b }
.picture line { stroke: currentColor; stroke-opacity: 0.3 }
"""


@attrs.frozen
class _Panel:
    part: str
    rows: str
    x: str
    y: str
    title: str
    unit: str
    factor: float = 1.0


_PANELS = (
    _Panel("relay", "nodes", "nodes", "session_bytes", "Relay: memory of one session", "kB", 1e-3),
    _Panel("relay", "nodes", "nodes", "join_cpu", "Relay: CPU for one that joins", "ms", 1e3),
    _Panel("relay", "nodes", "nodes", "relay_cpu", "Relay: CPU while all are idle", "%", 100.0),
    _Panel("relay", "nodes", "nodes", "relay_packets", "Relay: packets sent while all are idle", "1/s"),
    _Panel("relay", "circuits", "circuits", "circuit_bytes", "Relay: memory of one circuit", "kB", 1e-3),
    _Panel("relay", "circuits", "circuits", "relay_cpu", "Relay: CPU, a message a second on each", "%", 100.0),
    _Panel("mesh", "nodes", "nodes", "join_announcements", "Mesh: announcements for one that joins", ""),
    _Panel("mesh", "nodes", "nodes", "announcements_of_one", "Mesh: announcements of one in 200 s", ""),
    _Panel("mesh", "nodes", "nodes", "idle_packets", "Mesh: packets of one idle node", "1/s"),
    _Panel("mesh", "nodes", "nodes", "idle_cpu", "Mesh: CPU of one idle node", "%", 100.0),
)


def render(record: dict[str, Any]) -> dict[str, str]:
    """The text of each file, by its name below docs/."""
    return {"pictures/scale.svg": _picture(record), "scale-links.txt": "\n".join(_links(record["links"])) + "\n"}


def _picture(record: dict[str, Any]) -> str:
    body: list[str] = []
    for number, panel in enumerate(_PANELS):
        points = [(row[panel.x], row[panel.y] * panel.factor) for row in record[panel.part][panel.rows]]
        body += _curve(panel, points, number % 2 * (_WIDTH + 20), number // 2 * (_HEIGHT + _ROOM))
    height = -(-len(_PANELS) // 2) * (_HEIGHT + _ROOM)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {2 * _WIDTH + 20} {height}" role="img">'
        f"<title>What nodes, announcements and circuits cost as the mesh grows</title><style>{_STYLE}</style>"
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


def _curve(panel: _Panel, points: Sequence[tuple[float, float]], left: float, top: float) -> Iterator[str]:
    """One panel; both axes begin at zero, so what grows in proportion is a straight line through the corner."""
    right, low = max(x for x, _ in points), max(max(y for _, y in points), 1e-9)
    base = top + _HEIGHT
    at = [(left + _LEFT + x / right * (_WIDTH - 60 - _LEFT), base - 4 - y / low * (_HEIGHT - 44)) for x, y in points]
    yield f'<text class="title" x="{left}" y="{top + 16}">{escape(panel.title)}</text>'
    yield f'<line x1="{left + _LEFT}" x2="{left + _WIDTH - 40}" y1="{base}" y2="{base}"/>'
    yield f'<line x1="{left + _LEFT}" x2="{left + _LEFT}" y1="{top + 30}" y2="{base}"/>'
    yield f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>'
    for (x, y), (count, value) in zip(at, points, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{count:g}: {value:.3g} {panel.unit}</title></circle>'
    x, y = at[-1]
    yield f'<text x="{x + 7:.1f}" y="{y + 4:.1f}">{points[-1][1]:.3g} {panel.unit}</text>'
    yield f'<text class="end" x="{x:.1f}" y="{base + 14}">{points[-1][0]:g} {panel.x}</text>'


def _links(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    cells: dict[tuple[float, ...], dict[str, dict[str, Any]]] = {}
    for result in results:
        cell = result["cell"]
        key = (cell["rtt"], cell["queue"], cell["loss"])
        cells.setdefault(key, {})["+".join(result["flows"])] = result
    yield ".. made by python -m benchmarks.curves"
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    yield from _row(
        "round trip, ms",
        "queue, ms",
        "loss, %",
        "TCP, MB/s",
        "ours, MB/s",
        "ratio",
        "TCP waits, ms",
        "ours waits, ms",
        "two of TCP",
        "two of ours",
        "ours, TCP",
    )
    for (rtt, queue, loss), found in sorted(cells.items()):
        alone = [found.get(kind) for kind in ("tcp", "ours")]
        tcp, ours = (result["goodputs"][0] / 1e6 if result else 0.0 for result in alone)
        yield from _row(
            f"{rtt * 1e3:g}",
            f"{queue * 1e3:g}",
            f"{loss * 100:g}",
            f"{tcp:.2f}",
            f"{ours:.2f}",
            f"{ours / tcp:.2f}" if tcp else "",
            *(f"{result['waited'] * 1e3:.0f}" if result else "" for result in alone),
            *(_share(found.get(mix)) for mix in ("tcp+tcp", "ours+ours", "ours+tcp")),
        )
    yield ""


def _share(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    first, second = result["goodputs"]
    part = round(100 * first / ((first + second) or 1.0))
    return f"{part} : {100 - part}"


def _row(*cells: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        yield f"   {'*' if not number else ' '} - {cell}".rstrip()


def main() -> None:
    """Write the files."""
    for name, text in render(json.loads(RECORD.read_text())).items():
        (DOCS / name).write_text(text)


if __name__ == "__main__":
    main()
