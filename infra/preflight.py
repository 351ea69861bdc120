"""What must be true before a real deployment, each check with its fix. The outside is handed in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infra.config import Model, Stage
from infra.image_tag import image_tag
from infra.names import Names

Status = Literal["ok", "failed", "to do", "unknown"]
Run = Callable[[list[str]], str]
MIN_PYTHON = (3, 11)
MIN_NODE = 20
BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"
MIN_BOOTSTRAP = 21
STAGE_TAG = "turnout:stage"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found and, unless it is in order, what to do.

    `to do` is a later step of docs/deploy.md that nobody has taken yet.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Outside:
    """`run` gives a command's output or raises OSError; `client` makes a boto3 client for a service."""

    run: Run
    client: Callable[[str], Any]
    root: Path
    python: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)


def checks(names: Names, stage: Stage, models: dict[str, Model], outside: Outside) -> Iterator[Check]:
    """Every check in order of the steps; after the first call to AWS that gets no answer all is `unknown`."""
    yield _python(outside)
    yield _node(outside)
    yield _cli(outside)
    try:
        identity = outside.client("sts").get_caller_identity()
    except Exception as error:  # whatever keeps AWS from answering is the finding itself
        reason = f"{type(error).__name__}: {error}"
        fix = "aws configure sso, or set AWS_PROFILE; offline there is nothing to fix"
        yield Check("credentials", "unknown", reason, fix)
        for name in ("region", "bootstrap", *(f"quota {quota}" for quota in _quotas(models))):
            yield Check(name, "unknown", "AWS did not answer")
        return
    yield _account(stage, identity["Account"])
    yield _region(stage, outside)
    yield _bootstrap(stage, identity["Account"], outside)
    for quota, count in _quotas(models).items():
        yield _quota(quota, count, outside)
    yield _tag(outside)
    if any(model.gpu and model.gpu.image_uri is None for model in models.values()):
        yield _image(names, outside)
    yield _api(names, outside)
    for model in models:
        yield _release(names, model, outside)


def _python(outside: Outside) -> Check:
    found = "{}.{}".format(*outside.python)
    if outside.python >= MIN_PYTHON:
        return Check("Python", "ok", found)
    return Check("Python", "failed", found, "install Python 3.11 or newer and make a new virtual environment")


def _node(outside: Outside) -> Check:
    fix = f"install Node {MIN_NODE} or newer"
    try:
        found = outside.run(["node", "--version"]).strip()
    except OSError:
        return Check("Node", "failed", "not found", fix)
    major = re.match(r"v(\d+)\.", found)
    return Check("Node", "ok" if major and int(major[1]) >= MIN_NODE else "failed", found, fix)


def _cli(outside: Outside) -> Check:
    wanted = json.loads((outside.root / "package.json").read_text())["devDependencies"]["aws-cdk"]
    installed = outside.root / "node_modules" / "aws-cdk" / "package.json"
    if not installed.exists():
        return Check("CDK CLI", "failed", "not installed", "npm ci")
    found = json.loads(installed.read_text())["version"]
    return Check(
        "CDK CLI", "ok" if found == wanted else "failed", found, f"npm ci (package.json pins {wanted})"
    )


def _account(stage: Stage, account: str) -> Check:
    if stage.account in (None, account):
        return Check("credentials", "ok", f"account {account}")
    fix = f"use credentials of account {stage.account}, which turnout.toml names"
    return Check("credentials", "failed", f"account {account}", fix)


def _region(stage: Stage, outside: Outside) -> Check:
    found = outside.client("sts").meta.region_name
    if found == stage.region:
        return Check("region", "ok", found)
    return Check("region", "failed", str(found), f"export AWS_REGION={stage.region}")


def _bootstrap(stage: Stage, account: str, outside: Outside) -> Check:
    ssm = outside.client("ssm")
    fix = f"npx cdk bootstrap aws://{account}/{stage.region}"
    try:
        version = ssm.get_parameter(Name=BOOTSTRAP)["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return Check("bootstrap", "failed", "not bootstrapped", fix)
    return Check("bootstrap", "ok" if int(version) >= MIN_BOOTSTRAP else "failed", f"version {version}", fix)


def _quota(wanted: str, count: int, outside: Outside) -> Check:
    name = f"quota {wanted}"
    fix = f'request {count} of "{wanted}" in Service Quotas, SageMaker (hours to days)'
    client = outside.client("service-quotas")
    try:
        pages = client.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
        quotas = {quota["QuotaName"]: quota["Value"] for page in pages for quota in page["Quotas"]}
    except client.exceptions.ClientError as error:
        return Check(name, "unknown", str(error), "allow servicequotas:ListServiceQuotas")
    if wanted not in quotas:
        return Check(name, "unknown", "Service Quotas does not list it", fix)
    return Check(name, "ok" if quotas[wanted] >= count else "failed", f"{quotas[wanted]:g} of {count}", fix)


def _quotas(models: dict[str, Model]) -> dict[str, int]:
    """By SageMaker quota, how many instances the stage may have at most at once: endpoints, then training."""
    counts: dict[str, int] = {}
    for model in models.values():
        if model.gpu:
            quota = f"{model.gpu.instance_type} for endpoint usage"
            counts[quota] = counts.get(quota, 0) + model.gpu.max_instances
    for model in models.values():
        kind = "spot training job usage" if model.training.spot else "training job usage"
        counts.setdefault(f"{model.training.instance_types[0]} for {kind}", 1)
    return counts


def _tag(outside: Outside) -> Check:
    """Without it the budget, which filters by it, sees nothing."""
    client = outside.client("ce")
    fix = f"activate {STAGE_TAG} in Billing, Cost allocation tags (listed a day after the first deployment)"
    try:
        found = client.list_cost_allocation_tags(TagKeys=[STAGE_TAG])["CostAllocationTags"]
    except client.exceptions.ClientError as error:
        return Check("cost allocation tag", "unknown", str(error), "allow ce:ListCostAllocationTags")
    status = found[0]["Status"] if found else "not listed"
    return Check("cost allocation tag", "ok" if status == "Active" else "to do", status, fix)


def _api(names: Names, outside: Outside) -> Check:
    ssm = outside.client("ssm")
    try:
        url = ssm.get_parameter(Name=names.api_url)["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return Check("API", "to do", "not deployed", f"npx cdk deploy --all -c stage={names.stage}")
    return Check("API", "ok", str(url))


def _image(names: Names, outside: Outside) -> Check:
    ecr, tag = outside.client("ecr"), f"serving-{image_tag()}"
    try:
        ecr.describe_images(repositoryName=names.images, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.RepositoryNotFoundException:
        stack = names.stack("training")
        return Check("images", "to do", "no repository", f"npx cdk deploy -c stage={names.stage} {stack}")
    except ecr.exceptions.ImageNotFoundException:
        fix = f"aws codebuild start-build --project-name {names.image_builder}"
        return Check("images", "to do", f"no {tag}", fix)
    return Check("images", "ok", tag)


def _release(names: Names, model: str, outside: Outside) -> Check:
    ssm, name = outside.client("ssm"), f"release of {model}"
    try:
        value = ssm.get_parameter(Name=names.pointer(model))["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        stack = names.stack("storage")
        return Check(name, "to do", "no pointer", f"npx cdk deploy -c stage={names.stage} {stack}")
    if value == "none":
        fix = f"turnout release push {model} --stage {names.stage}, then turnout release deploy"
        return Check(name, "to do", "none is deployed", fix)
    return Check(name, "ok", str(json.loads(value)["release"]))
