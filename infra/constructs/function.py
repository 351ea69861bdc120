"""A function with turnout's defaults: the shared package, its own log group, tracing, least privilege."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra import bundling
from infra.constructs.grants import trace
from infra.deployment import Deployment
from infra.names import ALIAS


class TurnoutFunction(Construct):
    """One function of the package, published behind the alias `live`.

    The package is built when the CDK CLI publishes its asset, not at synth: a synth states only the hash of
    the package's inputs, so that it needs neither network nor time.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        name: str,
        handler: str,
        environment: Mapping[str, str],
        memory_mb: int,
        timeout_s: int,
        grants: Sequence[iam.PolicyStatement],
        reserved_concurrency: int | None = None,
        snapstart: bool = False,
        dead_letters: sqs.IQueue | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.settings
        group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/aws/lambda/{name}",
            retention=logs.RetentionDays[RETENTION[settings.log_retention_days]],
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = iam.Role(self, "Role", role_name=name, assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=name,
            description=f"turnout {deployment.stage}: {handler}",
            runtime=_runtime(deployment.target.python),
            architecture=ARCHITECTURES[deployment.target.architecture],
            code=_code(self, settings.architecture, deployment.target),
            handler=handler,
            environment=dict(environment),
            memory_size=memory_mb,
            timeout=cdk.Duration.seconds(timeout_s),
            role=role,
            log_group=group,
            reserved_concurrent_executions=reserved_concurrency,
            snap_start=lambda_.SnapStartConf.ON_PUBLISHED_VERSIONS if snapstart else None,
            dead_letter_queue=dead_letters,
        )
        cdk.Annotations.of(self.function).acknowledge_warning(
            "@aws-cdk/aws-lambda:snapStartRequirePublish", "the alias below publishes a version"
        )
        resource = self.function.node.default_child
        if isinstance(resource, lambda_.CfnFunction):  # not through the L2, whose statement has no Sid
            resource.tracing_config = lambda_.CfnFunction.TracingConfigProperty(mode="Active")
        group.grant_write(role)
        for grant in (trace(), *grants):
            role.add_to_principal_policy(grant)
        self.role = role
        self.alias = lambda_.Alias(self, "Live", alias_name=ALIAS, version=self.function.current_version)


FIRST_SNAPSTART_MINOR = 12
ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}
RETENTION = {
    1: "ONE_DAY",
    3: "THREE_DAYS",
    5: "FIVE_DAYS",
    7: "ONE_WEEK",
    14: "TWO_WEEKS",
    30: "ONE_MONTH",
    60: "TWO_MONTHS",
    90: "THREE_MONTHS",
    120: "FOUR_MONTHS",
    150: "FIVE_MONTHS",
    180: "SIX_MONTHS",
    365: "ONE_YEAR",
    400: "THIRTEEN_MONTHS",
    545: "EIGHTEEN_MONTHS",
    731: "TWO_YEARS",
    1096: "THREE_YEARS",
    1827: "FIVE_YEARS",
    2192: "SIX_YEARS",
    2557: "SEVEN_YEARS",
    3653: "TEN_YEARS",
}


def _code(scope: Construct, architecture: str, target: bundling.Target) -> lambda_.Code:
    identity = bundling.identity(target)
    location = cdk.Stack.of(scope).synthesizer.add_file_asset(
        source_hash=identity,
        executable=[
            *("env", f"PYTHONPATH={bundling.ROOT}", sys.executable, "-m", "infra.bundling"),
            *(architecture, "--identity", identity),
        ],
        display_name=f"turnout package {target.architecture}",
    )
    bucket = s3.Bucket.from_bucket_name(scope, "Packages", location.bucket_name)
    cdk.Annotations.of(bucket).acknowledge_warning(
        "@aws-cdk/aws-lambda:codeFromBucketObjectVersionNotSpecified", "the key holds the hash of the content"
    )
    return lambda_.Code.from_bucket(bucket, location.object_key)


def _runtime(python: str) -> lambda_.Runtime:
    minor = int(python.split(".")[1])
    return lambda_.Runtime(
        f"python{python}", lambda_.RuntimeFamily.PYTHON, supports_snap_start=minor >= FIRST_SNAPSTART_MINOR
    )
