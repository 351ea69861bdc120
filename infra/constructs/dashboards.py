"""Two dashboards: what the business asks (money, promises, quality) and what an operator asks."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra import metrics
from infra.config import Model
from infra.names import Names

WIDTH = 8
HOURS_A_MONTH = 730


class Dashboards(Construct):
    """`{prefix}-business` and `{prefix}-operations`; one row a model in each."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        models: Mapping[str, Model],
        monthly_limit_usd: float,
        gpu_hours_usd: Mapping[str, float],
        api_kind: str,
        api: str,
    ) -> None:
        super().__init__(scope, construct_id)
        business = self._dashboard("Business", f"{names.prefix}-business")
        operations = self._dashboard("Operations", f"{names.prefix}-operations")
        business.add_widgets(
            _graph(
                f"spend of the stage, USD an hour, against {monthly_limit_usd:g} USD a month",
                [metrics.spend(gpu_hours_usd, cdk.Duration.hours(1))],
                line=monthly_limit_usd / HOURS_A_MONTH,
                name="the limit's pace",
                width=3 * WIDTH,
            )
        )
        for name, model in models.items():
            business.add_widgets(*_business(name, model))
            operations.add_widgets(*_operations(names, name, model))
        operations.add_widgets(*_front_door(names, api_kind, api))

    def _dashboard(self, construct_id: str, name: str) -> cloudwatch.Dashboard:
        return cloudwatch.Dashboard(
            self, construct_id, dashboard_name=name, default_interval=cdk.Duration.hours(6)
        )


def _graph(
    title: str,
    left: list[cloudwatch.IMetric],
    right: list[cloudwatch.IMetric] | None = None,
    line: float | None = None,
    name: str = "objective",
    width: int = WIDTH,
) -> cloudwatch.GraphWidget:
    lines = [] if line is None else [cloudwatch.HorizontalAnnotation(value=line, label=name)]
    return cloudwatch.GraphWidget(
        title=title, left=left, right=right or [], left_annotations=lines, width=width, height=6
    )


def _business(name: str, model: Model) -> list[cloudwatch.IWidget]:
    hour = cdk.Duration.hours(1)
    return [
        _graph(
            f"{name}: USD per 1000 requests",
            [metrics.usd_per_thousand(name, "cpu"), metrics.usd_per_thousand(name, "gpu")],
        ),
        _graph(f"{name}: attainment", [metrics.control("Attainment", name)], line=model.attainment),
        _graph(
            f"{name}: spend (USD a minute) and regret",
            [metrics.control("SpendUsd", name, "Sum")],
            [metrics.control("Regret", name)],
        ),
        _graph(
            f"{name}: accuracy drift",
            [metrics.doubted_share(name), metrics.agreement(name, hour)],
            [metrics.control("MissedEscalations", name, "Sum")],
            line=model.min_agreement if model.has_shadows else None,
        ),
        _graph(
            f"{name}: requests an hour by path",
            [metrics.request("Cost", name, path, "SampleCount", hour) for path in metrics.PATHS],
        ),
        _graph(
            f"{name}: degraded answers",
            [metrics.request("Degraded", name, path) for path in metrics.PATHS],
        ),
    ]


def _operations(names: Names, name: str, model: Model) -> list[cloudwatch.IWidget]:
    function = names.function(name)
    widgets: list[cloudwatch.IWidget] = [
        _graph(
            f"{name}: latency p50 and p99, ms",
            [
                metrics.request("Latency", name, path, stat)
                for path in metrics.PATHS
                for stat in ("p50", "p99")
            ],
            line=model.latency_slo_ms,
        ),
        _graph(
            f"{name}: errors, throttles, cold starts",
            [metrics.function("Errors", function), metrics.function("Throttles", function)],
            [metrics.request("ColdStart", name, path) for path in metrics.PATHS],
        ),
        _graph(
            f"{name}: prediction error p90, ms; breaker open, requests",
            [metrics.request("PredictionError", name, path, "p90") for path in metrics.PATHS],
            [metrics.request("BreakerOpen", name, path) for path in metrics.PATHS],
        ),
    ]
    if model.gpu:
        endpoint = names.endpoint(name)
        widgets += [
            _graph(
                f"{name}: GPU instances and queue",
                [metrics.control("InstancesReady", name)],
                [metrics.endpoint("ConcurrentRequestsPerModel", endpoint, "Maximum")],
            ),
            _graph(
                f"{name}: GPU latency, µs",
                [metrics.endpoint("ModelLatency", endpoint, stat) for stat in ("p50", "p99")],
            ),
            _graph(
                f"{name}: GPU errors; no capacity",
                [
                    metrics.endpoint("Invocation4XXErrors", endpoint),
                    metrics.endpoint("Invocation5XXErrors", endpoint),
                ],
                [metrics.asleep(endpoint)],
            ),
        ]
    return widgets


def _front_door(names: Names, kind: str, api: str) -> list[cloudwatch.IWidget]:
    return [
        _graph(
            "API: requests and errors",
            [metrics.api("Count", kind, api)],
            [metrics.api(f"{n}xx", kind, api) for n in "45"],
        ),
        _graph(
            "API: latency, ms",
            [metrics.api(name, kind, api, "p99") for name in ("Latency", "IntegrationLatency")],
        ),
        _graph(
            "control loop",
            [metrics.function("Duration", names.control, "Maximum")],
            [metrics.function("Errors", names.control)],
        ),
    ]
