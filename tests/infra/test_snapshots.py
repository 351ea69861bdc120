"""Narrow snapshots of the parts whose change somebody should see in review.

`TURNOUT_UPDATE_SNAPSHOTS=1 pytest tests/infra/test_snapshots.py` rewrites them; the diff shows the change.
Hashes of assets, images and tokens are replaced, so that only what is meant changes a file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.rules.pack import definition

from .conftest import Look, Templates

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parent / "snapshots"
UPDATE = "TURNOUT_UPDATE_SNAPSHOTS"
HASHES = ((r"\b[0-9a-f]{64}\b", "<asset>"), (r"\b(serving|training)-[0-9a-f]{16}\b", r"\1-<image>"))


def chosen(templates: Templates, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """`stack/logical id` without CDK's hash, and the resource, of the given types."""
    for stack, template in sorted(templates.items()):
        for name, resource in sorted(template["Resources"].items()):
            if resource["Type"] in kinds:
                yield f"{stack}/{re.sub('[0-9A-F]{8}$', '', name)}", resource


def routes(templates: Templates) -> dict[str, Any]:
    """Who may call what, and how often."""
    called = {
        r["Properties"]["RouteKey"]: r["Properties"]["AuthorizationType"]
        for _, r in chosen(templates, "AWS::ApiGatewayV2::Route")
    }
    ((_, stage),) = chosen(templates, "AWS::ApiGatewayV2::Stage")
    return {"routes": called, "throttling": stage["Properties"]["DefaultRouteSettings"]}


def kept(templates: Templates) -> dict[str, Any]:
    """What holds data, whole."""
    kinds = ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::ECR::Repository", "AWS::KMS::Key")
    return {
        name: {key: value for key, value in r.items() if key not in ("Metadata", "Type")}
        for name, r in chosen(templates, *kinds)
    }


def trusts(templates: Templates) -> dict[str, Any]:
    """Who may take each role, and its managed policies; what roles allow is in reviewed_actions.json."""
    return {
        name: [
            statement["Principal"].get("Service")
            for statement in r["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        ]
        + [json.dumps(arn) for arn in r["Properties"].get("ManagedPolicyArns", [])]
        for name, r in chosen(templates, "AWS::IAM::Role")
    }


def functions(templates: Templates) -> dict[str, Any]:
    """How the functions are run."""
    shown = ("Architectures", "Handler", "MemorySize", "Runtime", "SnapStart", "Timeout", "TracingConfig")
    return {
        name: {key: r["Properties"].get(key) for key in shown}
        for name, r in chosen(templates, "AWS::Lambda::Function")
    }


def gpu(templates: Templates) -> dict[str, Any]:
    """The endpoints, their bounds and their rollout."""
    kinds = ("SageMaker::EndpointConfig", "SageMaker::Endpoint", "SageMaker::InferenceComponent")
    scaling = ("ApplicationAutoScaling::ScalableTarget", "ApplicationAutoScaling::ScalingPolicy")
    found = chosen(templates, *(f"AWS::{kind}" for kind in kinds + scaling))
    return {name: {k: v for k, v in r["Properties"].items() if k != "Tags"} for name, r in found}


def alarms(templates: Templates) -> dict[str, Any]:
    """What rings, at which bound, after how long."""
    shown = ("ComparisonOperator", "EvaluationPeriods", "Threshold", "TreatMissingData", "AlarmRule")
    return {
        r["Properties"]["AlarmName"]: {key: r["Properties"][key] for key in shown if key in r["Properties"]}
        for _, r in chosen(templates, "AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
    }


def money(templates: Templates) -> dict[str, Any]:
    """The budget and what happens at it."""
    found = chosen(templates, "AWS::Budgets::Budget", "AWS::Budgets::BudgetsAction")
    return {name: r["Properties"] for name, r in found}


def training(templates: Templates) -> dict[str, Any]:
    """The state machine of the first model: who follows whom, and the job that is asked for."""
    machine = definition(next(chosen(templates, "AWS::StepFunctions::StateMachine"))[1]["Properties"])
    states = machine["States"]
    follows = {
        name: {key: state[key] for key in ("Next", "Choices", "Default", "Catch", "Retry") if key in state}
        for name, state in states.items()
    }
    first = next(name for name in states if name.startswith("Train"))
    return {"StartAt": machine["StartAt"], "states": follows, "job": states[first]["Parameters"]}


PARTS: dict[str, Callable[[Templates], dict[str, Any]]] = {
    part.__name__: part for part in (routes, kept, trusts, functions, gpu, alarms, money, training)
}


def normalised(part: dict[str, Any]) -> str:
    text = json.dumps(part, indent=1, sort_keys=True)
    for pattern, name in HASHES:
        text = re.sub(pattern, name, text)
    return f"{text}\n"


@pytest.mark.parametrize("part", PARTS)
def test_a_change_of_prod_is_seen_in_review(look: Look, part: str):
    file, text = FOLDER / f"{part}.json", normalised(PARTS[part](look("prod").templates))
    if os.environ.get(UPDATE):
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text, f"{UPDATE}=1 pytest {Path(__file__).name} rewrites it: look at the diff"


def test_every_snapshot_is_of_a_part():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(PARTS)


def test_hashes_are_replaced():
    text = normalised({"key": "a" * 64, "image": "repo:serving-0123456789abcdef", "memory": 1769})
    assert json.loads(text) == {"key": "<asset>", "image": "repo:serving-<image>", "memory": 1769}
