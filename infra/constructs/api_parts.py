"""What both flavours of the API have in common: where a route leads, who may call, what is logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import Stage
from infra.constructs.function import RETENTION
from infra.names import route_variable

Targets = Mapping[str, Sequence[lambda_.Alias]]
"""By model the aliases that its route may lead to, the first by default; several under topology auto."""


def invocation_uri(scope: Construct, model: str, aliases: Sequence[lambda_.Alias]) -> str:
    """API Gateway's path to the model's function: fixed, or through the stage variable that moves it."""
    stack = cdk.Stack.of(scope)
    function = aliases[0].function_arn
    if len(aliases) > 1:
        function = stack.format_arn(
            service="lambda",
            resource="function",
            resource_name="${stageVariables." + route_variable(model) + "}",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
    return stack.format_arn(
        service="apigateway",
        account="lambda",
        resource="path/2015-03-31/functions",
        resource_name=f"{function}/invocations",
    )


def permit(scope: Construct, api_id: str, targets: Targets) -> None:
    """Let the API, and no other, invoke every alias."""
    source = cdk.Stack.of(scope).format_arn(
        service="execute-api",
        resource=api_id,
        resource_name="*/*",
        arn_format=cdk.ArnFormat.SLASH_RESOURCE_NAME,
    )
    for model, aliases in targets.items():
        for number, alias in enumerate(aliases):
            lambda_.CfnPermission(
                scope,
                f"Invoke-{model}-{number}",
                action="lambda:InvokeFunction",
                function_name=alias.function_arn,
                principal="apigateway.amazonaws.com",
                source_arn=source,
            )


def stage_variables(targets: Targets) -> dict[str, str] | None:
    """The `function:alias` of every route that the control loop may move."""
    movable = {
        route_variable(model): f"{aliases[0].lambda_.function_name}:{aliases[0].alias_name}"
        for model, aliases in targets.items()
        if len(aliases) > 1
    }
    return movable or None


def access_logs(scope: Construct, name: str, settings: Stage) -> logs.LogGroup:
    """Where one line a request goes."""
    return logs.LogGroup(
        scope,
        "AccessLogs",
        log_group_name=f"/aws/apigateway/{name}",
        retention=logs.RetentionDays[RETENTION[settings.log_retention_days]],
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )
