"""Moves a model to a release, everywhere at once or behind a canary, and back again on shared alarms.

What moves together: the pointer, a published version of each function that pins the pointer's own version,
the alias, the release of the GPU endpoint's stack, and the router's snapshot. A version that was published
keeps its release: SSM answers `name:7` with the seventh value for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from handlers.errors import InvalidInput, PointerMissing, ReleaseError, ReleaseTampered
from handlers.serving.manifest import release_id
from infra.names import ALIAS, Names

NO_RELEASE = "none"
Client = Any
Say = Callable[[str], None]


@dataclass(frozen=True)
class Aws:
    """The clients that a rollout needs, and how to wait: `sleep` takes seconds."""

    s3: Client
    ssm: Client
    functions: Client
    stacks: Client
    alarms: Client
    table: Client
    sleep: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Canary:
    """`share` of the calls (0 to 1, 1 is all at once) for `minutes`, then all, unless an alarm goes off."""

    share: float = 1.0
    minutes: float = 0.0

    @classmethod
    def parse(cls, text: str, minutes: float) -> Canary:
        """From `10%`; InvalidInput for anything else than 1 to 100 percent."""
        share = text.removesuffix("%")
        if not (text.endswith("%") and share.isdigit() and 1 <= int(share) <= 100):
            raise InvalidInput("canary", text, "1% to 100%")
        return cls(int(share) / 100, minutes)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a model is: what has to be put back when a rollout is taken back."""

    pointer: str
    gpu_release: str | None
    versions: Mapping[str, str]


