"""Records as a table of text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.record import Figures, Metric, Record

__all__ = ["human", "lines"]

_OURS = "netmesh_trio"
_LIMIT = "limit"


def human(value: float) -> str:
    """Three digits and more, no exponent."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def lines(record: Record) -> Iterator[str]:
    """A record: for each metric the median, the spread, and what it is in terms of ours and of the limit."""
    machine = ", ".join(f"{value} cores" if key == "cores" else value for key, value in record.machine.items())
    yield f"{record.title} [{record.name}]"
    if record.skipped is not None:
        yield f"  left out: {record.skipped}"
        return
    yield f"  {machine}; {record.runs} runs, medians (min to max)"
    for metric in record.metrics:
        yield f"  {f'{metric.label}, {metric.unit}':44}{'median':>12}{'min to max':>26}{'to ours':>9}{'to limit':>9}"
        for figures in record.subjects.values():
            if figures.values.get(metric.key):
                yield f"    {_row(metric, figures, record)}"
    labels = {metric.key: metric.label for metric in record.metrics}
    for figures in record.subjects.values():
        for key, reason in figures.missing.items():
            yield f"    {figures.title}{f', {labels[key]}' if key else ''}: {reason}"


def _row(metric: Metric, figures: Figures, record: Record) -> str:
    values = figures.values[metric.key]
    median = figures.median(metric.key)
    spread = f"{human(min(values))} to {human(max(values))}"
    ratios = [_ratio(median, record, name, metric) for name in (_OURS, _LIMIT)]
    return f"{figures.title:42}{human(median):>12}{spread:>26}{ratios[0]:>9}{ratios[1]:>9}"


def _ratio(median: float, record: Record, name: str, metric: Metric) -> str:
    other = record.subjects.get(name)
    base = math.nan if other is None else other.median(metric.key)
    return human(median / base) if base else "-"
