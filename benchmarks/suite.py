"""Runs measurements: every subject in turn, then all again, so that a slow minute hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from typing import Any

import attrs

from benchmarks.conduct import Ends
from benchmarks.measurements import Measurement
from benchmarks.places import PLACES, Place, missing
from benchmarks.process import Failed
from benchmarks.record import Figures, Record, versions_of
from benchmarks.subject import NotOffered

__all__ = ["SUBJECTS", "Entry", "run"]


@attrs.frozen(kw_only=True)
class Entry:
    """A subject of the report."""

    title: str
    #: In :mod:`benchmarks.subjects`.
    module: str
    #: The distributions that it needs, whose versions the record names.
    packages: tuple[str, ...]
    options: dict[str, Any] = attrs.field(factory=dict)
    #: Takes part only where a measurement names it.
    variant: bool = False


def _entry(title: str, module: str, *packages: str) -> Entry:
    return Entry(title=title, module=module, packages=packages)


def _small(entry: Entry) -> Entry:
    """The same with datagrams as large as they are on most of the internet."""
    title = f"{entry.title.partition(':')[0]}, 1,400 B datagrams"
    return attrs.evolve(entry, title=title, options={"datagram": 1400}, variant=True)


_OURS = _entry("netmesh_trio", "ours", "netmesh-trio", "trio", "cryptography")
_LIMIT = _entry("limit: raw UDP, one AEAD a packet", "limit", "cryptography")

SUBJECTS: dict[str, Entry] = {
    "netmesh_trio": _OURS,
    "netmesh_trio-1400": _small(_OURS),
    "netmesh_trio-asyncio": attrs.evolve(
        _entry("netmesh_trio, both ends on asyncio", "netmesh_anyio", "netmesh-trio", "anyio"), variant=True
    ),
    "limit": _LIMIT,
    "limit-1400": _small(_LIMIT),
    "limit-trio": attrs.evolve(
        _entry("limit on trio: UDP, one AEAD, two tasks", "limit_trio", "trio", "cryptography"), variant=True
    ),
    "tcp": _entry("kernel TCP, not encrypted", "tcp", "trio"),
    "libp2p": _entry("libp2p (Noise, Yamux, TCP)", "rival_libp2p", "libp2p", "trio"),
    "net-mesh": _entry("net-mesh", "rival_net_mesh", "net-mesh"),
    "iroh": _entry("iroh", "rival_iroh", "iroh"),
    "aiortc": _entry("aiortc data channel", "rival_aiortc", "aiortc", "aioice", "pylibsrtp"),
    "aioice": attrs.evolve(_entry("aioice, signaling by the relay", "rival_aioice", "aioice"), variant=True),
}


def run(measurement: Measurement, names: Sequence[str], runs: int, tell: Callable[[str], None]) -> Record:
    """Measure the named subjects, as far as they take part and are installed; what fails is told in the record."""
    record = Record(
        name=measurement.name,
        title=measurement.title,
        place=measurement.place,
        runs=runs,
        settings=measurement.settings,
        metrics=list(measurement.metrics),
        skipped=missing(measurement.place),
    )
    if record.skipped is not None:
        tell(f"{measurement.name}: left out: {record.skipped}")
        return record
    with PLACES[measurement.place]() as place:
        for name in names:
            if _takes_part(measurement, name):
                record.subjects[name] = _prepare(SUBJECTS[name])
        for number in range(runs):
            for name, figures in record.subjects.items():
                if "" in figures.missing:
                    continue
                _once(measurement, SUBJECTS[name], place, figures)
                said = figures.missing.get("") or " ".join(f"{k} {v[-1]:.4g}" for k, v in figures.values.items())
                tell(f"{measurement.name} {number + 1}/{runs}: {name}: {said}")
    return record


def _takes_part(measurement: Measurement, name: str) -> bool:
    return name in measurement.variants or not (SUBJECTS[name].variant or name in measurement.without)


def _prepare(entry: Entry) -> Figures:
    figures = Figures(title=entry.title)
    try:
        figures.versions = versions_of(entry.packages)
    except PackageNotFoundError as error:
        figures.missing[""] = f"{error.name} is not installed (benchmarks/rivals.txt)"
    return figures


def _once(measurement: Measurement, entry: Entry, place: Place, figures: Figures) -> None:
    try:
        options = {**entry.options, "clients": measurement.clients}
        with Ends.up(entry.module, options, measurement.client, place) as ends:
            figures.add(measurement.conduct(ends, measurement.settings))
            figures.missing.update(ends.missing)
    except (NotOffered, Failed) as reason:
        # one that broke once is not asked again: what it gave before stays
        figures.missing[""] = str(reason)
