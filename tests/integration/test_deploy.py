"""The unmodified local stage through the real CDK command line into moto: deploy, diff, release, back."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from handlers.errors import InvalidConfig, PointerMissing, ReleaseError
from infra.bundling import ROOT
from infra.config import load
from infra.names import Names
from infra.purge import purge
from infra.rollout import Aws, Canary, Rollout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CDK = ROOT / "node_modules" / ".bin" / "cdk"
ACCOUNT = "123456789012"
NAMES = Names("local")


class Cloud:
    """moto's server with turnout's corrections, and the CDK command line led into it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.url, self.assembly = f"http://localhost:{port}", folder / "cdk.out"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CI": "true",
        }
        command = [sys.executable, "-m", "scripts.local.aws", "--port", str(port)]
        self.log = (folder / "moto.log").open("w")
        self.server = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=self.log, stderr=self.log
        )
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        self.cdk("bootstrap", f"aws://{ACCOUNT}/us-east-1", app=False)
        self.cdk("synth", "-q", "-o", str(self.assembly), app=False)

    def cdk(self, *arguments: str, app: bool = True) -> str:
        command = [str(CDK), *arguments, "--no-notices", *(["--app", str(self.assembly)] if app else [])]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-1500:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def deploy(self) -> str:
        return self.cdk("deploy", "--all", "--require-approval", "never")

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            "us-east-1",
            endpoint_url=self.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def inventory(self) -> dict[str, str]:
        """By stack and logical id the physical id of every resource, and where the alias points."""
        stacks = self.client("cloudformation")
        pages = stacks.get_paginator("list_stack_resources")
        found = {
            f"{stack['StackName']}/{resource['LogicalResourceId']}": resource["PhysicalResourceId"]
            for stack in stacks.describe_stacks()["Stacks"]
            for page in pages.paginate(StackName=stack["StackName"])
            for resource in page["StackResourceSummaries"]
            if resource.get("LogicalResourceId")  # moto lists what it skipped without a name
        }
        alias = self.client("lambda").get_alias(FunctionName="turnout-local-digits", Name="live")
        return {**found, "live": alias["FunctionVersion"]}

    def rollout(self) -> Rollout:
        names = ("s3", "ssm", "lambda", "cloudformation", "cloudwatch", "dynamodb")
        return Rollout(
            Aws(*map(self.client, names), sleep=lambda _: None),
            NAMES,
            "digits",
            ACCOUNT,
            front=False,
            gpu=True,
        )

    def push(self, body: bytes) -> str:
        release = hashlib.sha256(body).hexdigest()[:16]
        key = f"releases/digits/{release}/manifest.json"
        self.client("s3").put_object(Bucket=NAMES.bucket(ACCOUNT), Key=key, Body=body)
        return release


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if not CDK.exists():
        pytest.skip("the CDK command line is not installed: npm ci")
    made = Cloud(tmp_path_factory.mktemp("cloud"))
    made.deploy()
    yield made
    made.server.terminate()
    made.server.wait(10)
    made.log.close()


def test_what_exists_after_a_deployment(cloud: Cloud):
    functions = {f["FunctionName"] for f in cloud.client("lambda").list_functions()["Functions"]}
    assert functions == {"turnout-local-digits", "turnout-local-control"}
    aliases = cloud.client("lambda").list_aliases(FunctionName="turnout-local-digits")["Aliases"]
    assert [(a["Name"], a["FunctionVersion"]) for a in aliases] == [("live", "1")]
    (api,) = cloud.client("apigatewayv2").get_apis()["Items"]
    routes = {r["RouteKey"] for r in cloud.client("apigatewayv2").get_routes(ApiId=api["ApiId"])["Items"]}
    assert {"GET /v2", "ANY /v2/models/digits/{proxy+}"} <= routes
    assert cloud.client("dynamodb").describe_table(TableName=NAMES.table)["Table"]["TableStatus"] == "ACTIVE"
    (schedule,) = cloud.client("scheduler").list_schedules()["Schedules"]
    assert schedule["Name"] == NAMES.control
    assert cloud.client("ssm").get_parameter(Name=NAMES.pointer("digits"))["Parameter"]["Value"] == "none"
    assert cloud.client("sagemaker").list_endpoints()["Endpoints"] == []
    machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
    assert [machine["name"] for machine in machines] == [NAMES.training("digits")]


