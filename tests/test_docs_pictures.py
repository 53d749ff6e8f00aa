"""The drawings on the pages are there, can be read in light and in dark, and show what the program does."""

from __future__ import annotations

import importlib.util
import re
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = sorted((DOCS / "pictures").glob("*.svg"))
PAGES = sorted(DOCS.glob("**/*.rst"))


def shown() -> dict[Path, Path]:
    """Each picture that a page shows, and that page."""
    found = {}
    for page in PAGES:
        for name in re.findall(r"^ +:file: (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            found[(page.parent / name).resolve()] = page
    return found


def test_pages_show_all_the_pictures_that_there_are() -> None:
    assert set(shown()) == {picture.resolve() for picture in PICTURES}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_a_picture_has_the_colors_of_the_page_and_says_what_it_shows(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.get("class") == "picture"  # what _static/site.css colors
    title = root.find(f"{space}title")
    assert title is not None
    assert title.text
    style = root.find(f"{space}style")
    assert style is not None
    assert style.text is not None
    assert "prefers-color-scheme: dark" in style.text
    assert ".picture text { fill: currentColor" in style.text
    for rule in re.findall(r"^(\.[^{\n]+) \{", style.text, re.MULTILINE):
        assert all(selector.strip().startswith(".picture") for selector in rule.split(",")), "would color the page"
    width, height = (float(n) for n in (root.get("viewBox") or "").split()[2:])
    assert width > height / 2 > 0


def load(script: Path) -> Any:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_upgrade_is_drawn_from_a_run_that_still_goes_like_that() -> None:
    script = load(DOCS / "pictures" / "path_upgrade.py")
    samples = script.measure()
    parts = [(path, list(group)) for path, group in groupby(samples, key=lambda sample: sample.path)]
    assert [path for path, _ in parts] == ["relayed", "direct"] * 3
    for path, part in parts:
        best = max(sample.rate for sample in part)
        assert best <= 1.05 * script.LINE
        assert best > 0.9 * (script.LINE if path == "direct" else script.RELAY_LINE)
    drawing = ElementTree.fromstring(script.draw(samples))
    committed = ElementTree.parse(script.PICTURE).getroot()

    def kinds(root: ElementTree.Element) -> list[str | None]:
        return [element.get("class") for element in root.iter() if element.tag.endswith(("rect", "text", "line"))]

    assert kinds(drawing) == kinds(committed), "run docs/pictures/path_upgrade.py"
