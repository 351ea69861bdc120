"""What the control loop touches on AWS, each behind an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import boto3
from aws_lambda_powertools import Logger
from botocore.config import Config

from handlers.adapters.api_route import ApiRoute, MovableRoute, RestRoute
from handlers.adapters.endpoint_metrics import EndpointMetrics, MetricsReader
from handlers.adapters.gpu_fleet import GpuFleet
from handlers.adapters.release_store import ReleaseStore
from handlers.adapters.signed_http import SignedHttp
from handlers.adapters.state import StateTable
from handlers.routing.controlled import Controlled
from handlers.routing.route import AUTO
from handlers.serving.release import ReleaseSource


@dataclass(frozen=True, slots=True)
class Ports:
    """What the loop touches: the table, the kill switch; by model its release, fleet, metrics and route."""

    table: StateTable
    enabled: Callable[[], bool]
    source: Callable[[Controlled], ReleaseSource]
    fleet: Callable[[Controlled], GpuFleet | None]
    metrics: Callable[[Controlled, float], EndpointMetrics | None]
    route: Callable[[Controlled], MovableRoute | None]


def aws_ports(environ: Mapping[str, str], logger: Logger) -> Ports:
    """The ports on AWS; boto3 clients are made once."""
    config = Config(connect_timeout=3, read_timeout=10, retries={"max_attempts": 3, "mode": "standard"})
    client = cache(lambda service: boto3.client(service, region_name=environ["AWS_REGION"], config=config))
    signed = SignedHttp(environ["AWS_REGION"], environ)

    def metrics(controlled: Controlled, now: float) -> EndpointMetrics | None:
        reader = MetricsReader(
            client("cloudwatch"), controlled.endpoint, controlled.variant, controlled.inference_component
        )
        try:
            return reader.read(now)
        except client("cloudwatch").exceptions.ClientError as error:
            logger.warning("CloudWatch cannot be read", extra={"reason": str(error)})
            return None

    def enabled() -> bool:
        found = client("ssm").get_parameter(Name=environ["TURNOUT_KILL_SWITCH"])
        return bool(found["Parameter"]["Value"] == "true")

    def route(m: Controlled) -> MovableRoute | None:
        if m.topology != AUTO:
            return None
        if m.api_kind == "rest":
            return RestRoute(client("apigateway"), m.api_id, m.api_stage, m.route_variable)
        return ApiRoute(client("apigatewayv2"), m.api_id, m.api_stage, m.route_variable)

    return Ports(
        table=StateTable(client("dynamodb"), environ["TURNOUT_TABLE"]),
        enabled=enabled,
        source=lambda m: ReleaseStore(signed, environ["TURNOUT_BUCKET"], m.model, m.pointer),
        fleet=lambda m: (
            GpuFleet(client("sagemaker"), m.endpoint, m.inference_component, m.variant)
            if m.endpoint
            else None
        ),
        metrics=metrics,
        route=route,
    )
