"""What the builders and the training job may do."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets

from infra.deployment import Deployment

COLON = cdk.ArnFormat.COLON_RESOURCE_NAME
PULL = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
PUSH = ["ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"]


def _login() -> iam.PolicyStatement:
    return iam.PolicyStatement(sid="EcrLogin", actions=["ecr:GetAuthorizationToken"], resources=["*"])


def _source(stack: cdk.Stack, source: assets.Asset) -> iam.PolicyStatement:
    bucket = f"arn:{stack.partition}:s3:::{source.s3_bucket_name}"
    return iam.PolicyStatement(
        sid="ReadSource",
        actions=["s3:GetObject", "s3:GetObjectVersion"],
        resources=[f"{bucket}/{source.s3_object_key}"],
    )


def image_grants(
    stack: cdk.Stack, repository_arn: str, base_uri: str, source: assets.Asset
) -> list[iam.PolicyStatement]:
    """The image builder: read the sources, pull the base image, push to its one repository."""
    registry, _, path = base_uri.partition("/")
    account, region = registry.split(".")[0], registry.split(".")[3]
    base = f"arn:{stack.partition}:ecr:{region}:{account}:repository/{path.partition(':')[0]}"
    return [
        iam.PolicyStatement(sid="PullBase", actions=PULL, resources=[base]),
        _source(stack, source),
        _login(),
        iam.PolicyStatement(sid="PushImage", actions=[*PULL, *PUSH], resources=[repository_arn]),
    ]


def trainer_grants(stack: cdk.Stack, deployment: Deployment) -> list[iam.PolicyStatement]:
    """The training job: its own folder of the bucket, its image, its logs."""
    bucket = f"arn:{stack.partition}:s3:::{deployment.names.bucket(stack.account)}"
    repository = stack.format_arn(service="ecr", resource="repository", resource_name=deployment.names.images)
    logs = stack.format_arn(
        service="logs", resource="log-group", resource_name="/aws/sagemaker/TrainingJobs*", arn_format=COLON
    )
    statement = iam.PolicyStatement
    return [
        statement(
            sid="Artefacts", actions=["s3:GetObject", "s3:PutObject"], resources=[f"{bucket}/training/*"]
        ),
        statement(sid="ReadData", actions=["s3:GetObject"], resources=[f"{bucket}/data/*"]),
        statement(
            sid="ListArtefacts",
            actions=["s3:ListBucket"],
            resources=[bucket],
            conditions={"StringLike": {"s3:prefix": ["training/*", "data/*"]}},
        ),
        _login(),
        statement(sid="PullImage", actions=PULL, resources=[repository]),
        statement(
            sid="WriteLogs",
            actions=[
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:PutLogEvents",
                "logs:DescribeLogStreams",
            ],
            resources=[logs],
        ),
    ]


def build_grants(stack: cdk.Stack, deployment: Deployment, source: assets.Asset) -> list[iam.PolicyStatement]:
    """The builder: read weights, write data, releases and verdicts, and move what a release moves."""
    names = deployment.names
    bucket = f"arn:{stack.partition}:s3:::{names.bucket(stack.account)}"
    pointers = [
        stack.format_arn(service="ssm", resource="parameter", resource_name=name.lstrip("/"))
        for model in deployment.models
        for name in (names.pointer(model), names.gpu_release(model))
    ]
    functions = [
        stack.format_arn(service="lambda", resource="function", resource_name=name + suffix, arn_format=COLON)
        for model, settings in deployment.models.items()
        for name in (
            names.function(model),
            *([names.front(model)] if settings.topology != "colocated" else []),
        )
        for suffix in ("", ":*")
    ]
    alarms = stack.format_arn(
        service="cloudwatch", resource="alarm", resource_name=f"{names.prefix}-*", arn_format=COLON
    )
    table = stack.format_arn(service="dynamodb", resource="table", resource_name=names.table)
    endpoints = [
        stack.format_arn(
            service="cloudformation", resource="stack", resource_name=f"{names.stack(f'endpoint-{model}')}/*"
        )
        for model, settings in deployment.models.items()
        if settings.gpu
    ]
    statement = iam.PolicyStatement
    grants = [
        _source(stack, source),
        statement(
            sid="WriteRelease",
            actions=["s3:GetObject", "s3:PutObject"],
            resources=[f"{bucket}/{prefix}/*" for prefix in ("data", "releases", "training")],
        ),
        statement(
            sid="ListData",
            actions=["s3:ListBucket"],
            resources=[bucket],
            conditions={"StringLike": {"s3:prefix": "data/*"}},
        ),
        statement(
            sid="MovePointers",
            actions=["ssm:GetParameter", "ssm:GetParameterHistory", "ssm:PutParameter"],
            resources=pointers,
        ),
        statement(
            sid="MoveFunctions",
            actions=[
                "lambda:GetAlias",
                "lambda:GetFunction",
                "lambda:GetFunctionConfiguration",
                "lambda:PublishVersion",
                "lambda:UpdateAlias",
                "lambda:UpdateFunctionConfiguration",
            ],
            resources=functions,
        ),
        statement(sid="WatchAlarms", actions=["cloudwatch:DescribeAlarms"], resources=[alarms]),
        statement(sid="ForgetSnapshot", actions=["dynamodb:DeleteItem"], resources=[table]),
    ]
    if endpoints:
        grants.append(
            statement(
                sid="MoveEndpoints",
                actions=["cloudformation:DescribeStacks", "cloudformation:UpdateStack"],
                resources=endpoints,
            )
        )
    return grants
