"""Releases move and come back with everything that goes with them; moto, with no stack of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers.errors import PointerMissing, ReleaseError
from infra.names import ALIAS, Names
from infra.rollout import Aws, Canary, Position, Rollout

pytestmark = pytest.mark.slow

REGION, ACCOUNT = "us-east-1", "123456789012"
NAMES = Names("test")
FUNCTION, ERRORS = NAMES.function("digits"), f"{NAMES.function('digits')}-errors"
SNAPSHOT = {"pk": {"S": "snapshot#digits"}, "sk": {"S": "current"}}
TENTH = Canary.parse("10%", 0.0)


class World:
    """What the stacks of a model leave before its first release, and the router's snapshots."""

    def __init__(self) -> None:
        names = ("s3", "ssm", "lambda", "cloudformation", "cloudwatch", "dynamodb")
        aws = Aws(*(boto3.client(name, REGION) for name in names), sleep=lambda _: None)
        self.aws, self.said, self.during = aws, list[str](), dict[str, str]()
        self.rollout = Rollout(aws, NAMES, "digits", ACCOUNT, front=False, gpu=True)
        aws.s3.create_bucket(Bucket=NAMES.bucket(ACCOUNT))
        for name in (NAMES.pointer("digits"), NAMES.gpu_release("digits")):
            aws.ssm.put_parameter(Name=name, Value="none", Type="String")
        role = boto3.client("iam", REGION).create_role(RoleName="r", AssumeRolePolicyDocument="{}")
        aws.functions.create_function(
            FunctionName=FUNCTION,
            Runtime="python3.13",
            Role=role["Role"]["Arn"],
            Handler="a.b",
            Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
            Environment={"Variables": {"TURNOUT_POINTER": NAMES.pointer("digits")}},
            Publish=True,
        )
        aws.functions.create_alias(FunctionName=FUNCTION, Name=ALIAS, FunctionVersion="1")
        aws.alarms.put_metric_alarm(
            AlarmName=ERRORS,
            MetricName="Errors",
            Namespace="AWS/Lambda",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
            Statistic="Sum",
        )
        aws.table.create_table(
            TableName=NAMES.table,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )

    def push(self, number: int) -> str:
        body = json.dumps({"n": number}).encode()
        release = hashlib.sha256(body).hexdigest()[:16]
        key = f"releases/digits/{release}/manifest.json"
        self.aws.s3.put_object(Bucket=NAMES.bucket(ACCOUNT), Key=key, Body=body)
        return release

    def deploy(self, release: str, canary: Canary = TENTH) -> Position:
        return self.rollout.deploy(release, canary, self.hear)

    def hear(self, line: str) -> None:
        """While a canary runs: the releases of the calls that try it and of those that do not."""
        self.said.append(line)
        if line.startswith("canary:"):
            alias = self.aws.functions.get_alias(FunctionName=FUNCTION, Name=ALIAS)
            (tried,) = alias["RoutingConfig"]["AdditionalVersionWeights"]
            self.during = {"kept": self.release_of(alias["FunctionVersion"]), "tried": self.release_of(tried)}

    def refused(self, release: str) -> None:
        """A canary of `release` during which an alarm goes off."""
        for state in ("ALARM", "OK"):
            self.aws.alarms.set_alarm_state(AlarmName=ERRORS, StateValue=state, StateReason="test")
            if state == "ALARM":
                with pytest.raises(ReleaseError, match=f"{ERRORS} in ALARM"):
                    self.deploy(release)

    def rollback(self, leaving: str | None = None) -> str | None:
        return self.rollout.rollback(self.said.append, leaving)

    def release_of(self, version: str) -> str:
        """The release that a version of the function serves."""
        found = self.aws.functions.get_function_configuration(FunctionName=FUNCTION, Qualifier=version)
        pointer = found["Environment"]["Variables"]["TURNOUT_POINTER"]
        release: str = json.loads(self.aws.ssm.get_parameter(Name=pointer)["Parameter"]["Value"])["release"]
        return release

    def served(self) -> str:
        """The release that the alias's version is pinned to, which the pointer and the GPU's name too."""
        position = self.rollout.position()
        release = self.release_of(position.versions[FUNCTION])
        assert json.loads(position.pointer)["release"] == position.gpu_release == release
        return release

    def publish_unpinned(self) -> None:
        """What `cdk deploy` does when the package has changed."""
        variables = {"TURNOUT_POINTER": NAMES.pointer("digits")}
        self.aws.functions.update_function_configuration(
            FunctionName=FUNCTION, Environment={"Variables": variables}
        )
        version = self.aws.functions.publish_version(FunctionName=FUNCTION)["Version"]
        self.aws.functions.update_alias(FunctionName=FUNCTION, Name=ALIAS, FunctionVersion=version)

    def learn(self) -> None:
        """The control loop publishes a snapshot, and another model's beside it."""
        self.aws.table.put_item(TableName=NAMES.table, Item={**SNAPSHOT, "body": {"S": "{}"}})
        other = {**SNAPSHOT, "pk": {"S": "snapshot#sst2"}}
        self.aws.table.put_item(TableName=NAMES.table, Item=other)

    def snapshots(self) -> list[str]:
        items: list[dict[str, Any]] = self.aws.table.scan(TableName=NAMES.table)["Items"]
        return sorted(item["pk"]["S"] for item in items)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws(config={"lambda": {"use_docker": False}}):
        yield World()


