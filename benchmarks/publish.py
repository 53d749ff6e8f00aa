"""Makes the pictures and tables of docs/benchmarks.rst of a record: ``python -m benchmarks.publish``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chart import draw
from benchmarks.record import Figures, Metric, Record, load
from benchmarks.table import human

__all__ = ["main", "render"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECORD = DOCS / "benchmarks.json"

_PICTURES: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "throughput": (
        "Bulk throughput of netmesh_trio and others",
        [(name, "rate") for name in ("bulk", "bulk-64k", "bulk-10", "bulk-mtu", "bulk-relay")],
    ),
    "latency": (
        "Round trips, connections and the time to a direct path, of netmesh_trio and others",
        [
            ("round-trip", "p50"),
            ("round-trip", "p99"),
            ("round-trip-loaded", "p99"),
            ("connections", "p50"),
            ("direct", "direct"),
        ],
    ),
    "messages": (
        "Messages a second, of netmesh_trio and others",
        [(name, "rate") for name in ("messages", "messages-batch", "messages-datagram")],
    ),
    "footprint": (
        "Memory of idle nodes and sessions, of netmesh_trio and others",
        [("footprint", "idle"), ("footprint", "session")],
    ),
}


def render(records: list[Record]) -> dict[str, str]:
    """The text of each file, by its name below docs/."""
    known = {record.name: record for record in records}
    files = {}
    for name, (title, panels) in _PICTURES.items():
        present = [(known[record], key) for record, key in panels if record in known]
        files[f"pictures/benchmarks-{name}.svg"] = draw(title, present)
    files["benchmarks-figures.txt"] = "\n".join(_page(records)) + "\n"
    return files


def _page(records: list[Record]) -> Iterator[str]:
    yield ".. made by python -m benchmarks.publish"
    yield ""
    for machine in dict.fromkeys(tuple(record.machine.items()) for record in records):
        facts = dict(machine)
        yield (
            f"The machine: {facts['system']}, {facts['processor']}, {facts['cores']} cores, {facts['python']}; "
            f"measured on {facts['date']}."
        )
        yield ""
    versions = {name: v for record in records for f in record.subjects.values() for name, v in f.versions.items()}
    yield f"Versions: {', '.join(f'{name} {versions[name]}' for name in sorted(versions))}."
    yield ""
    for record in records:
        yield from _table(record)


def _table(record: Record) -> Iterator[str]:
    yield f".. list-table:: {record.title} (``{record.name}``, {record.runs} runs)"
    yield "   :header-rows: 1"
    yield ""
    metrics = [metric for metric in record.metrics if any(f.values.get(metric.key) for f in record.subjects.values())]
    yield from _cells(["", *(f"{metric.label}, {metric.unit}" for metric in metrics)])
    for figures in record.subjects.values():
        if figures.values:
            yield from _cells([figures.title, *(_cell(figures, metric) for metric in metrics)])
    yield ""
    for figures in record.subjects.values():
        for key, reason in figures.missing.items():
            label = next((f", {metric.label}" for metric in record.metrics if metric.key == key), "")
            yield f"* Without {figures.title}{label}: {reason}."
    if record.skipped is not None:
        yield f"* Left out: {record.skipped}."
    yield ""


def _cells(texts: list[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f"   {'*' if number == 0 else ' '} - {text}".rstrip()


def _cell(figures: Figures, metric: Metric) -> str:
    values = figures.values.get(metric.key)
    if not values:
        return "\\-"
    return f"{human(figures.median(metric.key))} ({human(min(values))} to {human(max(values))})"


def main() -> None:
    """Write them."""
    for name, text in render(load(RECORD)).items():
        (DOCS / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{DOCS / name}\n")


if __name__ == "__main__":
    main()
