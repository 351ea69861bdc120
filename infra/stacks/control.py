"""The control loop: once a minute one function merges reports, sets capacity and publishes snapshots."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.constructs.function import TurnoutFunction
from infra.constructs.grants import control_grants
from infra.constructs.model_service import dead_letters
from infra.deployment import Deployment
from infra.environment import control_environment
from infra.names import API_STAGES

TIMEOUT_S = 50  # shorter than the schedule, so that two runs never overlap for long
MEMORY_MB = 512


class ControlStack(cdk.Stack):
    """Schedule, function and kill switch; the single-writer lease is a row of the state table."""

    def __init__(self, scope: Construct, name: str, *, deployment: Deployment, env: cdk.Environment) -> None:
        super().__init__(scope, name, env=env, description="turnout: the control loop")
        names = deployment.names
        switch = ssm.StringParameter(
            self,
            "KillSwitch",
            parameter_name=names.kill_switch,
            string_value="true",
            allowed_pattern="^(true|false)$",
            description="false stops the control loop from changing anything",
        )
        api_id = ssm.StringParameter.value_for_string_parameter(self, names.api_id)
        kind = deployment.settings.api
        api_arn = self.format_arn(
            service="apigateway",
            account="",
            resource="/apis" if kind == "http" else "/restapis",
            resource_name=f"{api_id}/stages/{API_STAGES[kind]}",
        )
        self.missed = dead_letters(self, "Missed")
        self.worker = TurnoutFunction(
            self,
            "Control",
            deployment=deployment,
            name=names.control,
            handler="handlers.control.handler",
            environment=control_environment(
                deployment,
                {"api_kind": kind, "api_id": api_id, "api_stage": API_STAGES[kind]},
                names.bucket(self.account),
            ),
            memory_mb=MEMORY_MB,
            timeout_s=TIMEOUT_S,
            grants=control_grants(self, deployment, api_arn),
            reserved_concurrency=None,
            dead_letters=self.missed,
        )
        self._schedule(names.control)
        first = next(iter(deployment.models))
        cdk.CfnOutput(self, "Next", value=f"turnout release deploy {first} --stage {deployment.stage}")
        cdk.CfnOutput(
            self,
            "Stop",
            value=f"aws ssm put-parameter --overwrite --name {switch.parameter_name} --value false",
            description="the kill switch: routing goes on by the last snapshot, then by the profile",
        )

    def _schedule(self, name: str) -> None:
        role = iam.Role(self, "ScheduleRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        self.worker.alias.grant_invoke(role)
        self.missed.grant_send_messages(role)
        scheduler.CfnSchedule(
            self,
            "EveryMinute",
            name=name,
            schedule_expression="rate(1 minute)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.worker.alias.function_arn,
                role_arn=role.role_arn,
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=60, maximum_retry_attempts=0
                ),
                dead_letter_config=scheduler.CfnSchedule.DeadLetterConfigProperty(arn=self.missed.queue_arn),
            ),
        )
