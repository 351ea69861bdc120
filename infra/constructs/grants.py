"""What each function may do: one statement a purpose, named by its sid, as narrow as it goes."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from infra.config import Model
from infra.deployment import Deployment
from infra.names import ALIAS


def _parameter(stack: cdk.Stack, name: str) -> str:
    return stack.format_arn(service="ssm", resource="parameter", resource_name=name.lstrip("/"))


def _table(stack: cdk.Stack, deployment: Deployment) -> str:
    return stack.format_arn(service="dynamodb", resource="table", resource_name=deployment.names.table)


def _function(stack: cdk.Stack, name: str) -> str:
    return stack.format_arn(
        service="lambda",
        resource="function",
        resource_name=name,
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )


def _endpoint(stack: cdk.Stack, name: str, kind: str = "endpoint") -> str:
    return stack.format_arn(service="sagemaker", resource=kind, resource_name=name)


def trace() -> iam.PolicyStatement:
    """Segments to X-Ray, which has no resources to name."""
    actions = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    return iam.PolicyStatement(sid="Trace", actions=actions, resources=["*"])


def read_release(stack: cdk.Stack, deployment: Deployment, model: str) -> list[iam.PolicyStatement]:
    """The pointer, and the files of the model's releases."""
    bucket = f"arn:{stack.partition}:s3:::{deployment.names.bucket(stack.account)}"
    pointer = _parameter(stack, deployment.names.pointer(model))
    return [
        iam.PolicyStatement(sid="ReadPointer", actions=["ssm:GetParameter"], resources=[pointer]),
        iam.PolicyStatement(
            sid="ReadRelease", actions=["s3:GetObject"], resources=[f"{bucket}/releases/{model}/*"]
        ),
    ]


def share_state(stack: cdk.Stack, deployment: Deployment, model: str) -> iam.PolicyStatement:
    """Rows of this model only: its snapshot, its reports, its budgets."""
    rows = [f"{kind}#{model}" for kind in ("snapshot", "report", "budget")]
    return iam.PolicyStatement(
        sid="ShareState",
        actions=["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
        resources=[_table(stack, deployment)],
        conditions={"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [*rows, f"budget#{model}#*"]}},
    )


def ask_gpu(stack: cdk.Stack, deployment: Deployment, model: str) -> iam.PolicyStatement:
    """Calls to the model's endpoint and its inference component."""
    name = deployment.names.endpoint(model)
    return iam.PolicyStatement(
        sid="AskGpu",
        actions=["sagemaker:InvokeEndpoint"],
        resources=[_endpoint(stack, name), _endpoint(stack, name, "inference-component")],
    )


def ask_model(stack: cdk.Stack, deployment: Deployment, model: str) -> iam.PolicyStatement:
    """Calls from the front to the model's own function."""
    function = f"{deployment.names.function(model)}:{ALIAS}"
    return iam.PolicyStatement(
        sid="AskModel", actions=["lambda:InvokeFunction"], resources=[_function(stack, function)]
    )


def shadow(stack: cdk.Stack, deployment: Deployment, model: str, role: str) -> iam.PolicyStatement:
    """Asynchronous calls of a function to itself, off the caller's time."""
    names = deployment.names
    function = names.front(model) if role == "front" else names.function(model)
    return iam.PolicyStatement(
        sid="Shadow", actions=["lambda:InvokeFunction"], resources=[_function(stack, f"{function}:{ALIAS}")]
    )


def function_grants(
    stack: cdk.Stack, deployment: Deployment, model: str, role: str
) -> list[iam.PolicyStatement]:
    """All that a model's function may do in its `role` (colocated, front or model)."""
    settings: Model = deployment.models[model]
    grants = [*read_release(stack, deployment, model), share_state(stack, deployment, model)]
    if settings.gpu and role != "model":
        grants.append(ask_gpu(stack, deployment, model))
        if settings.has_shadows:
            grants.append(shadow(stack, deployment, model, role))
    if role == "front":
        grants.append(ask_model(stack, deployment, model))
    return grants


def control_grants(stack: cdk.Stack, deployment: Deployment, api_arn: str) -> list[iam.PolicyStatement]:
    """All that the control loop may do: read what happened, set capacity inside its bounds, move routes."""
    names, models = deployment.names, deployment.models
    gpu_models = [name for name, model in models.items() if model.gpu]
    parameters = [_parameter(stack, names.pointer(name)) for name in models]
    bucket = f"arn:{stack.partition}:s3:::{names.bucket(stack.account)}"
    grants = [
        iam.PolicyStatement(
            sid="State",
            actions=["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:Query"],
            resources=[_table(stack, deployment)],
        ),
        iam.PolicyStatement(
            sid="ReadPointers",
            actions=["ssm:GetParameter"],
            resources=[*parameters, _parameter(stack, names.kill_switch)],
        ),
        iam.PolicyStatement(
            sid="ReadProfiles",
            actions=["s3:GetObject"],
            resources=[f"{bucket}/releases/{name}/*/manifest.json" for name in models],
        ),
        iam.PolicyStatement(sid="ReadMetrics", actions=["cloudwatch:GetMetricData"], resources=["*"]),
    ]
    if gpu_models:
        endpoints = [_endpoint(stack, names.endpoint(name)) for name in gpu_models]
        components = [_endpoint(stack, names.endpoint(name), "inference-component") for name in gpu_models]
        grants.append(
            iam.PolicyStatement(
                sid="SetCapacity",
                actions=[
                    "sagemaker:DescribeEndpoint",
                    "sagemaker:DescribeInferenceComponent",
                    "sagemaker:UpdateEndpointWeightsAndCapacities",
                    "sagemaker:UpdateInferenceComponentRuntimeConfig",
                ],
                resources=[*endpoints, *components],
            )
        )
    if any(model.topology == "auto" for model in models.values()):
        grants.append(
            iam.PolicyStatement(
                sid="MoveRoutes", actions=["apigateway:GET", "apigateway:PATCH"], resources=[api_arn]
            )
        )
    return grants
