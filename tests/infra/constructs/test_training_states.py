"""The training state machine, run by moto's interpreter through every branch.

moto has no `.sync` form, so each such state is run by the SDK call that it wraps; the rest is as deployed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda_simple.models import LambdaSimpleBackend, lambda_simple_backends
from moto.codebuild.responses import CodeBuildResponse
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.models import SageMakerModelBackend

from infra.config import Training
from infra.constructs.training_job import TrainingNames, training_job
from infra.constructs.training_states import definition

REGION, ACCOUNT = "us-east-1", "123456789012"
TYPES = ("ml.g5.xlarge", "ml.g4dn.xlarge")
NAMES = TrainingNames(
    stage="test",
    model="digits",
    recipe="digits",
    image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/turnout:1",
    role_arn=f"arn:aws:iam::{ACCOUNT}:role/trainer",
    bucket="releases",
    builder="builder",
    alias="digits-function",
    packages="digits",
    topic_arn=f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms",
)


def lower_first(value: Any) -> Any:
    """moto hands a state's parameters to boto3 as they are, and CodeBuild's begin in lower case there."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: lower_first(inner) for key, inner in value.items()}
    return [lower_first(item) for item in value] if isinstance(value, list) else value


def runnable(machine: dict[str, Any]) -> dict[str, Any]:
    """The machine with `.sync` states as the SDK calls that they wrap."""
    states = dict(machine["States"])
    for name, state in machine["States"].items():
        if state.get("Resource", "").endswith("createTrainingJob.sync"):
            describe = f"Describe {name}"
            states[describe] = {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:sagemaker:describeTrainingJob",
                "Parameters": {"TrainingJobName.$": state["Parameters"]["TrainingJobName.$"]},
                "ResultSelector": {"ModelArtifacts.$": "$.ModelArtifacts"},  # dates are not JSON to moto
                "ResultPath": "$.training",
                "Next": state["Next"],
            }
            call = "arn:aws:states:::aws-sdk:sagemaker:createTrainingJob"
            states[name] = {**state, "Resource": call, "ResultPath": None, "Next": describe}
        elif state.get("Resource", "").endswith("startBuild.sync"):
            states[name] = {
                **state,
                "Resource": "arn:aws:states:::aws-sdk:codebuild:startBuild",
                "Parameters": lower_first(state["Parameters"]),
                "ResultSelector": {"build.$": "$.build.id"},
            }
    for state in states.values():
        for retry in state.get("Retry", []):
            retry["IntervalSeconds"] = 1
    return {**machine, "States": states}


