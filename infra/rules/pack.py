"""turnout's own rules over synthesized templates; `cdk synth` fails on a finding. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handlers.routing.capacity_types import MAX_INSTANCES

Template = Mapping[str, Any]
Resource = Mapping[str, Any]
# Their local NVMe disks are encrypted by the instance; SageMaker refuses a KMS key for them.
NVME_FAMILIES = ("g4dn", "g5", "g6", "g6e", "g7e", "p4d", "p5")

ANY_RESOURCE = {
    "EcrLogin": "ecr:GetAuthorizationToken has no resources",
    "ReadMetrics": "cloudwatch:GetMetricData has no resources",
    "StopGpuSpend": "a deny is meant to be wide",
    "Trace": "X-Ray's write actions have no resources",
    "LogDelivery": "the log delivery actions of Step Functions have no resources",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One resource (`stack/logical id`, or a stack alone) that breaks one rule."""

    rule: str
    where: str
    why: str


Rule = Callable[[str, Resource], Iterator[str]]


def encrypted_volumes(kind: str, properties: Resource) -> Iterator[str]:
    """An endpoint's volume is encrypted, by a key or by the instance's own disks."""
    if kind == "AWS::SageMaker::EndpointConfig" and "KmsKeyId" not in properties:
        for variant in properties["ProductionVariants"]:
            if variant["InstanceType"].split(".")[1] not in NVME_FAMILIES:
                yield f"{variant['InstanceType']} has an unencrypted volume: set KmsKeyId"


def encrypted_output(kind: str, properties: Resource) -> Iterator[str]:
    """What is written at rest is encrypted by what the template says, not by a default."""
    if kind == "AWS::S3::Bucket" and "BucketEncryption" not in properties:
        yield "the bucket states no encryption"
    if kind == "AWS::SQS::Queue" and not {"SqsManagedSseEnabled", "KmsMasterKeyId"} & set(properties):
        yield "the queue states no encryption"
    for name, job in _training_jobs(kind, properties):
        if job.get("EnableInterContainerTrafficEncryption") is not True:
            yield f"the training job of state {name} talks unencrypted between its containers"


def network_isolation(kind: str, properties: Resource) -> Iterator[str]:
    """Model containers and training jobs reach no network."""
    if kind == "AWS::SageMaker::Model" and properties.get("EnableNetworkIsolation") is not True:
        yield "the model's container may reach the network"
    for name, job in _training_jobs(kind, properties):
        if job.get("EnableNetworkIsolation") is not True:
            yield f"the training job of state {name} may reach the network"


def stopping_condition(kind: str, properties: Resource) -> Iterator[str]:
    """Every training job ends by itself, spot jobs with a bounded wait too."""
    for name, job in _training_jobs(kind, properties):
        stopping = job.get("StoppingCondition", {})
        if "MaxRuntimeInSeconds" not in stopping:
            yield f"the training job of state {name} has no MaxRuntimeInSeconds"
        if job.get("EnableManagedSpotTraining") and "MaxWaitTimeInSeconds" not in stopping:
            yield f"the spot training job of state {name} has no MaxWaitTimeInSeconds"


def bounded_capacity(kind: str, properties: Resource) -> Iterator[str]:
    """Nothing scales without a bound."""
    if kind == "AWS::SageMaker::EndpointConfig":
        for variant in properties["ProductionVariants"]:
            scaling = variant.get("ManagedInstanceScaling")
            if scaling and not scaling.get("MaxInstanceCount", MAX_INSTANCES + 1) <= MAX_INSTANCES:
                yield f"variant {variant['VariantName']} may have more than {MAX_INSTANCES} instances"
    if kind == "AWS::ApplicationAutoScaling::ScalableTarget" and properties["MaxCapacity"] > MAX_INSTANCES:
        yield f"it may scale to more than {MAX_INSTANCES}"


