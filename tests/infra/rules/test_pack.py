"""Each rule with what passes and what fails it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.rules import pack

BUDGET = {
    "Budget": {
        "Type": "AWS::Budgets::Budget",
        "Properties": {"Budget": {"BudgetLimit": {"Amount": 10, "Unit": "USD"}}},
    }
}


def findings(kind: str, properties: dict[str, Any]) -> list[str]:
    template = {"Resources": {"It": {"Type": kind, "Properties": properties}, **BUDGET}}
    return [finding.rule for finding in pack.check({"stack": template})]


def variant(**named: Any) -> dict[str, Any]:
    return {"ProductionVariants": [{"VariantName": "gpu", "InstanceType": "ml.g5.xlarge", **named}]}


def statement(**named: Any) -> dict[str, Any]:
    body = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/k", **named}
    return {"PolicyDocument": {"Statement": [body]}}


def machine(**job: Any) -> dict[str, Any]:
    state = {"Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync", "Parameters": job}
    return {"DefinitionString": {"Fn::Join": ["", [json.dumps({"States": {"Train": state}})]]}}


GOOD_JOB = {
    "EnableNetworkIsolation": True,
    "EnableInterContainerTrafficEncryption": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
CONFIG, ROUTE = "AWS::SageMaker::EndpointConfig", "AWS::ApiGatewayV2::Route"
POLICY, MACHINE = "AWS::IAM::Policy", "AWS::StepFunctions::StateMachine"
TARGET = "AWS::ApplicationAutoScaling::ScalableTarget"


@pytest.mark.parametrize(
    ("rule", "kind", "passes", "fails"),
    [
        ("encrypted-volumes", CONFIG, variant(), variant(InstanceType="ml.m5.xlarge")),
        ("encrypted-output", "AWS::S3::Bucket", {"BucketEncryption": {}}, {}),
        ("encrypted-output", "AWS::SQS::Queue", {"SqsManagedSseEnabled": True}, {}),
        (
            "encrypted-output",
            MACHINE,
            machine(**GOOD_JOB),
            machine(**{**GOOD_JOB, "EnableInterContainerTrafficEncryption": False}),
        ),
        ("network-isolation", "AWS::SageMaker::Model", {"EnableNetworkIsolation": True}, {}),
        (
            "network-isolation",
            MACHINE,
            machine(**GOOD_JOB),
            machine(**{**GOOD_JOB, "EnableNetworkIsolation": False}),
        ),
        (
            "stopping-condition",
            MACHINE,
            machine(**GOOD_JOB),
            machine(**{**GOOD_JOB, "StoppingCondition": {}}),
        ),
        (
            "stopping-condition",
            MACHINE,
            machine(
                **{
                    **GOOD_JOB,
                    "EnableManagedSpotTraining": True,
                    "StoppingCondition": {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 2},
                }
            ),
            machine(**GOOD_JOB, EnableManagedSpotTraining=True),
        ),
        (
            "bounded-capacity",
            CONFIG,
            variant(ManagedInstanceScaling={"MaxInstanceCount": 20}),
            variant(ManagedInstanceScaling={"MaxInstanceCount": 201}),
        ),
        ("bounded-capacity", TARGET, {"MaxCapacity": 1}, {"MaxCapacity": 201}),
        ("no-star-action", POLICY, statement(), statement(Action=["s3:*"])),
        ("no-star-action", POLICY, statement(Effect="Deny", Action="s3:*"), statement(Action="*")),
        (
            "no-star-resource",
            POLICY,
            statement(Sid="Trace", Resource="*"),
            statement(Sid="Any", Resource="*"),
        ),
        ("authorised", ROUTE, {"AuthorizationType": "AWS_IAM", "RouteKey": "GET /"}, {"RouteKey": "GET /"}),
        (
            "authorised",
            "AWS::ApiGateway::Method",
            {"AuthorizationType": "AWS_IAM", "HttpMethod": "GET"},
            {"AuthorizationType": "NONE", "HttpMethod": "GET"},
        ),
        ("log-retention", "AWS::Logs::LogGroup", {"RetentionInDays": 7}, {}),
    ],
)
def test_a_rule_passes_and_fails(rule: str, kind: str, passes: dict[str, Any], fails: dict[str, Any]):
    assert findings(kind, passes) == []
    assert findings(kind, fails) == [rule]


def test_a_volume_with_a_key_is_encrypted():
    assert findings(CONFIG, {**variant(InstanceType="ml.m5.xlarge"), "KmsKeyId": "k"}) == []


@pytest.mark.parametrize(
    ("budget", "found"),
    [
        (BUDGET, []),
        ({}, ["budget"]),
        ({"Budget": {"Type": "AWS::Budgets::Budget", "Properties": {"Budget": {}}}}, ["budget"]),
    ],
)
def test_a_stage_needs_a_budget_with_a_limit(budget: dict[str, Any], found: list[str]):
    assert [f.rule for f in pack.check({"stack": {"Resources": budget}})] == found


def test_routes_may_be_open_by_choice():
    template = {"Resources": {"R": {"Type": ROUTE, "Properties": {"RouteKey": "GET /"}}, **BUDGET}}
    assert pack.check({"stack": template}, open_by_choice=True) == []


def test_every_rule_has_a_case_above():
    cases = test_a_rule_passes_and_fails.pytestmark[0].args[1]
    assert {case[0] for case in cases} == set(pack.RULES)
