"""Records as pictures: bars of the medians, with a line from the lowest to the highest run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.record import Figures, Metric, Record
from benchmarks.table import human

__all__ = ["draw"]

# user units are pixels at full size
_WIDTH = 720
_NAMES = 240
_VALUES = 90
_BAR = 15
_ROW = 21
_TITLE = 30
_TITLE_LENGTH = 75  # letters beside the unit
_GAP = 16

_STYLE = """
.picture { color: #222; font: 13px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { .picture { color: #ddd } }
.picture text { fill: currentColor }
.picture .title { font-weight: 600 }
.picture .name { text-anchor: end }
.picture .ours { fill: #22a06b }
.picture .bound { fill: currentColor; fill-opacity: 0.3 }
.picture .rival { fill: #d98a1e; fill-opacity: 0.8 }
.picture .spread { stroke: currentColor; stroke-width: 1.5 }
"""


def draw(title: str, panels: Sequence[tuple[Record, str]]) -> str:
    """A picture with a panel for each record and key of a metric; each has a scale of its own, from zero."""
    top = 0.0
    body: list[str] = []
    for record, key in panels:
        metric = next(metric for metric in record.metrics if metric.key == key)
        shown = {name: figures for name, figures in record.subjects.items() if figures.values.get(key)}
        if shown:
            body += _panel(record, metric, shown, top)
            top += _TITLE + _ROW * len(shown) + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 {_WIDTH} {top:.0f}" '
        f'role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


def _panel(record: Record, metric: Metric, shown: dict[str, Figures], top: float) -> Iterator[str]:
    better = "more is better" if metric.higher else "less is better"
    title = f"{record.title}: {metric.label}"
    if len(title) > _TITLE_LENGTH:
        title = f"{re.split('[,;]', record.title)[0]}: {metric.label}"
    yield f'<text class="title" x="0" y="{top + 18:.0f}">{escape(title)}</text>'
    yield f'<text class="name" x="{_WIDTH}" y="{top + 18:.0f}">{escape(metric.unit)}, {better}</text>'
    room = _WIDTH - _NAMES - _VALUES
    largest = max(max(figures.values[metric.key]) for figures in shown.values()) or 1.0
    for row, (name, figures) in enumerate(shown.items()):
        y = top + _TITLE + _ROW * row
        values, median = figures.values[metric.key], figures.median(metric.key)
        low, high = (_NAMES + room * max(value, 0.0) / largest for value in (min(values), max(values)))
        width = max(room * median / largest, 1.0)
        kind = "ours" if name.startswith("netmesh_trio") else "bound" if name.startswith(("limit", "tcp")) else "rival"
        yield f'<text class="name" x="{_NAMES - 8}" y="{y + 12:.0f}">{escape(_short(figures.title))}</text>'
        yield f'<rect class="{kind}" x="{_NAMES}" y="{y:.0f}" width="{width:.1f}" height="{_BAR}"/>'
        if not math.isclose(low, high, abs_tol=1.0):
            middle = y + _BAR / 2
            yield f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
        yield f'<text x="{max(high, _NAMES + width) + 6:.1f}" y="{y + 12:.0f}">{human(median)}</text>'


def _short(title: str) -> str:
    """A title without what explains it."""
    return title.partition(" (")[0].partition(":")[0]