def test_the_snapshot_goes_with_the_release_forwards_refused_and_back(world: World):
    # Given a model that serves a release, whose control loop has published a snapshot
    first, second = world.push(1), world.push(2)
    both, other = ["snapshot#digits", "snapshot#sst2"], ["snapshot#sst2"]
    world.deploy(first)
    moves = [
        (lambda: world.refused(second), first),
        (lambda: world.deploy(second), second),
        (lambda: world.rollback(), first),
    ]
    for move, served in moves:
        world.learn()
        assert world.snapshots() == both
        # When the release moves, by whatever way, then what was learnt of the other is gone; no one else's is
        move()
        assert (world.snapshots(), world.served()) == (other, served)


def test_a_first_release_that_is_refused_leaves_none(world: World):
    before, release = world.rollout.position(), world.push(1)
    assert (before.pointer, before.gpu_release, before.versions) == ("none", "none", {FUNCTION: "1"})
    world.refused(release)
    assert world.rollout.position() == before
    alias = world.aws.functions.get_alias(FunctionName=FUNCTION, Name=ALIAS)
    assert not alias.get("RoutingConfig", {}).get("AdditionalVersionWeights")
    assert "taking it back" in world.said
    # And there is nothing to go back to, least of all what was refused; it may be tried again
    with pytest.raises(PointerMissing, match="no earlier release"):
        world.rollback()
    world.deploy(release)
    assert world.served() == release


def test_a_first_release_has_no_canary_but_is_watched_as_long(world: World):
    # Given nothing that serves, when a tenth of the calls is asked for, then all try it and it is told
    release = world.push(1)
    world.deploy(release)
    assert any(line.startswith("a first release: nothing else is served") for line in world.said)
    assert not any(line.startswith("canary:") for line in world.said)
    assert world.served() == release


def test_a_canary_leaves_the_other_calls_with_the_present_release(world: World):
    # Given a release, and a version that cdk deploy made since, which follows the pointer wherever it goes
    first, second = world.push(1), world.push(2)
    world.deploy(first)
    world.publish_unpinned()
    # When a canary of the next begins, then the calls that do not try it stay where they are
    world.deploy(second)
    assert world.during == {"kept": first, "tried": second}
    assert any(line.endswith(f"keeps {first} during the canary") for line in world.said)
    assert world.served() == second


def test_a_rollback_never_goes_to_what_was_taken_back(world: World):
    first, second, third = (world.push(number) for number in (1, 2, 3))
    world.deploy(first)
    world.deploy(second)
    world.refused(third)
    assert world.rollback() == first
    with pytest.raises(PointerMissing):
        world.rollback()
    assert world.served() == first


def test_a_rollback_that_names_what_to_leave_leaves_nothing_else(world: World):
    # Given a deployment that took itself back, as the training machine's Deploy does
    first, second, third = (world.push(number) for number in (1, 2, 3))
    world.deploy(first)
    world.deploy(second)
    world.refused(third)
    # Then going back from it stays where the deployment put things
    assert world.rollback(leaving=third) is None
    assert world.served() == second
    assert world.rollback(leaving=second) == first