class Rollout:
    """Deploys and rolls back the releases of one model of one stage."""

    def __init__(self, aws: Aws, names: Names, model: str, account: str, *, front: bool, gpu: bool) -> None:
        self._aws, self._names, self._model = aws, names, model
        self._bucket = names.bucket(account)
        self._functions = [names.function(model), *([names.front(model)] if front else [])]
        self._gpu = gpu

    def position(self) -> Position:
        """Where the model is now."""
        return Position(
            pointer=self._parameter(self._names.pointer(self._model)),
            gpu_release=self._parameter(self._names.gpu_release(self._model)) if self._gpu else None,
            versions={name: self._alias(name)["FunctionVersion"] for name in self._functions},
        )

    def deploy(self, release: str, canary: Canary, say: Say) -> Position:
        """Move to `release`; raises ReleaseError, with everything put back, if an alarm goes off."""
        manifest_sha256 = self._check(release)
        before = self.position()
        if canary.share < 1.0 and before.pointer != NO_RELEASE:
            before = self._pin(before, say)
        try:
            value = json.dumps({"release": release, "manifest_sha256": manifest_sha256})
            version = self._put(self._names.pointer(self._model), value)
            say(f"pointer {self._model} -> {release}")
            published = {name: self._publish(name, version, release) for name in self._functions}
            self._shift(before, published, canary, say)
            self._move_gpu(release, say)
            self._forget_snapshot()
        except Exception:
            say("taking it back")
            self.restore(before, say)
            raise
        return before

    def rollback(self, say: Say, leaving: str | None = None) -> str | None:
        """Move to the release before the present one; PointerMissing if there was none.

        With `leaving` it moves only from that release: None if it is not served, as after a refused canary.
        """
        *earlier, present = self._path()
        if leaving is not None and (present == NO_RELEASE or json.loads(present)["release"] != leaving):
            say(f"{self._model} does not serve {leaving}: it stays where it is")
            return None
        if not earlier or earlier[-1] == NO_RELEASE:
            raise PointerMissing(f"{self._model} has no earlier release to go back to")
        release: str = json.loads(earlier[-1])["release"]
        self.deploy(release, Canary(), say)
        return release

    def restore(self, before: Position, say: Say) -> None:
        """Put everything back to `before`."""
        for name, version in before.versions.items():
            self._aws.functions.update_alias(
                FunctionName=name, Name=ALIAS, FunctionVersion=version, RoutingConfig={}
            )
        if self._parameter(self._names.pointer(self._model)) != before.pointer:
            self._put(self._names.pointer(self._model), before.pointer)
        if before.gpu_release is not None:
            self._move_gpu(before.gpu_release, say)
        self._forget_snapshot()

    def _path(self) -> list[str]:
        """The pointer's values up to the present one, without what was gone back from."""
        path: list[str] = []
        pages = self._aws.ssm.get_paginator("get_parameter_history")
        for page in pages.paginate(Name=self._names.pointer(self._model)):
            for value in (entry["Value"] for entry in page["Parameters"]):
                if value in path:
                    del path[path.index(value) :]
                path.append(value)
        return path

    def _check(self, release: str) -> str:
        """The sha256 of the release's manifest in the bucket; it must give the release its name."""
        key = f"releases/{self._model}/{release}/manifest.json"
        try:
            body = self._aws.s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._aws.s3.exceptions.NoSuchKey as error:
            raise PointerMissing(
                f"{release} is not in {self._bucket}: turnout release push {self._model}@{release}"
            ) from error
        if release_id(body) != release:
            raise ReleaseTampered(f"s3://{self._bucket}/{key} is not the manifest of {release}")
        return hashlib.sha256(body).hexdigest()

    def _publish(self, function: str, pointer_version: int, release: str) -> str:
        """A version of `function` that serves `release` and nothing else."""
        client = self._aws.functions
        present = client.get_function_configuration(FunctionName=function)
        variables = dict(present["Environment"]["Variables"])
        variables["TURNOUT_POINTER"] = f"{self._names.pointer(self._model)}:{pointer_version}"
        client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})
        client.get_waiter("function_updated_v2").wait(FunctionName=function)
        version: str = client.publish_version(FunctionName=function, Description=f"release {release}")[
            "Version"
        ]
        client.get_waiter("published_version_active").wait(FunctionName=function, Qualifier=version)
        return version

    def _pin(self, before: Position, say: Say) -> Position:
        """Pin what follows the pointer, such as a version that `cdk deploy` made, to the present release.

        Otherwise the calls that a canary leaves with it would go to the new release as well.
        """
        pointer = self._names.pointer(self._model)
        number = self._aws.ssm.get_parameter(Name=pointer)["Parameter"]["Version"]
        release = json.loads(before.pointer)["release"]
        versions = dict(before.versions)
        for name, version in before.versions.items():
            found = self._aws.functions.get_function_configuration(FunctionName=name, Qualifier=version)
            if found["Environment"]["Variables"]["TURNOUT_POINTER"] == pointer:
                versions[name] = self._publish(name, number, release)
                self._aws.functions.update_alias(
                    FunctionName=name, Name=ALIAS, FunctionVersion=versions[name], RoutingConfig={}
                )
                say(f"{name}: version {versions[name]} keeps {release} during the canary")
        return replace(before, versions=versions)

    def _shift(self, before: Position, published: Mapping[str, str], canary: Canary, say: Say) -> None:
        first = before.pointer == NO_RELEASE
        if canary.share < 1.0 and not first:
            for name, version in published.items():
                self._aws.functions.update_alias(
                    FunctionName=name,
                    Name=ALIAS,
                    FunctionVersion=before.versions[name],
                    RoutingConfig={"AdditionalVersionWeights": {version: canary.share}},
                )
            say(f"canary: {canary.share:.0%} of the calls for {canary.minutes:g} minutes")
            self._watch(canary.minutes)
        for name, version in published.items():
            self._aws.functions.update_alias(
                FunctionName=name, Name=ALIAS, FunctionVersion=version, RoutingConfig={}
            )
            say(f"{name}:{ALIAS} -> version {version}")
        if canary.share < 1.0 and first:
            say(f"a first release: nothing else is served, all calls try it for {canary.minutes:g} minutes")
            self._watch(canary.minutes)

    def _watch(self, minutes: float) -> None:
        """Wait `minutes`; ReleaseError as soon as one of the model's alarms is in ALARM."""
        names = [f"{name}-errors" for name in self._functions]
        endpoint = self._names.endpoint(self._model)
        names += [f"{endpoint}-gpu-errors", f"{endpoint}-gpu-latency"] if self._gpu else []
        names.append(f"{self._names.prefix}-{self._model}-burn-fast")
        left = minutes * 60.0
        while True:
            found = self._aws.alarms.describe_alarms(
                AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
            kinds = ("MetricAlarms", "CompositeAlarms")
            alarms = [alarm for kind in kinds for alarm in found.get(kind, [])]
            ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
            if ringing:
                raise ReleaseError(f"the canary is taken back: {', '.join(ringing)} in ALARM")
            if left <= 0:
                return
            self._aws.sleep(min(15.0, left))
            left -= 15.0

    def _move_gpu(self, release: str, say: Say) -> None:
        """Name the release for the endpoint's stack and update it, if it is there; CloudFormation rolls."""
        if not self._gpu:
            return
        parameter = self._names.gpu_release(self._model)
        if self._parameter(parameter) == release:
            return
        self._put(parameter, release)
        stack = self._names.stack(f"endpoint-{self._model}")
        parameters = self._stack_parameters(stack)
        if parameters is None:
            say(f"{stack} is not deployed: the GPU release waits for it")
            return
        self._aws.stacks.update_stack(
            StackName=stack,
            UsePreviousTemplate=True,
            Parameters=[{"ParameterKey": key, "UsePreviousValue": True} for key in parameters],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        )
        say(f"{stack}: updating to {release} (minutes, if it has instances)")
        self._aws.stacks.get_waiter("stack_update_complete").wait(StackName=stack)

    def _stack_parameters(self, stack: str) -> list[str] | None:
        try:
            described = self._aws.stacks.describe_stacks(StackName=stack)["Stacks"][0]
        except self._aws.stacks.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return [entry["ParameterKey"] for entry in described.get("Parameters", [])]

    def _forget_snapshot(self) -> None:
        """The snapshot speaks of the other release; until the next, the release's own profile counts."""
        key = {"pk": {"S": f"snapshot#{self._model}"}, "sk": {"S": "current"}}
        self._aws.table.delete_item(TableName=self._names.table, Key=key)

    def _alias(self, function: str) -> dict[str, Any]:
        found: dict[str, Any] = self._aws.functions.get_alias(FunctionName=function, Name=ALIAS)
        return found

    def _parameter(self, name: str) -> str:
        value: str = self._aws.ssm.get_parameter(Name=name)["Parameter"]["Value"]
        return value

    def _put(self, name: str, value: str) -> int:
        answer = self._aws.ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)
        version: int = answer["Version"]
        return version
