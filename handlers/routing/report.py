"""What sandboxes report and the control loop merges: counts, and sketches of latency by path and batch size.

A sketch's key is `path:size:state`, say `cpu:1:warm` or `gpu:8:warm`: cold and warm are kept apart, and so
are batch sizes, of which there are those of the release's profile. Merging is addition and loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite

from handlers.errors import InvalidInput

from .sketch import Sketch

SCHEMA_VERSION = 1
MAX_BYTES = 100_000
MAX_MINUTES = 360
"""How long a report is kept, and so how long the control loop may be away and still miss nothing."""
COUNTS = (
    "requests",
    "cpu",
    "gpu",
    "cpu_failed",
    "gpu_failed",
    "cold",
    "escalated",
    "missed",
    "degraded",
    "met",
    "expected_met",
    "cost_usd",
    "gpu_busy_ms",
    "shadow_usd",
)
"""Names of the counts. `cpu` and `gpu` are calls on each path, `cold` first requests of a model's sandbox,
`missed` items below the threshold that were not escalated, `met` and `expected_met` requests inside the
objective and the sum of the probabilities that were predicted for it: their ratio is the predictor's
calibration. `gpu_busy_ms` sums the GPU calls' times, `shadow_usd` what shadows cost, which is not in
`cost_usd`."""


@dataclass(slots=True)
class Report:
    """Counts and sketches of one sandbox and minute, or of many merged; `arrivals` counts by epoch second."""

    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0.0))
    arrivals: dict[int, float] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)

    def merge(self, other: Report) -> None:
        """Add all that `other` holds."""
        for name, count in other.counts.items():
            self.counts[name] += count
        for second, count in other.arrivals.items():
            self.arrivals[second] = self.arrivals.get(second, 0.0) + count
        for key, sketch in other.sketches.items():
            mine = self.sketches.get(key)
            if mine is None:
                mine = self.sketches[key] = Sketch()
            mine.merge(sketch)

    def to_json(self) -> str:
        """Return the body to store."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "counts": {
                    name: float(f"{count:.9g}") for name, count in sorted(self.counts.items()) if count
                },
                "arrivals": [[second, count] for second, count in sorted(self.arrivals.items())],
                "sketches": {key: sketch.to_json() for key, sketch in sorted(self.sketches.items())},
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, body: str) -> Report:
        """Read `to_json`'s result; raises `InvalidInput` when it is not one."""
        if len(body) > MAX_BYTES:
            raise InvalidInput("report", f"{len(body)} bytes", f"at most {MAX_BYTES} bytes")
        try:
            raw = json.loads(body)
            if raw["schema_version"] != SCHEMA_VERSION:
                raise InvalidInput("report.schema_version", raw["schema_version"], str(SCHEMA_VERSION))
            counts = {name: _count(value) for name, value in raw["counts"].items()}
            arrivals = {int(second): _count(count) for second, count in raw["arrivals"]}
            sketches = {_key(key): Sketch.from_json(value) for key, value in raw["sketches"].items()}
        except InvalidInput:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput("report", f"{type(error).__name__}: {error}", "the schema's fields") from error
        if not set(counts) <= set(COUNTS):
            raise InvalidInput("report.counts", sorted(counts), ", ".join(COUNTS))
        return cls(dict.fromkeys(COUNTS, 0.0) | counts, arrivals, sketches)


def add_ms(sketches: dict[str, Sketch], key: str, ms: float) -> None:
    """Add one call's latency in ms to the sketch of `key`, a new one if need be."""
    sketch = sketches.get(key)
    if sketch is None:
        sketch = sketches[key] = Sketch()
    sketch.add(ms)


@lru_cache
def key_of(path: str, size: int, cold: bool) -> str:
    """Return the key of a sketch."""
    return f"{path}:{size}:{'cold' if cold else 'warm'}"


def merged(bodies: Iterable[str]) -> tuple[Report, list[InvalidInput]]:
    """Add up all reports that can be read; the others come back as the reasons why they cannot."""
    total, refused = Report(), []
    for body in bodies:
        try:
            total.merge(Report.from_json(body))
        except InvalidInput as error:
            refused.append(error)
    return total, refused


def by_minute(arrivals: Mapping[int, float], first: int, minutes: int) -> list[list[float]]:
    """Return the arrivals of `minutes` whole minutes from epoch minute `first`, by second.

    None is lost: what a sandbox reported late, or ahead of its minute's end, counts at the same second of the
    nearest of them, so that bursts stay bursts.
    """
    slots = [[0.0] * 60 for _ in range(minutes)]
    for second, count in arrivals.items():
        minute = min(max(second // 60 - first, 0), minutes - 1)
        slots[minute][second % 60] += count
    return slots


def _count(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise InvalidInput("report.counts", value, "a finite number, 0 or more")
    return value


def _key(key: str) -> str:
    path, size, state = key.split(":")
    if path not in ("cpu", "gpu") or state not in ("warm", "cold") or int(size) < 1:
        raise InvalidInput("report.sketches", key, "path:size:state")
    return key
