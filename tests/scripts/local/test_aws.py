"""The laptop's AWS: types that moto was taught deploy and change, gaps are gaps, failures are told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from handlers.adapters.endpoint_metrics import MetricsReader
from scripts.local.aws import FOLLOWER
from scripts.local.deployed import Variant, read_apis, read_functions
from scripts.local.endpoint_metrics import NAMESPACE, Minute, data
from scripts.local.moto_gaps import GAPS

pytestmark = pytest.mark.slow


class Aws:
    """A server of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://localhost:{port}"

    def client(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="local",
            aws_secret_access_key="local",
        )  # fmt: skip

    def told(self) -> dict[str, list[str]]:
        with urllib.request.urlopen(f"{self.url}/turnout/deployment") as answer:
            found: dict[str, list[str]] = json.load(answer)
        return found

    def changes(self) -> int:
        with urllib.request.urlopen(f"{self.url}/turnout/changes") as answer:
            return int(json.load(answer)["changes"])

    def deploy(self, name: str, resources: dict[str, Any], *, update: bool = False) -> None:
        cloudformation = self.client("cloudformation")
        change = cloudformation.update_stack if update else cloudformation.create_stack
        change(StackName=name, TemplateBody=json.dumps({"Resources": resources}))


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", "scripts.local.aws", "--port", str(port)]) as process:
        made = Aws(port)
        limit = time.monotonic() + 60
        while True:
            try:
                made.told()
                break
            except OSError:
                assert time.monotonic() < limit
                time.sleep(0.1)
        yield made
        process.terminate()


def test_what_may_have_changed_something_is_counted_and_the_followers_own_reads_are_not(aws: Aws) -> None:
    before = aws.changes()
    reader = Config(user_agent_extra=FOLLOWER)
    follower = boto3.client(
        "sagemaker", endpoint_url=aws.url, region_name="us-east-1", aws_access_key_id="local",
        aws_secret_access_key="local", config=reader,
    )  # fmt: skip
    follower.list_endpoints()
    read_functions(aws.client("lambda"))
    assert aws.changes() == before
    aws.client("events").put_rule(Name="counted", ScheduleExpression="rate(1 minute)")
    assert aws.changes() == before + 1


ROLE = {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}, "RoleName": "r"}}


def function(name: str, **variables: str) -> dict[str, Any]:
    return {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "FunctionName": name, "Handler": "index.handler", "Runtime": "python3.13",
            "Code": {"ZipFile": "def handler(event, context): return 1"},
            "Role": {"Fn::GetAtt": ["Role", "Arn"]}, "Environment": {"Variables": variables},
        },
    }  # fmt: skip


def served(name: str, **changed: Any) -> dict[str, Any]:
    """A function behind an alias behind a route of an HTTP API."""
    integration = {"ApiId": {"Ref": "Api"}, "IntegrationType": "AWS_PROXY", "IntegrationUri": {"Ref": "Live"}}
    target = {"Fn::Join": ["", ["integrations/", {"Ref": "Integration"}]]}
    alias = {"FunctionName": name, "Name": "live", "FunctionVersion": {"Fn::GetAtt": ["Version", "Version"]}}
    return {
        "Role": ROLE,
        "Function": function(name),
        "Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}},
        "Live": {"Type": "AWS::Lambda::Alias", "Properties": alias},
        "Api": {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Name": name, "ProtocolType": "HTTP"}},
        "Integration": {"Type": "AWS::ApiGatewayV2::Integration", "Properties": integration},
        "Route": {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {"ApiId": {"Ref": "Api"}, "RouteKey": "GET /v2", "Target": target},
        },
        "Stage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {
                "ApiId": {"Ref": "Api"},
                "StageName": "$default",
                "StageVariables": {"route": "a"},
            },
        },
        **changed,
    }


