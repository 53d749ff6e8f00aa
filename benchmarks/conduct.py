"""Runs the ends of a subject for one measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from benchmarks.places import Place
from benchmarks.process import End, running

__all__ = ["Conduct", "Ends", "measure_at_client"]

#: Runs the ends and gives the value of each metric.
Conduct = Callable[["Ends", dict[str, Any]], dict[str, float]]

_PATIENCE = 30.0


@attrs.define
class Ends:
    """The ends of one subject in one place: the relay, if any, and the serving end are up."""

    module: str
    options: dict[str, Any]
    client: str
    place: Place
    server: End
    relay: End | None
    where: str
    #: Why a metric, by its key, is missing.
    missing: dict[str, str] = attrs.field(factory=dict)

    @classmethod
    @contextmanager
    def up(cls, module: str, options: dict[str, Any], client: str, place: Place) -> Iterator[Ends]:
        """Start what serves."""
        options = {"datagram": place.datagram, "direct": place.direct, **options}
        with ExitStack() as stack:
            relay = None
            if place.relay is not None:
                task = {"options": {**options, "bind": place.relay.bind}}
                relay = stack.enter_context(running("relay", module, place.relay, task))
                options["relay"] = relay.wait_ready()
            task = {"options": {**options, "bind": place.server.bind}}
            server = stack.enter_context(running("serve", module, place.server, task))
            yield cls(module, options, client, place, server, relay, server.wait_ready())

    @contextmanager
    def measuring(self, settings: dict[str, Any]) -> Iterator[End]:
        """Start what measures."""
        options = {**self.options, "bind": self.place.client.bind}
        task = {"options": options, "client": self.client, "where": self.where, "settings": settings}
        with running("measure", self.module, self.place.client, task) as end:
            yield end

    def cpu_seconds(self) -> float | None:
        """Of the ends that serve."""
        used = [end.cpu_seconds for end in (self.server, self.relay) if end is not None]
        return None if None in used else sum(seconds for seconds in used if seconds is not None)


def measure_at_client(ends: Ends, settings: dict[str, Any]) -> dict[str, float]:
    """Let the client measure.

    Its ``own_cpu``, seconds, becomes with that of the other ends the metric ``cpu``, for each of its ``cpu_units``.
    """
    before = ends.cpu_seconds()
    with ends.measuring(settings) as client:
        values = client.wait_result(_PATIENCE + settings.get("seconds", 0.0) * 5)
        after = ends.cpu_seconds()
    own, units = values.pop("own_cpu", None), values.pop("cpu_units", None)
    if own is not None and units and before is not None and after is not None:
        values["cpu"] = (own + after - before) / units
    return values
