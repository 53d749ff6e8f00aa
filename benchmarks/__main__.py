"""The command line: ``python -m benchmarks [MEASUREMENT...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import attrs

from benchmarks.measurements import MEASUREMENTS, Measurement
from benchmarks.record import merge
from benchmarks.suite import SUBJECTS, run
from benchmarks.table import lines

__all__ = ["main"]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure netmesh_trio beside what else there is, in processes of their own, each in turn.",
        epilog="Only ratios within one run mean something: machines differ, and so do hours.",
    )
    parser.add_argument("measurements", nargs="*", metavar="MEASUREMENT", help=f"of {', '.join(MEASUREMENTS)}; all")
    parser.add_argument("--runs", type=int, default=3, help="of every subject, in turn (default 3)")
    parser.add_argument("--seconds", type=float, help="of each measurement (default: its own, 1 or 2)")
    parser.add_argument("--subjects", metavar="A,B", help=f"of {','.join(SUBJECTS)}; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write into FILE, which keeps other measurements")
    parser.add_argument("--add", action="store_true", help="add the runs to those that FILE has")
    options = parser.parse_args(arguments)
    for name in options.measurements:
        if name not in MEASUREMENTS:
            parser.error(f"there is no measurement {name!r}: choose of {', '.join(MEASUREMENTS)}")
    options.subjects = list(SUBJECTS) if options.subjects is None else options.subjects.split(",")
    for name in options.subjects:
        if name not in SUBJECTS:
            parser.error(f"there is no subject {name!r}: choose of {', '.join(SUBJECTS)}")
    return options


def _shortened(measurement: Measurement, seconds: float | None) -> Measurement:
    if seconds is None or "seconds" not in measurement.settings:
        return measurement
    return attrs.evolve(measurement, settings={**measurement.settings, "seconds": seconds})


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if netmesh_trio itself failed somewhere."""
    options = _options(arguments)
    records = []
    for name in options.measurements or MEASUREMENTS:
        measurement = _shortened(MEASUREMENTS[name], options.seconds)
        record = run(measurement, options.subjects, options.runs, lambda text: print(text, file=sys.stderr, flush=True))
        print("\n".join(lines(record)), end="\n\n", flush=True)
        records.append(record)
        if options.json is not None:
            merge(record, options.json, add=options.add)
    ours = [record.subjects.get("netmesh_trio") for record in records]
    return 1 if any(figures is not None and figures.missing for figures in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
