"""The GPU endpoint of one model. Empty until `turnout release deploy` names a release for it."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.config import Gpu
from infra.constructs.gpu_endpoint import GpuEndpoint
from infra.constructs.gpu_image import image_uri
from infra.constructs.gpu_scaling import GpuScaling
from infra.deployment import Deployment
from infra.names import VARIANT
from infra.stacks.storage import NO_RELEASE


class EndpointStack(cdk.Stack):
    """Reads which release to serve from SSM when it deploys, so a synth needs no release.

    While that parameter is `none` the stack holds no endpoint and costs nothing.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        deployment: Deployment,
        model: str,
        gpu: Gpu,
        env: cdk.Environment,
    ) -> None:
        super().__init__(scope, name, env=env, description=f"turnout: the GPU endpoint of {model}")
        self.deployment, self.model = deployment, model
        names = deployment.names
        release = cdk.CfnParameter(
            self, "Release", type="AWS::SSM::Parameter::Value<String>", default=names.gpu_release(model)
        )
        has_release = cdk.CfnCondition(
            self,
            "HasRelease",
            expression=cdk.Fn.condition_not(cdk.Fn.condition_equals(release.value_as_string, NO_RELEASE)),
        )
        bucket = names.bucket(self.account)
        image = gpu.image_uri or image_uri(self, deployment)
        endpoint = GpuEndpoint(
            self,
            "Gpu",
            name=names.endpoint(model),
            gpu=gpu,
            image=image,
            release_uri=f"s3://{bucket}/releases/{model}/{release.value_as_string}/",
            capture_uri=f"s3://{bucket}/capture/{model}",
            role=self._role(bucket, gpu),
            alarms=self._alarms(names.endpoint(model)),
        )
        scaling = GpuScaling(self, "Scaling", name=names.endpoint(model), gpu=gpu)
        scaling.target.add_resource_dependency(endpoint.resources[-1])
        for resource in (*endpoint.resources, *scaling.resources):
            resource.cfn_options.condition = has_release
        cdk.CfnOutput(self, "ServedRelease", value=release.value_as_string)
        cdk.CfnOutput(
            self,
            "Next",
            value=f"turnout release deploy {model}@HASH --stage {deployment.stage}",
            description="while ServedRelease is none there is no endpoint",
        )

    def _role(self, bucket: str, gpu: Gpu) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        arn = f"arn:{self.partition}:s3:::{bucket}"
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:GetObject"], resources=[f"{arn}/releases/{self.model}/*"], sid="ReadReleases"
            )
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[arn],
                conditions={"StringLike": {"s3:prefix": f"releases/{self.model}/*"}},
                sid="ListReleases",
            )
        )
        if gpu.data_capture_percent:
            role.add_to_policy(
                iam.PolicyStatement(
                    actions=["s3:PutObject"], resources=[f"{arn}/capture/{self.model}/*"], sid="WriteCapture"
                )
            )
        repository = self.format_arn(
            service="ecr", resource="repository", resource_name=self.deployment.names.images
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                ],
                resources=[repository],
                sid="PullImage",
            )
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"], sid="EcrLogin")
        )
        logs = self.format_arn(
            service="logs",
            resource="log-group",
            resource_name="/aws/sagemaker/*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[logs],
                sid="WriteLogs",
            )
        )
        return role

    def _alarms(self, endpoint: str) -> list[cloudwatch.CfnAlarm]:
        """What takes a rollout back: server errors, or a p99 above the model's whole objective."""
        slo_us = 1000 * self.deployment.models[self.model].latency_slo_ms
        topic = self.format_arn(service="sns", resource=self.deployment.names.alarms)
        dimensions = [
            cloudwatch.CfnAlarm.DimensionProperty(name="EndpointName", value=endpoint),
            cloudwatch.CfnAlarm.DimensionProperty(name="VariantName", value=VARIANT),
        ]
        errors = cloudwatch.CfnAlarm(
            self,
            "Errors",
            alarm_name=f"{endpoint}-gpu-errors",
            alarm_description="the GPU endpoint answers with 5xx: rolls a deployment back",
            namespace="AWS/SageMaker",
            metric_name="Invocation5XXErrors",
            statistic="Sum",
            dimensions=dimensions,
            period=60,
            evaluation_periods=2,
            threshold=5,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[topic],
        )
        latency = cloudwatch.CfnAlarm(
            self,
            "Latency",
            alarm_name=f"{endpoint}-gpu-latency",
            alarm_description="the GPU model's p99 (microseconds) is above the objective: rolls back",
            namespace="AWS/SageMaker",
            metric_name="ModelLatency",
            extended_statistic="p99",
            dimensions=dimensions,
            period=60,
            evaluation_periods=3,
            threshold=slo_us,
            comparison_operator="GreaterThanThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[topic],
        )
        return [errors, latency]