class World:
    """moto with everything that the machine calls on."""

    def __init__(self) -> None:
        self.states, self.s3 = boto3.client("stepfunctions", REGION), boto3.client("s3", REGION)
        self.role = boto3.client("iam", REGION).create_role(
            RoleName="r", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []})
        )["Role"]["Arn"]
        self.s3.create_bucket(Bucket="releases")
        boto3.client("sns", REGION).create_topic(Name="alarms")
        self.queue = boto3.client("sqs", REGION).create_queue(QueueName="seen")["QueueUrl"]
        boto3.client("sns", REGION).subscribe(
            TopicArn=NAMES.topic_arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:seen"
        )
        self.codebuild = boto3.client("codebuild", REGION)
        boto3.client("lambda", REGION).create_function(
            FunctionName="digits-function",
            Runtime="python3.13",
            Role=self.role,
            Handler="a.b",
            Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
        )
        self.answers(200)

    def packages(self) -> None:
        boto3.client("sagemaker", REGION).create_model_package_group(ModelPackageGroupName="digits")

    def builder(self) -> None:
        self.codebuild.create_project(
            name="builder",
            source={"type": "S3", "location": "releases/source.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "ARM_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_LARGE"},
            serviceRole=self.role,
        )

    def answers(self, status: int) -> None:
        lambda_simple_backends[ACCOUNT][REGION].lambda_simple_results_queue.append(
            json.dumps({"statusCode": status})
        )

    def verdict(self, *, passed: bool, execution: str = "run") -> None:
        verdict = {"passed": str(passed).lower(), "release": "0123456789abcdef"}
        key = f"training/digits/{execution}/verdict.json"
        self.s3.put_object(Bucket="releases", Key=key, Body=b"{}", Metadata=verdict)

    def run(self) -> tuple[str, list[str]]:
        """The execution's status and the states that it entered."""
        machine = runnable(definition(NAMES, Training(instance_types=TYPES)))
        arn = self.states.create_state_machine(name="m", definition=json.dumps(machine), roleArn=self.role)
        run = self.states.start_execution(stateMachineArn=arn["stateMachineArn"], name="run", input="{}")
        for _ in range(300):
            found = self.states.describe_execution(executionArn=run["executionArn"])
            if found["status"] != "RUNNING":
                break
            time.sleep(0.1)
        events = self.states.get_execution_history(executionArn=run["executionArn"], maxResults=1000)[
            "events"
        ]
        entered = [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]
        self.cause = found.get("cause", "")
        return found["status"], [name for name in entered if not name.startswith("Describe")]

    def notified(self) -> list[str]:
        answer = boto3.client("sqs", REGION).receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10)
        return [json.loads(message["Body"])["Subject"] for message in answer.get("Messages", [])]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    config = {"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
    with mock_aws(config=config):
        yield World()


def lacking(monkeypatch: pytest.MonkeyPatch, types: tuple[str, ...], code: str) -> None:
    """moto's SageMaker refuses training jobs on `types` with the error `code`."""
    create: Callable[..., Any] = SageMakerModelBackend.create_training_job

    def refuse(self: Any, **named: Any) -> Any:
        if named["resource_config"]["InstanceType"] in types:
            raise JsonRESTError(code, f"{code}: no ml capacity")
        return create(self, **named)

    monkeypatch.setattr(SageMakerModelBackend, "create_training_job", refuse)


def failing(monkeypatch: pytest.MonkeyPatch, *commands: str) -> None:
    """moto's CodeBuild refuses the builds that run one of the builder's `commands`."""
    start: Callable[..., Any] = CodeBuildResponse.start_build

    def refuse(self: Any) -> Any:
        override = self._get_param("environmentVariablesOverride")
        if {entry["value"] for entry in override if entry["name"] == "TURNOUT_COMMAND"} & set(commands):
            raise JsonRESTError("InvalidInputException", "the build failed")
        return start(self)

    monkeypatch.setattr(CodeBuildResponse, "start_build", refuse)


HAPPY = ["Compress", "ReadVerdict", "Gate", "Register", "Deploy", "Verify", "Ready"]
FAILURE = ["Notify", "Failed"]


@pytest.mark.slow
def test_train_to_released(world: World):
    world.builder()
    world.packages()
    world.verdict(passed=True)
    assert world.run() == ("SUCCEEDED", ["Prepare", f"Train on {TYPES[0]}", *HAPPY, "Released"]), world.cause
    assert world.notified() == []
    packages = boto3.client("sagemaker", REGION).list_model_packages(ModelPackageGroupName="digits")
    assert len(packages["ModelPackageSummaryList"]) == 1


@pytest.mark.slow
def test_the_next_instance_type_is_tried_when_capacity_lacks(world: World, monkeypatch: pytest.MonkeyPatch):
    world.builder()
    world.packages()
    world.verdict(passed=True)
    lacking(monkeypatch, TYPES[:1], "ResourceLimitExceeded")
    status, entered = world.run()
    assert entered == [
        "Prepare",
        f"Train on {TYPES[0]}",
        f"Lacking {TYPES[0]}?",
        f"Train on {TYPES[1]}",
        *HAPPY,
        "Released",
    ]
    assert status == "SUCCEEDED"


@pytest.mark.slow
def test_no_capacity_at_all_fails_and_is_told(world: World, monkeypatch: pytest.MonkeyPatch):
    world.builder()
    lacking(monkeypatch, TYPES, "ResourceLimitExceeded")
    status, entered = world.run()
    assert status == "FAILED"
    tried = [f"Train on {TYPES[0]}", f"Lacking {TYPES[0]}?", f"Train on {TYPES[1]}"]
    assert entered == ["Prepare", *tried, *FAILURE]
    assert world.notified() == ["turnout test: training digits failed"]


@pytest.mark.slow
def test_a_job_that_fails_for_another_reason_is_not_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.builder()
    lacking(monkeypatch, TYPES, "AlgorithmError")
    assert world.run() == ("FAILED", ["Prepare", f"Train on {TYPES[0]}", f"Lacking {TYPES[0]}?", *FAILURE])


@pytest.mark.slow
def test_a_failed_gate_stops_the_release_before_it_is_registered(world: World):
    world.builder()
    world.verdict(passed=False)
    status, entered = world.run()
    assert status == "FAILED"
    assert entered[-4:] == ["Gate", "GateFailed", *FAILURE]
    assert "Register" not in entered


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "entered"),
    [
        ("prepare", ["Prepare", *FAILURE]),
        ("compress", ["Prepare", f"Train on {TYPES[0]}", "Compress", *FAILURE]),
    ],
)
def test_a_build_that_fails_before_the_gate_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, command: str, entered: list[str]
):
    world.builder()
    failing(monkeypatch, command)
    assert world.run() == ("FAILED", entered)