def no_star_action(kind: str, properties: Resource) -> Iterator[str]:
    """Actions are named one by one."""
    for statement in _statements(kind, properties):
        for action in _list(statement.get("Action", [])):
            if "*" in action and statement["Effect"] == "Allow":
                yield f"it allows {action}"


def no_star_resource(kind: str, properties: Resource) -> Iterator[str]:
    """`*` as a resource needs a reason, by the statement's Sid, in ANY_RESOURCE."""
    for statement in _statements(kind, properties):
        if "*" in _list(statement.get("Resource", [])) and statement.get("Sid") not in ANY_RESOURCE:
            yield f"statement {statement.get('Sid', '(no Sid)')} names every resource without a reason"


def authorised(kind: str, properties: Resource) -> Iterator[str]:
    """Every route asks who is calling."""
    if kind == "AWS::ApiGatewayV2::Route" and properties.get("AuthorizationType", "NONE") == "NONE":
        yield f"{properties['RouteKey']} is open to everybody"
    if kind == "AWS::ApiGateway::Method" and properties.get("AuthorizationType", "NONE") == "NONE":
        yield f"{properties['HttpMethod']} is open to everybody"


def log_retention(kind: str, properties: Resource) -> Iterator[str]:
    """Logs are not kept, and paid for, for ever."""
    if kind == "AWS::Logs::LogGroup" and "RetentionInDays" not in properties:
        yield "the log group keeps its logs for ever"


RULES: Mapping[str, Rule] = {
    "encrypted-volumes": encrypted_volumes,
    "encrypted-output": encrypted_output,
    "network-isolation": network_isolation,
    "stopping-condition": stopping_condition,
    "bounded-capacity": bounded_capacity,
    "no-star-action": no_star_action,
    "no-star-resource": no_star_resource,
    "authorised": authorised,
    "log-retention": log_retention,
}


def check(templates: Mapping[str, Template], *, open_by_choice: bool = False) -> list[Finding]:
    """Every finding in `templates` (by stack name); `open_by_choice` leaves `authorised` out."""
    found = [
        Finding(name, f"{stack}/{logical_id}", why)
        for stack, template in templates.items()
        for logical_id, resource in template["Resources"].items()
        for name, rule in RULES.items()
        if not (open_by_choice and name == "authorised")
        for why in rule(resource["Type"], resource.get("Properties", {}))
    ]
    if not any(_limits(r) for template in templates.values() for r in template["Resources"].values()):
        found.append(Finding("budget", ", ".join(templates), "no stack has a budget with a limit"))
    return found


def _limits(resource: Resource) -> bool:
    """Whether the resource is a budget with a limit above 0 USD."""
    if resource["Type"] != "AWS::Budgets::Budget":
        return False
    limit = resource["Properties"]["Budget"].get("BudgetLimit", {})
    return limit.get("Unit") == "USD" and float(limit.get("Amount", 0)) > 0


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _statements(kind: str, properties: Resource) -> Iterator[Resource]:
    """The statements of an identity's policy (a resource's own policy names principals instead)."""
    if kind in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
        yield from properties["PolicyDocument"]["Statement"]
    if kind == "AWS::IAM::Role":
        for policy in properties.get("Policies", []):
            yield from policy["PolicyDocument"]["Statement"]


def _training_jobs(kind: str, properties: Resource) -> Iterator[tuple[str, Resource]]:
    """The parameters of every CreateTrainingJob in a state machine's definition."""
    if kind != "AWS::StepFunctions::StateMachine":
        return
    for name, state in definition(properties)["States"].items():
        if "createTrainingJob" in state.get("Resource", ""):
            yield name, state["Parameters"]


def definition(properties: Resource) -> dict[str, Any]:
    """A state machine's definition, with tokens replaced by a placeholder."""
    body = properties["DefinitionString"]
    if isinstance(body, dict):
        body = "".join(part if isinstance(part, str) else "token" for part in body["Fn::Join"][1])
    parsed: dict[str, Any] = json.loads(body)
    return parsed
