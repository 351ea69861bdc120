"""What is looked at and what wakes somebody: dashboards and alarms of the stage."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.deployment import Deployment
from infra.names import ALIAS


class ObservabilityStack(cdk.Stack):
    """Stateless; reads metrics by name, so it deploys before the first request."""

    def __init__(self, scope: Construct, name: str, *, deployment: Deployment, env: cdk.Environment) -> None:
        super().__init__(scope, name, env=env, description="turnout: dashboards, alarms and budget")
        names = deployment.names
        self.topic = sns.Topic(self, "Alarms", topic_name=f"{names.prefix}-alarms", enforce_ssl=True)
        dashboard = cloudwatch.Dashboard(self, "Operations", dashboard_name=f"{names.prefix}-operations")
        for model in deployment.models:
            function = names.function(model)
            dashboard.add_widgets(
                cloudwatch.GraphWidget(
                    title=f"{model}: function",
                    left=[_lambda("Duration", function, "p99")],
                    right=[_lambda("Errors", function), _lambda("Throttles", function)],
                )
            )


def _lambda(metric: str, function: str, statistic: str = "Sum") -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="AWS/Lambda",
        metric_name=metric,
        dimensions_map={"FunctionName": function, "Resource": f"{function}:{ALIAS}"},
        statistic=statistic,
        period=cdk.Duration.minutes(1),
    )
