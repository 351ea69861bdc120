"""What a stage will cost before it is deployed: from the synthesized templates and the price table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from infra.prices.table import PriceTable

HOURS = 730.0
MINUTES = 43_800.0
BUSINESS_HOURS = 220.0  # 22 days of 10 hours
LOG_BYTES = 900.0  # one structured line and one set of metrics, as handlers/adapters/telemetry.py writes them
CONTROL_S = 0.6
METRICS_A_MODEL = 10 * 2 + 6  # a request's on both paths, and the control loop's
Template = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One component: `usd` a month for fixed ones, a request for the others; `price` is the table's key."""

    component: str
    quantity: float
    usd: float
    price: str
    as_of: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served: sizes in MB, payload in bytes; `assumed`: no release says.

    `cpu_ms` and `gpu_ms`: a whole warm request on that path.
    """

    model: str
    architecture: str
    api: str
    memory_mb: int
    waiting_mb: int
    cpu_ms: float
    gpu_ms: float
    instance_type: str | None
    startup_s: float = 240.0
    payload_bytes: float = 2048.0
    assumed: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """A way to run the GPU: `usd` a month for one instance that is up `hours`."""

    name: str
    hours: float
    usd: float


def _line(prices: PriceTable, component: str, price: str, quantity: float) -> Line:
    row = prices.prices[price]
    return Line(component, quantity, quantity * row.usd, price, row.as_of, row.confidence)


def fixed(templates: Sequence[Template], prices: PriceTable, models: int, gpu_models: int) -> list[Line]:
    """What the stage costs a month with no request at all and no GPU instance up."""
    resources = [body for template in templates for body in template["Resources"].values()]
    kinds = [body["Type"] for body in resources]
    alarms = sum(_alarm_metrics(body) for body in resources if body["Type"] == "AWS::CloudWatch::Alarm")
    functions = [body["Properties"] for body in resources if body["Type"] == "AWS::Lambda::Function"]
    cached_gb = sum(f["MemorySize"] / 1024 for f in functions if "SnapStart" in f)
    control_gb_s = MINUTES * CONTROL_S * 0.5
    lines = [
        _line(prices, "alarms (metrics watched)", "cloudwatch.alarm", alarms),
        _line(
            prices,
            "composite alarms",
            "cloudwatch.composite_alarm",
            kinds.count("AWS::CloudWatch::CompositeAlarm"),
        ),
        _line(prices, "dashboards", "cloudwatch.dashboard", kinds.count("AWS::CloudWatch::Dashboard")),
        _line(prices, "custom metrics", "cloudwatch.metric", METRICS_A_MODEL * models),
        _line(prices, "customer keys", "kms.key", kinds.count("AWS::KMS::Key")),
        _line(
            prices,
            "SnapStart cache, one version each",
            "lambda.snapstart.cache.gb_s",
            cached_gb * HOURS * 3600,
        ),
        _line(prices, "control loop: schedule", "scheduler.invocation", MINUTES),
        _line(prices, "control loop: invocations", "lambda.request", MINUTES),
        _line(prices, "control loop: duration", "lambda.arm64.gb_s", control_gb_s),
        _line(prices, "control loop: metrics read", "cloudwatch.get_metric_data", MINUTES * 3 * gpu_models),
        _line(prices, "control loop: writes", "dynamodb.write", MINUTES * 2 * models),
    ]
    return [line for line in lines if line.quantity]


def per_request(serving: Serving, prices: PriceTable) -> dict[str, list[Line]]:
    """What one request costs on each path, the GPU's instance apart."""

    def path(memory_mb: int, ms: float) -> Iterator[Line]:
        yield _line(prices, "front door", f"apigateway.{serving.api}.request", 1)
        yield _line(prices, "function: request", "lambda.request", 1)
        gb_s = memory_mb / 1024 * ceil(ms) / 1000  # whole milliseconds are billed
        yield _line(prices, "function: duration", f"lambda.{serving.architecture}.gb_s", gb_s)
        yield _line(prices, "logs and metrics", "cloudwatch.logs.ingest.gb", LOG_BYTES / 1e9)

    paths = {"cpu": list(path(serving.memory_mb, serving.cpu_ms))}
    if serving.instance_type:
        data = _line(prices, "endpoint data", "sagemaker.data.gb", serving.payload_bytes / 1e9)
        paths["gpu"] = [*path(serving.waiting_mb, serving.gpu_ms), data]
    return paths


def scenarios(serving: Serving, prices: PriceTable) -> list[Scenario]:
    """One instance always on, in business hours, and the price of one waking from zero."""
    if serving.instance_type is None:
        return []
    hourly = prices.instance(serving.instance_type).usd_per_hour
    waking = serving.startup_s / 3600
    return [
        Scenario("always on", HOURS, HOURS * hourly),
        Scenario("business hours", BUSINESS_HOURS, BUSINESS_HOURS * hourly),
        Scenario("scale to zero, each waking", waking, waking * hourly),
    ]


def break_even_rps(serving: Serving, prices: PriceTable) -> float | None:
    """Requests a second above which one instance pays for itself; None if it never does.

    An hour of the instance costs E; each request it takes saves the difference d of the paths:
    rate = E / (3600 · d).
    """
    if serving.instance_type is None:
        return None
    paths = per_request(serving, prices)
    saved = sum(line.usd for line in paths["cpu"]) - sum(line.usd for line in paths["gpu"])
    if saved <= 0:
        return None
    return prices.instance(serving.instance_type).usd_per_hour / (3600 * saved)


def _alarm_metrics(alarm: Mapping[str, Any]) -> int:
    """An alarm is billed by the metrics that it evaluates; an anomaly band counts three times."""
    queries = alarm["Properties"].get("Metrics")
    if not queries:
        return 1
    anomaly = any("ANOMALY_DETECTION_BAND" in query.get("Expression", "") for query in queries)
    return sum("MetricStat" in query for query in queries) * (3 if anomaly else 1)