def test_a_diff_after_a_deployment_is_empty(cloud: Cloud):
    text = cloud.cdk("diff", "--method=template")
    assert text.count("There were no differences") == 6


def test_a_release_that_was_not_pushed_is_refused(cloud: Cloud):
    with pytest.raises(PointerMissing, match="turnout release push digits@0123456789abcdef"):
        cloud.rollout().deploy("0123456789abcdef", Canary(), lambda _: None)


def test_a_first_release_that_does_not_stay_leaves_none(cloud: Cloud):
    # Given a stage that has served nothing yet, and a snapshot of its router
    release, nowhere = cloud.push(b'{"n":0}'), cloud.rollout().position()
    assert (nowhere.pointer, nowhere.gpu_release) == ("none", "none")
    alarms, table, sagemaker = (cloud.client(name) for name in ("cloudwatch", "dynamodb", "sagemaker"))
    key = {"pk": {"S": "snapshot#digits"}, "sk": {"S": "current"}}
    table.put_item(TableName=NAMES.table, Item=key)
    # When an alarm goes off during its canary
    alarm = {"AlarmName": "turnout-local-digits-errors", "StateReason": "test"}
    alarms.set_alarm_state(**alarm, StateValue="ALARM")
    with pytest.raises(ReleaseError, match="turnout-local-digits-errors in ALARM"):
        cloud.rollout().deploy(release, Canary.parse("10%", 1.0), lambda _: None)
    alarms.set_alarm_state(**alarm, StateValue="OK")
    # Then pointer, alias and GPU are where they were, and the snapshot is gone
    assert cloud.rollout().position() == nowhere
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert "Item" not in table.get_item(TableName=NAMES.table, Key=key)
    # And when it is taken back after the endpoint came into being, the endpoint goes again
    cloud.rollout().deploy(release, Canary(), lambda _: None)
    assert [e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]] == ["turnout-local-digits"]
    cloud.rollout().restore(nowhere, lambda _: None)
    assert cloud.rollout().position() == nowhere
    assert sagemaker.list_endpoints()["Endpoints"] == []


