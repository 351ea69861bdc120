from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra import config
from infra.image_tag import image_tag
from infra.names import Names
from infra.preflight import Check, Outside, checks

STAGE, MODELS = config.load().stage("dev"), config.load().models_of("dev")
NAMES = Names("dev")
ENDPOINTS = "quota ml.g4dn.xlarge for endpoint usage"
Client = Callable[[str], Any]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "node_modules" / "aws-cdk").mkdir(parents=True)
    (tmp_path / "package.json").write_text(json.dumps({"devDependencies": {"aws-cdk": "2.1148.1"}}))
    (tmp_path / "node_modules" / "aws-cdk" / "package.json").write_text(json.dumps({"version": "2.1148.1"}))
    return tmp_path


class Quotas:
    """Service Quotas, which moto has no list of: one quota with `value`."""

    exceptions = boto3.client("service-quotas", region_name="us-east-1").exceptions

    def __init__(self, value: float) -> None:
        self.page = {"Quotas": [{"QuotaName": "ml.g4dn.xlarge for endpoint usage", "Value": value}]}

    def get_paginator(self, _name: str) -> Quotas:
        return self

    def paginate(self, **wanted: str) -> list[dict[str, Any]]:
        return [self.page] if wanted == {"ServiceCode": "sagemaker"} else []


class Tags:
    """Cost Explorer's list of tags, which moto lacks."""

    exceptions = boto3.client("ce", region_name="us-east-1").exceptions

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []

    def list_cost_allocation_tags(self, **wanted: list[str]) -> dict[str, Any]:
        return {"CostAllocationTags": self.found if wanted == {"TagKeys": ["turnout:stage"]} else []}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        lacking = {"service-quotas": Quotas(0.0), "ce": Tags()}
        yield lambda name: lacking.get(name) or boto3.client(name, region_name="us-east-1")


def offline(service: str) -> Any:
    raise OSError("no route to host")


def look(
    project: Path, client: Client, node: str = "v20.1.0", python: tuple[int, int] = (3, 11)
) -> dict[str, Check]:
    outside = Outside(run=lambda _: node, client=client, root=project, python=python)
    return {check.name: check for check in checks(NAMES, STAGE, MODELS, outside)}


def test_offline_says_what_could_not_be_checked(project: Path):
    found = look(project, offline)
    assert [found[name].status for name in ("Python", "Node", "CDK CLI")] == ["ok"] * 3
    assert "no route to host" in found["credentials"].found
    assert {found[n].status for n in ("credentials", "region", "bootstrap", ENDPOINTS)} == {"unknown"}


def test_old_tools_fail_with_their_fix(project: Path):
    (project / "node_modules" / "aws-cdk" / "package.json").write_text(json.dumps({"version": "3.0.0"}))
    found = look(project, offline, node="v18.0.0", python=(3, 10))
    assert found["Node"] == Check("Node", "failed", "v18.0.0", "install Node 20 or newer")
    assert found["Python"].status == "failed"
    assert "2.1148.1" in found["CDK CLI"].fix


def test_a_fresh_account_is_not_bootstrapped(project: Path, aws: Client):
    found = look(project, aws)
    assert found["credentials"].found == "account 123456789012"
    assert found["bootstrap"] == Check(
        "bootstrap", "failed", "not bootstrapped", "npx cdk bootstrap aws://123456789012/us-east-1"
    )


def test_a_gpu_quota_of_zero_says_what_to_request(project: Path, aws: Client):
    found = look(project, aws)[ENDPOINTS]
    assert (found.status, found.found) == ("failed", "0 of 1")
    assert "request 1 of" in found.fix


def test_a_bootstrapped_account_is_in_order(project: Path, aws: Client):
    aws("ssm").put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String")
    assert look(project, aws)["bootstrap"].status == "ok"


def test_credentials_of_another_account(project: Path, aws: Client):
    stage = STAGE.model_copy(update={"account": "210987654321"})
    outside = Outside(run=lambda _: "v20.1.0", client=aws, root=project)
    found = {check.name: check for check in checks(NAMES, stage, MODELS, outside)}
    assert found["credentials"].status == "failed"
    assert "210987654321" in found["credentials"].fix


def test_training_needs_a_quota_of_its_own(project: Path, aws: Client):
    found = look(project, aws)["quota ml.g5.xlarge for spot training job usage"]
    assert (found.status, found.found) == ("unknown", "Service Quotas does not list it")


@pytest.mark.parametrize(
    ("listed", "status", "said"),
    [([], "to do", "not listed"), (["Inactive"], "to do", "Inactive"), (["Active"], "ok", "Active")],
)
def test_the_tag_that_the_budget_filters_by_is_to_be_activated(
    project: Path, aws: Client, listed: list[str], status: str, said: str
):
    aws("ce").found = [{"TagKey": "turnout:stage", "Type": "UserDefined", "Status": each} for each in listed]
    found = look(project, aws)["cost allocation tag"]
    assert (found.status, found.found) == (status, said)
    assert "activate turnout:stage in Billing" in found.fix


def test_later_steps_are_to_do_until_they_are_done(project: Path, aws: Client):
    # Given an account in which nothing is deployed
    found = look(project, aws)
    assert (found["images"].status, found["release of digits"].status) == ("to do", "to do")
    assert found["images"].fix == "npx cdk deploy -c stage=dev turnout-dev-training"
    assert found["API"] == Check("API", "to do", "not deployed", "npx cdk deploy --all -c stage=dev")
    # When repository and pointer are there, image and release are next
    aws("ecr").create_repository(repositoryName=NAMES.images)
    aws("ssm").put_parameter(Name=NAMES.pointer("digits"), Value="none", Type="String")
    found = look(project, aws)
    assert found["images"].fix == "aws codebuild start-build --project-name turnout-dev-image"
    assert found["release of digits"].fix.startswith("turnout release push digits --stage dev")
    # When all are made, all is in order
    aws("ssm").put_parameter(Name=NAMES.api_url, Value="https://api.example.com", Type="String")
    manifest = '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}'
    aws("ecr").put_image(
        repositoryName=NAMES.images, imageManifest=manifest, imageTag=f"serving-{image_tag()}"
    )
    pointer = json.dumps({"release": "0123456789abcdef", "manifest_sha256": "0" * 64})
    aws("ssm").put_parameter(Name=NAMES.pointer("digits"), Value=pointer, Type="String", Overwrite=True)
    found = look(project, aws)
    assert (found["images"].status, found["release of digits"].found) == ("ok", "0123456789abcdef")
    assert found["API"] == Check("API", "ok", "https://api.example.com")