@pytest.mark.slow
@pytest.mark.parametrize("commands", [("deploy",), ("deploy", "rollback")])
def test_a_deployment_that_fails_is_rolled_back_and_told_even_if_that_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, commands: tuple[str, ...]
):
    world.builder()
    world.packages()
    world.verdict(passed=True)
    failing(monkeypatch, *commands)
    status, entered = world.run()
    assert (status, entered[-4:]) == ("FAILED", ["Deploy", "RollBack", *FAILURE])
    assert "the build failed" in world.cause


@pytest.mark.slow
def test_a_missing_verdict_is_told(world: World):
    world.builder()
    assert world.run()[1][-3:] == ["ReadVerdict", *FAILURE]


@pytest.mark.slow
def test_a_model_that_is_not_ready_is_rolled_back(world: World):
    world.builder()
    world.packages()
    world.verdict(passed=True)
    results = lambda_simple_backends[ACCOUNT][REGION].lambda_simple_results_queue
    results.clear()
    world.answers(503)
    status, entered = world.run()
    assert status == "FAILED"
    assert entered[-5:] == ["Ready", "NotReady", "RollBack", *FAILURE]


@pytest.mark.slow
def test_a_verification_whose_own_call_fails_is_rolled_back_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    # Given a function that is gone when Verify asks it: the call fails, and there is no answer to judge
    world.builder()
    world.packages()
    world.verdict(passed=True)

    def gone(_self: Any, function: str, *_rest: Any) -> Any:
        raise UnknownFunctionException(function)

    monkeypatch.setattr(LambdaSimpleBackend, "invoke", gone)
    status, entered = world.run()
    # Then it goes where a model that is not ready goes, but not by way of Ready
    assert (status, entered[-5:]) == ("FAILED", ["Deploy", "Verify", "RollBack", *FAILURE])
    assert "Function not found" in world.cause
    assert world.notified() == ["turnout test: training digits failed"]


@pytest.mark.slow
def test_a_registration_that_fails_is_told(world: World):
    world.builder()
    world.verdict(passed=True)
    assert world.run()[1][-3:] == ["Register", *FAILURE]


def test_every_state_is_reached_by_some_state():
    machine = definition(NAMES, Training(instance_types=TYPES))
    text = json.dumps(machine)
    assert all(f'"{name}"' in text.replace(f'"{name}": {{', "", 1) for name in machine["States"])


def test_the_job_reads_its_recipes_data_from_a_channel():
    job = training_job(NAMES, Training(), "ml.g5.xlarge", 1)
    (channel,) = job["InputDataConfig"]
    assert channel["ChannelName"] == "training"
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://releases/data/digits/"
    prepare = definition(NAMES, Training())["States"]["Prepare"]["Parameters"]
    given = {"Name": "TURNOUT_DATA", "Value": "s3://releases/data/digits/", "Type": "PLAINTEXT"}
    assert given in prepare["EnvironmentVariablesOverride"]


def test_a_spot_job_checkpoints_and_waits_within_bounds():
    job = training_job(NAMES, Training(max_runtime_minutes=10, max_wait_minutes=20), "ml.g5.xlarge", 1)
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 1200}
    assert job["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert "KeepAlivePeriodInSeconds" not in job["ResourceConfig"]


def test_an_on_demand_job_may_keep_its_instance_warm():
    job = training_job(NAMES, Training(spot=False, warm_pool_minutes=5), "ml.g5.xlarge", 1)
    assert job["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 300
    assert "MaxWaitTimeInSeconds" not in job["StoppingCondition"]
