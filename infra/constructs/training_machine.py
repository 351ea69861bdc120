"""The state machine that trains one model, its role, and what starts it on a schedule."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from infra.config import Training
from infra.constructs.function import RETENTION
from infra.constructs.grants import trace
from infra.constructs.training_job import TrainingNames
from infra.constructs.training_states import definition
from infra.deployment import Deployment

LOG_DELIVERY = [
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
]


class TrainingMachine(Construct):
    """A Standard state machine; `turnout train MODEL --on pipeline` or the schedule starts it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        names: TrainingNames,
        settings: Training,
        builder_arn: str,
        trainer: iam.Role,
    ) -> None:
        super().__init__(scope, construct_id)
        stack = cdk.Stack.of(self)
        name = deployment.names.training(names.model)
        cdk.Tags.of(self).add("turnout:model", names.model)
        group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/vendedlogs/states/{name}",
            retention=logs.RetentionDays[RETENTION[deployment.settings.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = iam.Role(self, "Role", role_name=name, assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        for statement in _grants(stack, names, builder_arn, trainer.role_arn):
            role.add_to_policy(statement)
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=name,
            state_machine_type=sfn.StateMachineType.STANDARD,
            definition_body=sfn.DefinitionBody.from_string(stack.to_json_string(definition(names, settings))),
            role=role.without_policy_updates(),
            tracing_enabled=True,
            logs=sfn.LogOptions(destination=group, level=sfn.LogLevel.ALL, include_execution_data=False),
        )
        if settings.schedule:
            self._schedule(name, settings.schedule)

    def _schedule(self, name: str, expression: str) -> None:
        role = iam.Role(self, "ScheduleRole", assumed_by=iam.ServicePrincipal("scheduler.amazonaws.com"))
        self.machine.grant_start_execution(role)
        scheduler.CfnSchedule(
            self,
            "Schedule",
            name=name,
            schedule_expression=expression,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.machine.state_machine_arn, role_arn=role.role_arn, input="{}"
            ),
        )


def _grants(
    stack: cdk.Stack, names: TrainingNames, builder_arn: str, trainer_arn: str
) -> list[iam.PolicyStatement]:
    """What the machine itself may do; `.sync` states need the events rule that Step Functions makes."""
    rules = [
        stack.format_arn(service="events", resource="rule", resource_name=f"StepFunctionsGet{what}Rule")
        for what in ("EventsForSageMakerTrainingJobs", "EventForCodeBuildStartBuild")
    ]
    jobs = stack.format_arn(service="sagemaker", resource="training-job", resource_name="*")
    function = stack.format_arn(
        service="lambda",
        resource="function",
        resource_name=names.alias,
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )
    group, version = (
        stack.format_arn(service="sagemaker", resource=kind, resource_name=f"{names.packages}{suffix}")
        for kind, suffix in (("model-package-group", ""), ("model-package", "/*"))
    )
    verdicts = f"arn:{stack.partition}:s3:::{names.bucket}/training/{names.model}/*"
    statement = iam.PolicyStatement
    return [
        statement(
            sid="Train",
            actions=[
                "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:StopTrainingJob",
                "sagemaker:AddTags",
                "sagemaker:ListTags",
            ],
            resources=[jobs],
        ),
        statement(
            sid="PassTrainer",
            actions=["iam:PassRole"],
            resources=[trainer_arn],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        statement(
            sid="Build",
            actions=["codebuild:StartBuild", "codebuild:StopBuild", "codebuild:BatchGetBuilds"],
            resources=[builder_arn],
        ),
        statement(
            sid="AwaitJobs",
            actions=["events:PutTargets", "events:PutRule", "events:DescribeRule"],
            resources=rules,
        ),
        statement(sid="ReadVerdict", actions=["s3:GetObject"], resources=[verdicts]),
        statement(sid="Register", actions=["sagemaker:CreateModelPackage"], resources=[group, version]),
        statement(sid="Verify", actions=["lambda:InvokeFunction"], resources=[function]),
        trace(),
        statement(sid="LogDelivery", actions=LOG_DELIVERY, resources=["*"]),
        statement(sid="Notify", actions=["sns:Publish"], resources=[names.topic_arn]),
    ]