def test_releases_move_everything_together_and_back(cloud: Cloud):
    # Given two pushed releases
    first, second = cloud.push(b'{"n":1}'), cloud.push(b'{"n":2}')
    ssm, functions, sagemaker = (cloud.client(name) for name in ("ssm", "lambda", "sagemaker"))

    def served() -> str:
        version = functions.get_alias(FunctionName="turnout-local-digits", Name="live")["FunctionVersion"]
        found = functions.get_function_configuration(FunctionName="turnout-local-digits", Qualifier=version)
        pinned: str = found["Environment"]["Variables"]["TURNOUT_POINTER"]
        return str(ssm.get_parameter(Name=pinned)["Parameter"]["Value"])

    def endpoint_data() -> list[str]:
        models = [
            sagemaker.describe_model(ModelName=m["ModelName"]) for m in sagemaker.list_models()["Models"]
        ]
        return [
            m["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"].split("/")[-2] for m in models
        ]

    # When the first is deployed, the function pins it and the endpoint comes into being
    cloud.rollout().deploy(first, Canary(), lambda _: None)
    assert first in served()
    assert endpoint_data() == [first]
    assert [e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]] == ["turnout-local-digits"]
    # When the second is tried by a canary and an alarm goes off, everything stays with the first
    cloud.client("cloudwatch").set_alarm_state(
        AlarmName="turnout-local-digits-errors", StateValue="ALARM", StateReason="test"
    )
    with pytest.raises(ReleaseError, match="turnout-local-digits-errors in ALARM"):
        cloud.rollout().deploy(second, Canary.parse("10%", 1.0), lambda _: None)
    assert first in served()
    assert endpoint_data() == [first]
    assert first in cloud.rollout().position().pointer
    # When the alarm is over it is deployed, and taken back by hand
    cloud.client("cloudwatch").set_alarm_state(
        AlarmName="turnout-local-digits-errors", StateValue="OK", StateReason="test"
    )
    before = cloud.inventory()
    cloud.rollout().deploy(second, Canary.parse("10%", 1.0), lambda _: None)
    assert second in served()
    assert endpoint_data() == [second]
    # Then the alias has moved, and of the stacks just the model that holds the release and what names it
    after = cloud.inventory()
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {re.sub("[0-9A-F]{8}$", "", name.rpartition("/")[2]) for name in changed} == {
        "live",
        "GpuModel",
        "GpuConfig",
    }
    # And the CDK command line, deploying again, takes nothing of it back
    stacks = ("turnout-local-endpoint-digits", "turnout-local-api")
    cloud.cdk("deploy", "--exclusively", "--require-approval", "never", *stacks)
    again = cloud.inventory()
    anew = {name.rpartition("/")[2][:8] for name in after if after[name] != again.get(name)}
    assert anew <= {"GpuModel"}  # moto replaces a model whose release comes from SSM; AWS would leave it
    assert second in served()
    assert endpoint_data() == [second]
    assert cloud.rollout().rollback(lambda _: None) == first
    assert first in served()
    assert endpoint_data() == [first]


def test_a_destroyed_stage_leaves_nothing(cloud: Cloud):
    """Last: it ends the deployment of this module."""
    # Given a stage with releases, whose buckets AWS would not delete
    clients = cloud.client("cloudformation"), cloud.client("s3")
    counted = purge(NAMES, load().stage("local"), *clients, only_count=True)
    assert counted[NAMES.bucket(ACCOUNT)] >= 2
    assert purge(NAMES, load().stage("local"), *clients) == counted
    # When the CDK command line destroys it
    cloud.cdk("destroy", "--all", "--force")
    # Then only CDK's own bootstrap is left
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    assert [stack["StackName"] for stack in stacks] == ["CDKToolkit"]
    everything = {
        "lambda": ("list_functions", "Functions", "FunctionName"),
        "apigatewayv2": ("get_apis", "Items", "Name"),
        "dynamodb": ("list_tables", "TableNames", None),
        "s3": ("list_buckets", "Buckets", "Name"),
        "ssm": ("describe_parameters", "Parameters", "Name"),
        "iam": ("list_roles", "Roles", "RoleName"),
        "logs": ("describe_log_groups", "logGroups", "logGroupName"),
        "cloudwatch": ("describe_alarms", "MetricAlarms", "AlarmName"),
        "scheduler": ("list_schedules", "Schedules", "Name"),
        "stepfunctions": ("list_state_machines", "stateMachines", "name"),
        "sagemaker": ("list_models", "Models", "ModelName"),
        "codebuild": ("list_projects", "projects", None),
        "sns": ("list_topics", "Topics", "TopicArn"),
        "sqs": ("list_queues", "QueueUrls", None),
        "ecr": ("describe_repositories", "repositories", "repositoryName"),
    }
    left = [
        f"{service} {entry if key is None else entry[key]}"
        for service, (call, field, key) in everything.items()
        for entry in getattr(cloud.client(service), call)().get(field, [])
    ]
    assert [name for name in left if "turnout" in name] == []
    assert cloud.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert cloud.client("sagemaker").list_inference_components()["InferenceComponents"] == []
    with pytest.raises(InvalidConfig, match="production keeps its releases"):
        purge(Names("prod"), load().stage("prod"), None, None)
