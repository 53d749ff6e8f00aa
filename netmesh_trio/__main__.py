"""``python -m netmesh_trio``: the same as ``netmesh-trio``."""

from __future__ import annotations

from netmesh_trio.cli.main import main

main()
