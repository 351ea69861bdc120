"""The two types of Application Auto Scaling for moto's CloudFormation: ScalableTarget and ScalingPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moto.applicationautoscaling.models import (
    FakeApplicationAutoscalingPolicy,
    applicationautoscaling_backends,
)

from scripts.local.moto_resource import Made, Wanted, teach


def teach_scaling() -> None:
    """Registers both types with moto's CloudFormation."""
    teach(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        create=make_target,
        update=change_target,
        delete=drop_target,
    )
    teach(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        name="PolicyName",
        create=make_policy,
        update=change_policy,
        delete=drop_policy,
    )


NOT_SUSPENDED = {
    f"{what}Suspended": False for what in ("DynamicScalingIn", "DynamicScalingOut", "ScheduledScaling")
}


def make_target(wanted: Wanted) -> Made:
    p = wanted.properties
    target = applicationautoscaling_backends[wanted.account_id][wanted.region].register_scalable_target(
        p["ServiceNamespace"],
        p["ResourceId"],
        p["ScalableDimension"],
        int(p["MinCapacity"]),
        int(p["MaxCapacity"]),
        p.get("RoleARN", ""),
        p.get("SuspendedState", NOT_SUSPENDED),
    )
    return Made("|".join((target.resource_id, target.scalable_dimension, target.service_namespace)))


def change_target(_made: Made, wanted: Wanted) -> Made:
    return make_target(wanted)  # registering again updates


def drop_target(_made: Made, wanted: Wanted) -> None:
    p = wanted.properties
    applicationautoscaling_backends[wanted.account_id][wanted.region].deregister_scalable_target(
        p["ServiceNamespace"], p["ResourceId"], p["ScalableDimension"]
    )


def scaled(properties: Mapping[str, Any]) -> tuple[str, str, str]:
    """(namespace, resource, dimension) of a policy, stated or by the reference to its target."""
    if "ScalingTargetId" in properties:
        resource, dimension, namespace = properties["ScalingTargetId"].split("|")
        return namespace, resource, dimension
    return properties["ServiceNamespace"], properties["ResourceId"], properties["ScalableDimension"]


def put_policy(wanted: Wanted) -> FakeApplicationAutoscalingPolicy:
    p = wanted.properties
    namespace, resource, dimension = scaled(p)
    body = p.get("TargetTrackingScalingPolicyConfiguration") or p.get("StepScalingPolicyConfiguration") or {}
    return applicationautoscaling_backends[wanted.account_id][wanted.region].put_scaling_policy(
        wanted.name, namespace, resource, dimension, body, p["PolicyType"]
    )


def make_policy(wanted: Wanted) -> Made:
    arn = put_policy(wanted).policy_arn
    return Made(arn, {"Arn": arn})


def change_policy(made: Made, wanted: Wanted) -> Made:
    put_policy(wanted).policy_arn = made.ref  # AWS keeps a policy's ARN; moto makes a new one
    return made


def drop_policy(_made: Made, wanted: Wanted) -> None:
    namespace, resource, dimension = scaled(wanted.properties)
    applicationautoscaling_backends[wanted.account_id][wanted.region].delete_scaling_policy(
        wanted.name, namespace, resource, dimension
    )
