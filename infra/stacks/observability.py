"""What is looked at, what wakes somebody, and what stops the spending."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra import metrics
from infra.constructs.dashboards import Dashboards
from infra.constructs.slo_alarms import SloAlarms
from infra.constructs.spend_limit import SpendLimit
from infra.deployment import Deployment


class ObservabilityStack(cdk.Stack):
    """Stateless; finds metrics, roles and the topic by name."""

    def __init__(self, scope: Construct, name: str, *, deployment: Deployment, env: cdk.Environment) -> None:
        super().__init__(scope, name, env=env, description="turnout: dashboards, alarms and budget")
        names, settings = deployment.names, deployment.settings
        topic_arn = self.format_arn(service="sns", resource=names.alarms)
        topic = sns.Topic.from_topic_arn(self, "Alarms", topic_arn)
        Dashboards(
            self,
            "Dashboards",
            names=names,
            models=deployment.models,
            monthly_limit_usd=settings.monthly_limit_usd,
            api_id=ssm.StringParameter.value_for_string_parameter(self, names.api_id),
        )
        for model, wanted in deployment.models.items():
            SloAlarms(
                self,
                f"Slo-{model}",
                prefix=names.prefix,
                model=model,
                attainment=wanted.attainment,
                topic=topic,
            )
        self._control_alarm(names.control, topic)
        SpendLimit(
            self,
            "Limit",
            name=names.prefix,
            stage=deployment.stage,
            monthly_limit_usd=settings.monthly_limit_usd,
            topic_arn=topic_arn,
            restrained=deployment.restrained_roles,
        )
        cdk.CfnOutput(
            self,
            "Dashboard",
            value=(
                f"https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}"
                f"#dashboards/dashboard/{names.prefix}-business"
            ),
        )

    def _control_alarm(self, function: str, topic: sns.ITopic) -> None:
        alarm = metrics.function("Errors", function).create_alarm(
            self,
            "ControlFails",
            alarm_name=f"{function}-errors",
            alarm_description="the control loop fails: routing goes on by the last snapshot until it expires",
            threshold=3,
            evaluation_periods=5,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(topic))
