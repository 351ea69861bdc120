"""What the server counts: Prometheus text for `/metrics`, and CloudWatch's embedded metric format
for its log.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

MS_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10000.0)
ITEM_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound, as Prometheus has them."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def lines(self, name: str) -> list[str]:
        """Prometheus text lines."""
        seen, lines = 0, [f"# TYPE {name} histogram"]
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {seen}')
        return [*lines, f"{name}_sum {self.total:.6g}", f"{name}_count {seen}"]


COUNTERS: Mapping[str, str] = {
    "requests": "requests answered, whatever the status",
    "refused": "requests refused with 429, before any work",
    "dropped": "requests whose deadline passed in the queue",
    "failed": "requests whose item made the model raise",
    "invalid": "requests refused with 4xx as malformed",
    "nonfinite": "items answered with NaN or infinity",
    "disconnected": "clients that went away before their answer",
    "out_of_memory": "times that the largest batch was halved",
    "restarts": "workers started again after they died",
    "swaps": "releases swapped in",
}


@dataclass(slots=True)
class Metrics:
    """Counters and histograms of one process."""

    requests: int = 0
    refused: int = 0
    dropped: int = 0
    failed: int = 0
    invalid: int = 0
    nonfinite: int = 0
    disconnected: int = 0
    out_of_memory: int = 0
    restarts: int = 0
    swaps: int = 0
    queue_ms: Histogram = field(default_factory=lambda: Histogram(MS_BOUNDS))
    model_ms: Histogram = field(default_factory=lambda: Histogram(MS_BOUNDS))
    batch_items: Histogram = field(default_factory=lambda: Histogram(ITEM_BOUNDS))

    def prometheus(self, gauges: Mapping[str, float]) -> str:
        """The text exposition format; `gauges` are the values of this moment."""
        lines: list[str] = []
        for name, help_text in COUNTERS.items():
            full = f"turnout_gpu_{name}_total"
            lines += [f"# HELP {full} {help_text}", f"# TYPE {full} counter", f"{full} {getattr(self, name)}"]
        for name, value in gauges.items():
            lines += [f"# TYPE turnout_gpu_{name} gauge", f"turnout_gpu_{name} {value:.6g}"]
        lines += self.queue_ms.lines("turnout_gpu_queue_milliseconds")
        lines += self.model_ms.lines("turnout_gpu_model_milliseconds")
        lines += self.batch_items.lines("turnout_gpu_batch_items")
        return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Emf:
    """Turns what was counted since the last call into one line of CloudWatch's embedded metric format."""

    model: str
    _before: dict[str, float] = field(default_factory=dict)

    def line(self, metrics: Metrics, timestamp_ms: int) -> str | None:
        """One JSON line, or None when nothing happened since the last one."""
        now: dict[str, float] = {name: getattr(metrics, name) for name in COUNTERS}
        for name in ("queue_ms", "model_ms", "batch_items"):
            histogram: Histogram = getattr(metrics, name)
            now[f"{name}_sum"], now[f"{name}_count"] = histogram.total, histogram.count
        change = {name: value - self._before.get(name, 0) for name, value in now.items()}
        self._before = now
        if not any(change.values()):
            return None
        values = {name: change[name] for name in COUNTERS}
        for name in ("queue_ms", "model_ms", "batch_items"):
            if change[f"{name}_count"]:
                values[name] = round(change[f"{name}_sum"] / change[f"{name}_count"], 4)
        units = {"queue_ms": "Milliseconds", "model_ms": "Milliseconds"}
        definitions = [{"Name": name, "Unit": units.get(name, "Count")} for name in values]
        directive = {"Namespace": "turnout", "Dimensions": [["model"]], "Metrics": definitions}
        document = {
            "_aws": {"Timestamp": timestamp_ms, "CloudWatchMetrics": [directive]},
            "model": self.model,
        }
        return json.dumps({**document, **values})
