"""What one measurement is: where, with which settings, and what runs in the measuring end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.conduct import Conduct, Ends, measure_at_client
from benchmarks.record import Metric

__all__ = ["Conduct", "Ends", "Measurement"]


@attrs.frozen(kw_only=True)
class Measurement:
    """One row of the report for each metric."""

    name: str
    title: str
    #: One of :data:`benchmarks.places.PLACES`.
    place: str = "loopback"
    #: ``module:function`` that the measuring end runs: ``await function(subject, where, settings)``.
    client: str
    metrics: tuple[Metric, ...]
    #: What is given to the client.
    settings: dict[str, Any]
    #: How the ends are run and what is read from them.
    conduct: Callable[[Ends, dict[str, Any]], dict[str, float]] = measure_at_client
    #: How many endpoints connect.
    clients: int = 1
    #: Variants of subjects that take part here.
    variants: tuple[str, ...] = ()
    #: Subjects for which it means nothing.
    without: tuple[str, ...] = ()
