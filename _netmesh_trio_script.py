"""What the console script ``netmesh-trio`` runs.

It stands beside the package so that a Ctrl-C is answered in one line also while the package is being imported.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """The console script: exits with the code of the command."""
    try:
        from netmesh_trio.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("netmesh-trio: stopped by Ctrl-C\n")
        sys.exit(130)
    run()