def test_a_function_behind_an_api_is_read_back_as_it_was_deployed(aws: Aws) -> None:
    # Given a stack of types that moto alone would skip
    aws.deploy("served", served("served"))
    # When it is read back
    functions, aliases = read_functions(aws.client("lambda"))
    api = next(found for found in read_apis(aws.client("apigatewayv2")) if found.name == "served")
    # Then route, integration, alias and version lead to the function, whose code can be fetched
    assert api.routes[0].integration_uri.endswith(":function:served:live")
    version = functions["served", aliases["served", "live"].version]
    with urllib.request.urlopen(version.code_url) as answer:
        assert answer.read(2) == b"PK"
    # And a changed stage variable arrives
    stage = served("served")["Stage"]
    stage["Properties"]["StageVariables"] = {"route": "b"}
    aws.deploy("served", served("served", Stage=stage), update=True)
    api = next(found for found in read_apis(aws.client("apigatewayv2")) if found.name == "served")
    assert api.stage_variables == {"route": "b"}


IMAGE = {"Image": "i"}
CONFIG = {"Fn::GetAtt": ["Config", "EndpointConfigName"]}


def component(copies: int) -> dict[str, Any]:
    return {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"ModelName": "m", "ExecutionRoleArn": "arn", "PrimaryContainer": IMAGE},
        },
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {
                "EndpointConfigName": "c",
                "ProductionVariants": [
                    {"VariantName": "gpu", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
                ],
            },
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {"EndpointName": "e", "EndpointConfigName": CONFIG},
        },
        "Component": {
            "Type": "AWS::SageMaker::InferenceComponent",
            "DependsOn": ["Endpoint"],
            "Properties": {
                "InferenceComponentName": "ic", "EndpointName": "e", "VariantName": "gpu",
                "Specification": {"ModelName": {"Fn::GetAtt": ["Model", "ModelName"]}},
                "RuntimeConfig": {"CopyCount": copies},
            },
        },
    }  # fmt: skip


def test_a_component_is_what_runs_only_once_that_is_reported(aws: Aws) -> None:
    # Given an inference component that is asked for two copies
    aws.deploy("gpu", component(0))
    sagemaker = aws.client("sagemaker")
    asked = {"CopyCount": 2}
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="ic", DesiredRuntimeConfig=asked
    )
    before = sagemaker.describe_inference_component(InferenceComponentName="ic")
    # When the host reports them
    report = json.dumps({"region": "us-east-1", "component": "ic", "current": 2}).encode()
    urllib.request.urlopen(f"{aws.url}/turnout/capacity", data=report).close()
    after = sagemaker.describe_inference_component(InferenceComponentName="ic")
    # Then, and not before, they run
    assert before["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 0}
    assert before["InferenceComponentStatus"] == "Updating"
    assert after["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert after["InferenceComponentStatus"] == "InService"


def test_every_gap_is_one_and_is_reported(aws: Aws) -> None:
    aws.deploy("gaps", {f"R{n}": {"Type": kind, "Properties": {}} for n, kind in enumerate(sorted(GAPS))})
    assert set(aws.told()["skipped"]) == set(GAPS)


def test_a_resource_that_fails_is_told(aws: Aws) -> None:
    broken = {"Version": {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": "nowhere"}}}
    with pytest.raises(Exception, match=r"nowhere|500|Internal"):
        aws.deploy("broken", broken)
    assert any("Version (AWS::Lambda::Version)" in failure for failure in aws.told()["failed"])


def test_the_control_loop_reads_percentiles_of_what_the_endpoint_host_put(aws: Aws) -> None:
    # Given a minute of an inference component with a hundred calls of 1 to 100 ms, five of them in vain
    now = time.time()
    variant = Variant("e", "main", "digits", 1, "", {})
    seen = Minute(105, 5, [1_000.0 * ms for ms in range(1, 101)], [2.0, 4.0])
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data(variant, int(now // 60) - 1, seen))
    # When the loop reads it, then it has ms
    found = MetricsReader(cloudwatch, "e", "main", "digits").read(now)
    assert (found.invocations, found.concurrent, found.no_capacity) == (105.0, 3.0, 5.0)
    assert found.model_latency_ms == (51.0, 96.0, 100.0)
