"""Sphinx configuration; build with ``nox -s docs`` (warnings are errors there)."""

from __future__ import annotations

from importlib.metadata import version as installed_version

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

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"netmesh_trio {release}"
