"""The benchmarks run: a tiny run of each, without the rivals."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import main
from benchmarks.chart import draw
from benchmarks.measurements import MEASUREMENTS
from benchmarks.places import missing
from benchmarks.publish import DOCS, RECORD, render
from benchmarks.record import Figures, Metric, Record, load, merge
from benchmarks.table import lines

LIMIT = ["limit"] if sys.platform == "linux" else []


def _measure(names: Sequence[str], subjects: Sequence[str], file: Path) -> list[Record]:
    arguments = ["--runs", "1", "--seconds", "0.1", "--subjects", ",".join(subjects), "--json", str(file)]
    assert main([*names, *arguments]) == 0
    records = load(file)
    for record in records:
        assert list(record.subjects) == list(subjects)
        for figures in record.subjects.values():
            assert not figures.missing
            assert set(figures.values) == {m.key for m in record.metrics if m.key != "cpu" or sys.platform == "linux"}
            assert figures.versions
    return records


def test_every_figure_comes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # one of each kind: the others differ in a number
    names = "bulk-10 bulk-relay round-trip-loaded messages messages-datagram connections footprint".split()
    if sys.platform != "linux":
        names.remove("footprint")
    assert [record.name for record in _measure(names, ["netmesh_trio"], tmp_path / "record.json")] == names
    printed = capsys.readouterr().out
    assert all(MEASUREMENTS[name].title in printed for name in names)


def test_the_yardsticks(tmp_path: Path) -> None:
    _measure(["bulk-relay", "round-trip"], ["tcp", *LIMIT], tmp_path / "record.json")
    _measure(["round-trip"], ["limit-trio"], tmp_path / "another.json")


@pytest.mark.kernel
def test_in_namespaces(tmp_path: Path) -> None:
    reason = missing("namespaces")
    if reason is not None:
        pytest.skip(reason)
    _measure(["bulk-mtu", "direct"], ["netmesh_trio"], tmp_path / "record.json")


def test_a_subject_that_breaks_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MEASUREMENTS["bulk"].settings, "write", "much")
    file = tmp_path / "record.json"
    assert main(["bulk", "--runs", "2", "--subjects", "netmesh_trio,tcp", "--json", str(file)]) == 1
    (record,) = load(file)
    assert all("TypeError" in figures.missing[""] for figures in record.subjects.values())
    assert "kernel TCP, not encrypted: ended with code 1" in capsys.readouterr().out


def test_what_is_not_there_is_told() -> None:
    record = _record(skipped="making network namespaces needs root")
    assert list(lines(record))[-1] == "  left out: making network namespaces needs root"


def test_medians_and_ratios() -> None:
    record = _record()
    record.subjects = {
        "netmesh_trio": Figures(title="ours", values={"rate": [100.0, 300.0, 200.0]}),
        "limit": Figures(title="limit", values={"rate": [400.0]}),
        "tcp": Figures(title="tcp", missing={"": "it fell"}),
    }
    shown = [line.split() for line in lines(record)][3:]
    assert shown == [
        ["ours", "200", "100", "to", "300", "1", "0.5"],
        ["limit", "400", "400", "to", "400", "2", "1"],
        ["tcp:", "it", "fell"],
    ]


def test_a_file_keeps_the_other_measurements(tmp_path: Path) -> None:
    file = tmp_path / "made" / "record.json"
    merge(_record(name="a"), file)
    merge(_record(name="b"), file)
    merge(_record(name="b", runs=7), file)
    assert [(r.name, r.runs) for r in load(file)] == [("a", 1), ("b", 7)]
    file.write_text(json.dumps({"format": 2}))
    with pytest.raises(ValueError, match="not a record"):
        load(file)


def test_runs_are_added_to_those_of_the_same_measurement(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    first, second = _record(), _record(runs=2)
    first.subjects = {"tcp": Figures(title="tcp", values={"rate": [1.0]})}
    second.subjects = {
        "tcp": Figures(title="tcp", values={"rate": [2.0, 4.0]}),
        "limit": Figures(title="limit", missing={"": "it fell"}),
    }
    merge(first, file)
    merge(second, file, add=True)
    (record,) = load(file)
    assert record.runs == 3
    assert record.subjects["tcp"].values == {"rate": [1.0, 2.0, 4.0]}
    assert record.subjects["limit"].missing == {"": "it fell"}
    second.settings = {"seconds": 9}
    with pytest.raises(ValueError, match="other settings"):
        merge(second, file, add=True)


def _record(name: str = "bulk", runs: int = 1, skipped: str | None = None) -> Record:
    metrics = [Metric(key="rate", label="throughput", unit="MB/s", higher=True)]
    return Record(name=name, title="Bulk", place="loopback", runs=runs, settings={}, metrics=metrics, skipped=skipped)


def test_the_page_shows_the_record() -> None:
    """Pictures and tables are those that the record makes: run ``python -m benchmarks.publish`` after a change."""
    for name, text in render(load(RECORD)).items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, name
        if name.endswith(".svg"):
            ElementTree.fromstring(text)


def test_a_picture_shows_the_spread_and_escapes_names() -> None:
    record = _record()
    record.subjects = {
        "netmesh_trio": Figures(title="ours (fast & small)", values={"rate": [100.0, 300.0, 200.0]}),
        "limit": Figures(title="limit: <raw>", values={"rate": [400.0]}),
        "tcp": Figures(title="tcp", missing={"": "it fell"}),
    }
    picture = draw("A & B", [(record, "rate")])
    ElementTree.fromstring(picture)
    assert picture.count("<rect") == 2
    assert picture.count("<line") == 1
    assert ">200<" in picture
