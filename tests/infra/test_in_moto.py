"""Synthesized stacks in moto, in this process: a REST API's route moves, a deletion leaves what it should."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers.adapters.api_route import RestRoute

from .conftest import Stage, Templates

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Tried to parse"),  # moto's word for what it skips: the gaps
]
REGION = "us-east-1"
Client = Callable[[str], Any]


@cache
def teach_moto() -> None:
    """Once a process: corrections wrap what they correct."""
    from scripts.local import moto_corrections, moto_inference_components, moto_types

    moto_types.teach_all()
    moto_inference_components.teach_inference_components()
    moto_corrections.correct_all("http://localhost:1")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """An account without anything."""
    teach_moto()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield lambda service: boto3.client(service, region_name=REGION)


def deploy(client: Client, templates: Mapping[str, dict[str, Any]]) -> None:
    """Every stack in order, as `cdk deploy --all` would, with an empty package for every function."""
    client("ssm").put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String")
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("a.py", "")
    assets = f"cdk-hnb659fds-assets-123456789012-{REGION}"
    client("s3").create_bucket(Bucket=assets)
    for name, template in templates.items():
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Lambda::Function":
                key = resource["Properties"]["Code"]["S3Key"]
                client("s3").put_object(Bucket=assets, Key=key, Body=package.getvalue())
        client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(template))


def test_a_rest_apis_route_moves_between_function_and_front(aws: Client, rest: Stage):
    deploy(aws, rest.templates)
    (api,) = aws("apigateway").get_rest_apis()["items"]
    route = RestRoute(aws("apigateway"), api["id"], "live", "digits")
    assert route.target() == "turnout-dev-digits:live"
    route.lead_to("turnout-dev-digits-front:live")
    assert route.target() == "turnout-dev-digits-front:live"
    assert aws("ssm").get_parameter(Name="/turnout/dev/api/id")["Parameter"]["Value"] == api["id"]


def test_production_keeps_its_releases_state_and_images_when_it_is_deleted(
    aws: Client, synthesize: Callable[[str], Templates]
):
    templates = synthesize("prod")
    deploy(aws, templates)
    for name in reversed(templates):
        aws("cloudformation").delete_stack(StackName=name)
    kept = {
        "buckets": {
            b["Name"] for b in aws("s3").list_buckets()["Buckets"] if b["Name"].startswith("turnout-prod-")
        },
        "tables": set(aws("dynamodb").list_tables()["TableNames"]),
        "images": {r["repositoryName"] for r in aws("ecr").describe_repositories()["repositories"]},
        "packages": {
            g["ModelPackageGroupName"]
            for g in aws("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
        },
    }
    assert len(kept.pop("buckets")) == 2  # the releases and their access log
    assert kept == {
        "tables": {"turnout-prod-state"},
        "images": {"turnout-prod-gpu-server"},
        "packages": {"turnout-prod-digits", "turnout-prod-sst2"},
    }
    left = [
        aws("lambda").list_functions()["Functions"],
        aws("apigatewayv2").get_apis()["Items"],
        aws("iam").list_roles()["Roles"],
        aws("scheduler").list_schedules()["Schedules"],
        aws("stepfunctions").list_state_machines()["stateMachines"],
        aws("logs").describe_log_groups()["logGroups"],
        aws("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"])["MetricAlarms"],
        [p for p in aws("ssm").describe_parameters()["Parameters"] if p["Name"].startswith("/turnout/")],
    ]
    assert left == [[]] * len(left)
