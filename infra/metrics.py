"""The metrics that turnout's functions publish, and AWS's own, found by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from infra.names import ALIAS, API_STAGES, VARIANT

NAMESPACE = "turnout"
MINUTE = cdk.Duration.minutes(1)
FIVE_MINUTES = cdk.Duration.minutes(5)
Path = Literal["cpu", "gpu"]
PATHS: tuple[Path, ...] = ("cpu", "gpu")
REST_NAMES = {"4xx": "4XXError", "5xx": "5XXError"}


def request(
    name: str, model: str, path: Path, statistic: str = "Sum", period: cdk.Duration = MINUTE
) -> cloudwatch.Metric:
    """What a function says of every request: Latency (ms), Cost (USD), ObjectiveMet, Degraded, Escalated …

    `handlers/adapters/telemetry.py` writes them; a test holds the names and dimensions of both together.
    """
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"model": model, "path": path, "service": model},
        statistic=statistic,
        period=period,
        label=f"{name} {path}",
    )


def control(
    name: str, model: str, statistic: str = "Average", period: cdk.Duration = MINUTE
) -> cloudwatch.Metric:
    """What the control loop says once a minute: Attainment, Regret, SpendUsd, InstancesReady …"""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"model": model, "service": "turnout-control"},
        statistic=statistic,
        period=period,
        label=name,
    )


def function(name: str, function_name: str, statistic: str = "Sum") -> cloudwatch.Metric:
    """AWS/Lambda for the live alias of a function."""
    return cloudwatch.Metric(
        namespace="AWS/Lambda",
        metric_name=name,
        dimensions_map={"FunctionName": function_name, "Resource": f"{function_name}:{ALIAS}"},
        statistic=statistic,
        period=MINUTE,
        label=name,
    )


def endpoint(name: str, endpoint_name: str, statistic: str = "Sum") -> cloudwatch.Metric:
    """AWS/SageMaker for the endpoint's variant; latencies are in microseconds."""
    return cloudwatch.Metric(
        namespace="AWS/SageMaker",
        metric_name=name,
        dimensions_map={"EndpointName": endpoint_name, "VariantName": VARIANT},
        statistic=statistic,
        period=MINUTE,
        label=name,
    )


def asleep(component: str) -> cloudwatch.Metric:
    """Calls that found no copy of the inference component."""
    return cloudwatch.Metric(
        namespace="AWS/SageMaker",
        metric_name="NoCapacityInvocationFailures",
        dimensions_map={"InferenceComponentName": component},
        statistic="Sum",
        period=MINUTE,
    )


def api(name: str, kind: str, api: str, statistic: str = "Sum") -> cloudwatch.Metric:
    """AWS/ApiGateway for the whole API: `api` is the id of an HTTP API, the name of a REST API."""
    rest = kind == "rest"
    return cloudwatch.Metric(
        namespace="AWS/ApiGateway",
        metric_name=REST_NAMES.get(name, name) if rest else name,
        dimensions_map={"ApiName": api, "Stage": API_STAGES[kind]} if rest else {"ApiId": api},
        statistic=statistic,
        period=MINUTE,
        label=name,
    )


def burn_rate(model: str, attainment: float, period: cdk.Duration) -> cloudwatch.MathExpression:
    """How many times faster than allowed the error budget (1 − attainment) is used up over `period`."""
    return cloudwatch.MathExpression(
        expression=(
            "IF(FILL(nc, 0) + FILL(ng, 0) > 0, "
            f"(1 - (FILL(mc, 0) + FILL(mg, 0)) / (FILL(nc, 0) + FILL(ng, 0))) / {1 - attainment:.6g}, 0)"
        ),
        using_metrics=_both_paths(model, period),
        period=period,
        label="burn rate",
    )


def usd_per_thousand(model: str, path: Path) -> cloudwatch.MathExpression:
    """USD for a thousand requests served by `path`."""
    return cloudwatch.MathExpression(
        expression=f"1000 * usd_{path} / requests_{path}",
        using_metrics={
            f"usd_{path}": request("Cost", model, path),
            f"requests_{path}": request("Cost", model, path, "SampleCount"),
        },
        period=MINUTE,
        label=f"USD per 1000 requests, {path}",
    )


def doubted_share(model: str) -> cloudwatch.MathExpression:
    """Items below the threshold, escalated or missed, for each request; drifting inputs raise it."""
    return cloudwatch.MathExpression(
        expression=(
            "IF(FILL(nc, 0) + FILL(ng, 0) > 0, (FILL(ec, 0) + FILL(eg, 0) + FILL(mc, 0) + FILL(mg, 0))"
            " / (FILL(nc, 0) + FILL(ng, 0)), 0)"
        ),
        using_metrics={
            f"{letter}{path[0]}": request(name, model, path, statistic, FIVE_MINUTES)
            for letter, name, statistic in (
                ("e", "Escalated", "Sum"),
                ("m", "Missed", "Sum"),
                ("n", "Escalated", "SampleCount"),
            )
            for path in PATHS
        },
        period=FIVE_MINUTES,
        label="share below the threshold",
    )


def agreement(model: str, period: cdk.Duration) -> cloudwatch.Metric:
    """The share of shadowed CPU answers that the GPU confirms; absent while no instance is up."""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name="ShadowAgreement",
        dimensions_map={"model": model, "service": model},
        statistic="Average",
        period=period,
        label="agreement of CPU and GPU",
    )


def spend(gpu_hours_usd: Mapping[str, float], period: cdk.Duration) -> cloudwatch.MathExpression:
    """USD spent over `period` by all models: what their requests cost, and the instances that were up."""
    hours = period.to_seconds() / 3600
    metrics: dict[str, cloudwatch.IMetric] = {}
    terms = []
    for number, (model, hourly) in enumerate(gpu_hours_usd.items()):
        metrics[f"s{number}"] = control("SpendUsd", model, "Sum", period)
        metrics[f"i{number}"] = control("InstancesReady", model, "Average", period)
        terms.append(f"FILL(s{number}, 0) + FILL(i{number}, 0) * {hours * hourly:g}")
    return cloudwatch.MathExpression(
        expression=" + ".join(terms), using_metrics=metrics, period=period, label="USD spent"
    )


def _both_paths(model: str, period: cdk.Duration) -> dict[str, cloudwatch.IMetric]:
    return {
        f"{letter}{path[0]}": request("ObjectiveMet", model, path, statistic, period)
        for letter, statistic in (("m", "Sum"), ("n", "SampleCount"))
        for path in PATHS
    }
