"""What is looked at, what wakes somebody, and what stops the spending."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra import metrics
from infra.constructs.dashboards import HOURS_A_MONTH, Dashboards
from infra.constructs.slo_alarms import SloAlarms
from infra.constructs.spend_limit import SpendLimit
from infra.deployment import Deployment

SPEND_HOURS, SPEND_PACE = 6, 2.0


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
            gpu_hours_usd=deployment.gpu_hours_usd,
            api_kind=settings.api,
            api=(
                names.prefix
                if settings.api == "rest"
                else ssm.StringParameter.value_for_string_parameter(self, names.api_id)
            ),
        )
        for model, wanted in deployment.models.items():
            SloAlarms(
                self,
                f"Slo-{model}",
                prefix=names.prefix,
                model=model,
                wanted=wanted,
                topic=topic,
            )
        self._control_alarm(names.control, topic)
        self._spend_alarm(deployment, topic)
        SpendLimit(
            self,
            "Limit",
            name=names.prefix,
            stage=deployment.stage,
            monthly_limit_usd=settings.monthly_limit_usd,
            topic_arn=topic_arn,
            restrained=deployment.restrained_roles,
        )
        cdk.CfnOutput(self, "Next", value=f"turnout cost --stage {deployment.stage}")
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

    def _spend_alarm(self, deployment: Deployment, topic: sns.ITopic) -> None:
        """Within hours, where AWS Budgets learns of the bill within a day."""
        limit = deployment.settings.monthly_limit_usd
        alarm = metrics.spend(deployment.gpu_hours_usd, cdk.Duration.hours(SPEND_HOURS)).create_alarm(
            self,
            "Spend",
            alarm_name=f"{deployment.names.prefix}-spend",
            alarm_description=f"a pace of more than {SPEND_PACE:g} times {limit:g} USD a month",
            threshold=SPEND_PACE * limit * SPEND_HOURS / HOURS_A_MONTH,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(topic))
