"""All that is measured, in the order of the report."""

from benchmarks.measurements.bulk import BULK
from benchmarks.measurements.connections import CONNECTIONS
from benchmarks.measurements.direct import DIRECT
from benchmarks.measurements.footprint import FOOTPRINT
from benchmarks.measurements.measurement import Measurement
from benchmarks.measurements.messages import MESSAGES
from benchmarks.measurements.round_trip import ROUND_TRIPS

__all__ = ["MEASUREMENTS", "Measurement"]

MEASUREMENTS: dict[str, Measurement] = {
    m.name: m for m in (*BULK, *ROUND_TRIPS, *MESSAGES, *CONNECTIONS, *FOOTPRINT, *DIRECT)
}
