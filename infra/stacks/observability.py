"""What is looked at and what wakes somebody: dashboards and alarms of the stage."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.deployment import Deployment
from infra.stacks.api import ApiStack


class ObservabilityStack(cdk.Stack):
    """Stateless; reads metrics by name, so it deploys before the first request."""

    def __init__(
        self, scope: Construct, name: str, *, deployment: Deployment, api: ApiStack, env: cdk.Environment
    ) -> None:
        super().__init__(scope, name, env=env, description="turnout: dashboards, alarms and budget")
        self.topic = sns.Topic(
            self, "Alarms", topic_name=f"{deployment.names.prefix}-alarms", enforce_ssl=True
        )
        dashboard = cloudwatch.Dashboard(
            self, "Operations", dashboard_name=f"{deployment.names.prefix}-operations"
        )
        for model, service in api.services.items():
            alias = service.function.alias
            dashboard.add_widgets(
                cloudwatch.GraphWidget(
                    title=f"{model}: function",
                    left=[alias.metric_duration(statistic="p99")],
                    right=[alias.metric_errors(), alias.metric_throttles()],
                )
            )
