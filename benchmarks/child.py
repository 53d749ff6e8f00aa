"""The program of one end of a subject: ``python -m benchmarks.child ROLE SUBJECT TASK``.

It prints JSON, one object a line: ``{"ready": ADDRESS}`` of an end that serves or relays, ``{"result": {...}}`` of one
that measures, and ``{"not_offered": REASON}``.  When its standard input ends, it ends.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks.subject import NotOffered, Subject


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def _end_with_input() -> None:
    # a descriptor, not the buffered file: the interpreter's own end must not wait for its lock
    while os.read(0, 100):
        pass
    os._exit(0)


def _run(role: str, subject: Subject, task: dict[str, Any]) -> None:
    def ready(where: str) -> None:
        _say(ready=where)

    if role == "serve":
        subject.run(lambda: subject.serve(ready))
    elif role == "relay":
        subject.run(lambda: subject.relay(ready))
    else:
        module, _, name = task["client"].partition(":")
        client = getattr(importlib.import_module(module), name)
        _say(result=subject.run(lambda: client(subject, task["where"], task["settings"])))


def _reasons(error: BaseException) -> Iterator[str]:
    """What was not offered; nurseries wrap it in groups."""
    if isinstance(error, NotOffered):
        yield str(error)
    for inner in getattr(error, "exceptions", ()):
        yield from _reasons(inner)


def main() -> None:
    """Be one end."""
    role, name, task = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        subject: Subject = importlib.import_module(f"benchmarks.subjects.{name}").Subject(**task["options"])
        _run(role, subject, task)
    except BaseException as error:
        reasons = list(_reasons(error))
        if not reasons:
            raise
        _say(not_offered=reasons[0])


if __name__ == "__main__":
    main()
