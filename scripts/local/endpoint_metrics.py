"""What CloudWatch has of an endpoint: SageMaker's metrics of each minute, put where the control loop reads.

Namespace, names, dimensions and units are SageMaker's own (latencies in microseconds): AWS, "Amazon SageMaker
AI metrics in Amazon CloudWatch".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scripts.local.deployed import Variant

NAMESPACE = "AWS/SageMaker"
MAX_VALUES = 150
"""The most values that CloudWatch takes in one datum."""
MAX_SAMPLES = 3_000


@dataclass(slots=True)
class Minute:
    """One fleet's minute: calls, times in the container of those answered, samples of what was in flight."""

    invocations: int = 0
    no_capacity: int = 0
    model_us: list[float] = field(default_factory=list)
    concurrent: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Minutes:
    """Minutes of one fleet that nobody has taken yet, by epoch minute."""

    by_minute: dict[int, Minute] = field(default_factory=dict)

    def at(self, now: float) -> Minute:
        """The minute of `now`, epoch seconds."""
        return self.by_minute.setdefault(int(now // 60), Minute())

    def take(self, now: float) -> list[tuple[int, Minute]]:
        """The minutes that are over, once."""
        over = sorted(minute for minute in self.by_minute if minute < int(now // 60))
        return [(minute, self.by_minute.pop(minute)) for minute in over]


def data(variant: Variant, minute: int, seen: Minute) -> list[dict[str, Any]]:
    """The MetricData of one minute, as SageMaker would put it."""
    named = {"EndpointName": variant.endpoint, "VariantName": variant.variant}
    concurrent = "ConcurrentRequestsPerModel"
    if variant.component:
        named, concurrent = {"InferenceComponentName": variant.component}, "ConcurrentRequestsPerCopy"
    values: dict[str, tuple[str, Sequence[float]]] = {
        "Invocations": ("Count", [float(seen.invocations)]),
        "NoCapacityInvocationFailures": ("Count", [float(seen.no_capacity)] if seen.no_capacity else []),
        "ModelLatency": ("Microseconds", seen.model_us[:MAX_SAMPLES]),
        concurrent: ("Count", seen.concurrent),
    }
    return [
        {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in named.items()],
            "Timestamp": datetime.fromtimestamp(minute * 60, UTC),
            "Unit": unit,
            "Values": found[at : at + MAX_VALUES],
        }
        for name, (unit, found) in values.items()
        for at in range(0, len(found), MAX_VALUES)
    ]
