"""`turnout train --on pipeline` starts the stage's own state machine, and says how to follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from handlers.errors import InvalidConfig
from infra.names import Names
from scripts.commands.train import app

NAME = Names("dev").training("digits")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield


def test_it_starts_the_state_machine_of_the_model():
    # Given a deployed training stack
    client = boto3.client("stepfunctions", "us-east-1")
    steps = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
    role = "arn:aws:iam::123456789012:role/training"
    client.create_state_machine(name=NAME, definition=json.dumps(steps), roleArn=role)
    # When the one command is given
    result = CliRunner().invoke(app, ["digits", "--on", "pipeline", "--stage", "dev"])
    # Then an execution runs, and its ARN is told
    told = json.loads(result.stdout)
    assert client.describe_execution(executionArn=told["execution"])["input"] == "{}"
    assert f":execution:{NAME}:" in told["execution"]
    assert f"--execution-arn {told['execution']}" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--on", "pipeline"], "a stage whose stack turnout-dev-training is deployed"),
        (["speech", "--on", "pipeline"], "one of digits, which stage dev deploys"),
        (["digits", "--on", "mars"], "sagemaker or pipeline"),
    ],
)
def test_what_it_cannot_start_is_refused_with_what_it_can(words: list[str], said: str):
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, InvalidConfig)
    assert said in str(error)
