"""What came out of a run: values, and their form as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Figures", "Metric", "Record", "load", "merge", "versions_of"]


@attrs.frozen(kw_only=True)
class Metric:
    """One figure that a measurement gives."""

    key: str
    label: str
    unit: str
    #: Whether more is better.
    higher: bool = False


@attrs.define(kw_only=True)
class Figures:
    """What one subject achieved: a value for each metric and run."""

    title: str
    versions: dict[str, str] = attrs.field(factory=dict)
    values: dict[str, list[float]] = attrs.field(factory=dict)
    #: Why it, or one of its metrics (by key), is missing.
    missing: dict[str, str] = attrs.field(factory=dict)

    def add(self, values: dict[str, float]) -> None:
        """Enter one run."""
        for key, value in values.items():
            self.values.setdefault(key, []).append(value)

    def median(self, key: str) -> float:
        """Of all runs; not a number if there is none."""
        values = self.values.get(key)
        return statistics.median(values) if values else math.nan


@attrs.define(kw_only=True)
class Record:
    """One measurement: every subject, measured in turn in one run of the suite."""

    name: str
    title: str
    place: str
    runs: int
    settings: dict[str, Any]
    metrics: list[Metric]
    machine: dict[str, str] = attrs.field(factory=lambda: describe_machine())
    subjects: dict[str, Figures] = attrs.field(factory=dict)
    #: Why the whole measurement is missing.
    skipped: str | None = None

    def add(self, more: Record) -> None:
        """Enter the runs of another record of the same measurement.  Raises ValueError if it is of another."""
        if (self.name, self.settings, self.machine) != (more.name, more.settings, more.machine):
            raise ValueError(f"these runs of {self.name} had other settings, or another machine or day")
        self.runs += more.runs
        for name, figures in more.subjects.items():
            mine = self.subjects.setdefault(name, Figures(title=figures.title))
            mine.versions, mine.missing = figures.versions, {**mine.missing, **figures.missing}
            for key, values in figures.values.items():
                mine.values.setdefault(key, []).extend(values)


def describe_machine() -> dict[str, str]:
    """What a reader has to know to compare."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """The installed versions.  Raises importlib.metadata.PackageNotFoundError if one is missing."""
    return {package: version(package) for package in packages}


def merge(record: Record, path: Path, *, add: bool = False) -> None:
    """Write a record into a file, which keeps those of other measurements that it has.

    ``add`` adds the runs to those of the same measurement, rather than replacing them.
    """
    kept = {r.name: r for r in load(path)} if path.exists() else {}
    before = kept.get(record.name)
    if add and before is not None:
        before.add(record)
    else:
        kept[record.name] = record
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"format": 1, "records": [attrs.asdict(r) for r in kept.values()]}
    path.write_text(json.dumps(_rounded(data), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    """Five digits say more than these values mean."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def load(path: Path) -> list[Record]:
    """Read what :func:`merge` wrote.  Raises ValueError if it is something else."""
    data = json.loads(path.read_text())
    if not isinstance(data, dict) or data.get("format") != 1:
        raise ValueError(f"{path} is not a record of these benchmarks")
    records = []
    for fields in data["records"]:
        metrics = [Metric(**metric) for metric in fields.pop("metrics")]
        subjects = {name: Figures(**figures) for name, figures in fields.pop("subjects").items()}
        records.append(Record(**fields, metrics=metrics, subjects=subjects))
    return records
