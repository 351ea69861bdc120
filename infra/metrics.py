"""The metrics that turnout's functions publish, and AWS's own, found by name."""

from __future__ import annotations

from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from infra.names import ALIAS, VARIANT

NAMESPACE = "turnout"
MINUTE = cdk.Duration.minutes(1)
FIVE_MINUTES = cdk.Duration.minutes(5)
Path = Literal["cpu", "gpu"]
PATHS: tuple[Path, ...] = ("cpu", "gpu")


def request(
    name: str, model: str, path: Path, statistic: str = "Sum", period: cdk.Duration = MINUTE
) -> cloudwatch.Metric:
    """What a function says of every request: Latency (ms), Cost (USD), ObjectiveMet, Degraded, Escalated …"""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"model": model, "path": path, "service": model},
        statistic=statistic,
        period=period,
        label=f"{name} {path}",
    )


def control(name: str, model: str, statistic: str = "Average") -> cloudwatch.Metric:
    """What the control loop says once a minute: Attainment, Regret, SpendUsd, InstancesReady …"""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"model": model, "service": "turnout-control"},
        statistic=statistic,
        period=MINUTE,
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


def api(name: str, api_id: str, statistic: str = "Sum") -> cloudwatch.Metric:
    """AWS/ApiGateway for the whole API."""
    return cloudwatch.Metric(
        namespace="AWS/ApiGateway",
        metric_name=name,
        dimensions_map={"ApiId": api_id},
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


def escalated_share(model: str) -> cloudwatch.MathExpression:
    """The share of requests that escalated; it drifts when the inputs do, because confidence drops."""
    return cloudwatch.MathExpression(
        expression=(
            "IF(FILL(nc, 0) + FILL(ng, 0) > 0, (FILL(ec, 0) + FILL(eg, 0)) / (FILL(nc, 0) + FILL(ng, 0)), 0)"
        ),
        using_metrics={
            f"{letter}{path[0]}": request("Escalated", model, path, statistic, FIVE_MINUTES)
            for letter, statistic in (("e", "Sum"), ("n", "SampleCount"))
            for path in PATHS
        },
        period=FIVE_MINUTES,
        label="escalated share",
    )


def _both_paths(model: str, period: cdk.Duration) -> dict[str, cloudwatch.IMetric]:
    return {
        f"{letter}{path[0]}": request("ObjectiveMet", model, path, statistic, period)
        for letter, statistic in (("m", "Sum"), ("n", "SampleCount"))
        for path in PATHS
    }
