"""The CodeBuild projects: one compresses, releases and deploys, one makes the GPU server's image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from infra.constructs.function import RETENTION
from infra.deployment import Deployment

NOT_SOURCE = [
    ".git",
    ".venv",
    ".turnout",
    "**/__pycache__",
    "*.egg-info",
    "node_modules",
    "cdk.out",
    "releases",
    "tests",
    "docs",
    ".*_cache",
    ".hypothesis",
]


class Builder(Construct):
    """A CodeBuild project that runs `commands` on the repository's present sources."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        name: str,
        source: assets.Asset,
        image: codebuild.IBuildImage,
        compute: codebuild.ComputeType,
        phases: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        timeout_minutes: int,
        privileged: bool = False,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.settings
        group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/codebuild/{name}",
            retention=logs.RetentionDays[RETENTION[settings.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
        self.role.add_to_policy(
            iam.PolicyStatement(
                sid="WriteLogs",
                actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[group.log_group_arn],
            )
        )
        spec: dict[str, Any] = {
            "version": "0.2",
            "phases": {phase: {"commands": list(commands)} for phase, commands in phases.items()},
        }
        self.project = codebuild.Project(
            self,
            "Project",
            project_name=name,
            role=self.role.without_policy_updates(),
            source=codebuild.Source.s3(bucket=source.bucket, path=source.s3_object_key),
            build_spec=codebuild.BuildSpec.from_object(spec),
            environment=codebuild.BuildEnvironment(
                build_image=image, compute_type=compute, privileged=privileged
            ),
            environment_variables={
                key: codebuild.BuildEnvironmentVariable(value=value) for key, value in environment.items()
            },
            timeout=cdk.Duration.minutes(timeout_minutes),
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=group)),
            grant_report_group_permissions=False,
        )
