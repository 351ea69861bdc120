"""CloudWatch's view of the endpoint; it gives latencies in microseconds, this gives ms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PERCENTILES = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class EndpointMetrics:
    """The last minute that is known: calls, mean requests in flight, calls that found no instance.

    `model_latency_ms` is p50, p95 and p99.
    """

    invocations: float
    concurrent: float | None
    model_latency_ms: tuple[float, float, float] | None
    no_capacity: float = 0.0


class MetricsReader:
    """`client` is a boto3 CloudWatch client."""

    def __init__(self, client: Any, endpoint: str, variant: str, inference_component: str) -> None:
        self._client = client
        self._variant = [
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": variant},
        ]
        self._component = (
            [{"Name": "InferenceComponentName", "Value": inference_component}]
            if inference_component
            else None
        )

    def read(self, now: float, minutes: int = 3) -> EndpointMetrics:
        """Read the whole minutes before `now` (epoch s)."""
        dimensions = self._component or self._variant
        concurrent = "ConcurrentRequestsPerCopy" if self._component else "ConcurrentRequestsPerModel"
        queries = [
            _query("invocations", "Invocations", "Sum", dimensions),
            _query("concurrent", concurrent, "Average", dimensions),
            _query("no_capacity", "NoCapacityInvocationFailures", "Sum", dimensions),
            *(_query(p, "ModelLatency", p, dimensions) for p in PERCENTILES),
        ]
        end = int(now // 60) * 60
        answer = self._client.get_metric_data(
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(end - 60 * minutes, UTC),
            EndTime=datetime.fromtimestamp(end, UTC),
            ScanBy="TimestampDescending",
        )
        values = {result["Id"]: result["Values"] for result in answer["MetricDataResults"]}
        latest = {name: found[0] for name, found in values.items() if found}
        latency = None
        if all(p in latest for p in PERCENTILES):
            p50, p95, p99 = (latest[p] / 1000.0 for p in PERCENTILES)
            latency = (p50, max(p50, p95), max(p50, p95, p99))
        return EndpointMetrics(
            latest.get("invocations", 0.0),
            latest.get("concurrent"),
            latency,
            latest.get("no_capacity", 0.0),
        )


def _query(name: str, metric: str, stat: str, dimensions: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions},
            "Period": 60,
            "Stat": stat,
        },
    }
