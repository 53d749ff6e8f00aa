"""The entry point of ``netmesh-trio``: imports nothing before it can answer a Ctrl-C."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """The console script."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell; not every version of click looks
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the end
    try:
        from netmesh_trio.cli.commands import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        # While still importing, or while already leaving.
        sys.stderr.write("netmesh-trio: stopped by Ctrl-C\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
