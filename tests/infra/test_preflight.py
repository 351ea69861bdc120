from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra import config
from infra.preflight import Check, Outside, checks

STAGE, MODELS = config.load().stage("dev"), config.load().models_of("dev")
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


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        quotas = Quotas(0.0)
        yield lambda name: quotas if name == "service-quotas" else boto3.client(name, region_name="us-east-1")


def offline(service: str) -> Any:
    raise OSError("no route to host")


def look(
    project: Path, client: Client, node: str = "v20.1.0", python: tuple[int, int] = (3, 11)
) -> dict[str, Check]:
    outside = Outside(run=lambda _: node, client=client, root=project, python=python)
    return {check.name: check for check in checks(STAGE, MODELS, outside)}


def test_offline_says_what_could_not_be_checked(project: Path):
    found = look(project, offline)
    assert [found[name].status for name in ("Python", "Node", "CDK CLI")] == ["ok"] * 3
    assert "no route to host" in found["credentials"].found
    assert {found[n].status for n in ("credentials", "region", "bootstrap", "GPU quota ml.g4dn.xlarge")} == {
        "unknown"
    }


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
    found = look(project, aws)["GPU quota ml.g4dn.xlarge"]
    assert (found.status, found.found) == ("failed", "0 of 1")
    assert "request 1 of" in found.fix


def test_a_bootstrapped_account_is_in_order(project: Path, aws: Client):
    aws("ssm").put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String")
    assert look(project, aws)["bootstrap"].status == "ok"


def test_credentials_of_another_account(project: Path, aws: Client):
    stage = STAGE.model_copy(update={"account": "210987654321"})
    outside = Outside(run=lambda _: "v20.1.0", client=aws, root=project)
    found = {check.name: check for check in checks(stage, MODELS, outside)}
    assert found["credentials"].status == "failed"
    assert "210987654321" in found["credentials"].fix
