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

Status = Literal["ok", "failed", "unknown"]
Run = Callable[[list[str]], str]
MIN_PYTHON = (3, 11)
MIN_NODE = 20
BOOTSTRAP = "/cdk-bootstrap/hnb659fds/version"
MIN_BOOTSTRAP = 21


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found and, unless it is in order, what to do."""

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


def checks(stage: Stage, models: dict[str, Model], outside: Outside) -> Iterator[Check]:
    """Every check in order; after the first call to AWS that gets no answer the rest is `unknown`."""
    yield _python(outside)
    yield _node(outside)
    yield _cli(outside)
    try:
        identity = outside.client("sts").get_caller_identity()
    except Exception as error:  # whatever keeps AWS from answering is the finding itself
        reason = f"{type(error).__name__}: {error}"
        fix = "aws configure sso, or set AWS_PROFILE; offline there is nothing to fix"
        yield Check("credentials", "unknown", reason, fix)
        for name in ("region", "bootstrap", *(f"GPU quota {kind}" for kind in _instances(models))):
            yield Check(name, "unknown", "AWS did not answer")
        return
    yield _account(stage, identity["Account"])
    yield _region(stage, outside)
    yield _bootstrap(stage, identity["Account"], outside)
    for kind, count in _instances(models).items():
        yield _quota(kind, count, outside)


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


def _quota(kind: str, count: int, outside: Outside) -> Check:
    wanted = f"{kind} for endpoint usage"
    name = f"GPU quota {kind}"
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


def _instances(models: dict[str, Model]) -> dict[str, int]:
    """How many instances of each type the stage may have at most at once."""
    counts: dict[str, int] = {}
    for model in models.values():
        if model.gpu:
            counts[model.gpu.instance_type] = counts.get(model.gpu.instance_type, 0) + model.gpu.max_instances
    return counts
