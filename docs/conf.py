"""Sphinx configuration; build with ``nox -s docs`` (warnings are errors there)."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version as installed_version
from typing import Any

project = "netmesh_trio"
author = "The netmesh_trio authors"
project_copyright = author
release = version = installed_version("netmesh-trio")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "examples"]
nitpicky = False

autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "show-inheritance": True,
}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"netmesh_trio {release}"


def _show_context_managers(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """What is written as a generator is used by ``async with``, so that is what its signature says."""
    if returned is None or not inspect.isasyncgenfunction(inspect.unwrap(thing)) or inspect.isasyncgenfunction(thing):
        return None
    return signature, re.sub(
        r"^(?:[\w.~]+\.)?AsyncGenerator\[(.*), None\]$", r"AbstractAsyncContextManager[\1]", returned
    )


def _show_attributes(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """The section "Attributes:" of a class, which ``help()`` shows as it is written, as one entry for each."""
    if what != "class" or "Attributes:" not in lines:
        return
    start = lines.index("Attributes:")
    told, lines[start:] = lines[start + 1 :], []
    for line in told:
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry is None:
            lines.append("   " + line.strip())
            continue
        annotation = thing.__annotations__[entry[1]]
        lines.extend(["", f".. attribute:: {entry[1]}", f"   :type: {annotation}", "", f"   {entry[2]}"])
    lines.append("")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _show_attributes)
    app.connect("autodoc-process-signature", _show_context_managers)
