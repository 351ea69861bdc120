"""The bounds of the GPU's capacity, the alarm that wakes it, and target tracking where a stage asks for it.

The control loop is the scaler. The wake alarm is its safety net: calls that found no capacity add one copy at
once, without waiting for the loop's next round.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.config import Gpu
from infra.names import VARIANT

REQUESTS_PER_COPY = 4.0
COOLDOWN_S = 300


class GpuScaling(Construct):
    """A scalable target with the configured bounds; `resources` are all it makes."""

    def __init__(self, scope: Construct, construct_id: str, *, name: str, gpu: Gpu) -> None:
        super().__init__(scope, construct_id)
        component = gpu.kind == "inference_component"
        self.target = scaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            resource_id=f"inference-component/{name}" if component else f"endpoint/{name}/variant/{VARIANT}",
            scalable_dimension=(
                "sagemaker:inference-component:DesiredCopyCount"
                if component
                else "sagemaker:variant:DesiredInstanceCount"
            ),
            min_capacity=gpu.min_instances,
            max_capacity=gpu.max_instances,
        )
        self.resources: list[cdk.CfnResource] = [self.target]
        if component and gpu.min_instances == 0:
            self._wake(name)
        if gpu.scaling == "target_tracking":
            self._track(name, component=component)

    def _wake(self, name: str) -> None:
        policy = scaling.CfnScalingPolicy(
            self,
            "Wake",
            policy_name=f"{name}-wake",
            policy_type="StepScaling",
            scaling_target_id=self.target.ref,
            step_scaling_policy_configuration=scaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                cooldown=COOLDOWN_S,
                metric_aggregation_type="Maximum",
                step_adjustments=[
                    scaling.CfnScalingPolicy.StepAdjustmentProperty(
                        metric_interval_lower_bound=0, scaling_adjustment=1
                    )
                ],
            ),
        )
        alarm = cloudwatch.CfnAlarm(
            self,
            "Asleep",
            alarm_name=f"{name}-gpu-asleep",
            alarm_description="a call found the GPU at zero: adds one copy",
            namespace="AWS/SageMaker",
            metric_name="NoCapacityInvocationFailures",
            dimensions=[cloudwatch.CfnAlarm.DimensionProperty(name="InferenceComponentName", value=name)],
            statistic="Maximum",
            period=60,
            evaluation_periods=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="missing",
            alarm_actions=[policy.ref],
        )
        self.resources += [policy, alarm]

    def _track(self, name: str, *, component: bool) -> None:
        metric = (
            "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
            if component
            else "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        )
        configuration = scaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
            target_value=REQUESTS_PER_COPY,
            predefined_metric_specification=scaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                predefined_metric_type=metric
            ),
            scale_in_cooldown=COOLDOWN_S,
            scale_out_cooldown=60,
        )
        self.resources.append(
            scaling.CfnScalingPolicy(
                self,
                "Track",
                policy_name=f"{name}-track",
                policy_type="TargetTrackingScaling",
                scaling_target_id=self.target.ref,
                target_tracking_scaling_policy_configuration=configuration,
            )
        )
