"""The CDK app: `cdk deploy -c stage=dev` makes the stacks of one stage of turnout.toml (default: local)."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk

from handlers.errors import TurnoutError
from infra.bundling import ROOT
from infra.config import load
from infra.deployment import Deployment
from infra.rules import pack
from infra.stacks.api import ApiStack
from infra.stacks.control import ControlStack
from infra.stacks.endpoint import EndpointStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.storage import StorageStack
from infra.stacks.training import TrainingStack

CONTEXT = json.loads((ROOT / "cdk.json").read_text())["context"]


def make_stacks(app: cdk.App, deployment: Deployment) -> list[cdk.Stack]:
    """Every stack of `deployment`, in the order in which they deploy."""
    settings, names = deployment.settings, deployment.names
    env = cdk.Environment(account=settings.account, region=settings.region)
    storage = StorageStack(app, names.stack("storage"), deployment=deployment, env=env)
    training = TrainingStack(app, names.stack("training"), deployment=deployment, env=env)
    endpoints = [
        EndpointStack(
            app, names.stack(f"endpoint-{name}"), deployment=deployment, model=name, gpu=model.gpu, env=env
        )
        for name, model in deployment.models.items()
        if model.gpu
    ]
    api = ApiStack(app, names.stack("api"), deployment=deployment, env=env)
    control = ControlStack(app, names.stack("control"), deployment=deployment, env=env)
    observability = ObservabilityStack(app, names.stack("observability"), deployment=deployment, env=env)
    stacks = [storage, training, *endpoints, api, control, observability]
    for stack in stacks[1:]:
        stack.add_stack_dependency(storage)
    for reader in (control, observability):
        reader.add_stack_dependency(api, "reads the API's id")
    for endpoint in endpoints:
        endpoint.add_stack_dependency(training, "the image is built by its project")
    for stack in stacks:
        cdk.Tags.of(stack).add("turnout:stage", deployment.stage)
        cdk.Tags.of(stack).add("turnout:part", stack.stack_name.removeprefix(f"{names.prefix}-"))
    return stacks


@dataclass(frozen=True)
class Synthesized:
    """What a stage synthesizes to: by stack its template, and the stacks that must be deployed before it."""

    templates: dict[str, dict[str, Any]]
    needs: dict[str, list[str]]


def new_app(folder: str | None = None) -> cdk.App:
    """An app with the settings of cdk.json, which only the CDK command line reads by itself."""
    return cdk.App(outdir=folder, context=CONTEXT, analytics_reporting=False)


def synthesize(deployment: Deployment, app: cdk.App) -> Synthesized:
    """The stacks of `deployment` as templates. Raises RuntimeError when a plugin of `app` finds something."""
    stacks = make_stacks(app, deployment)
    templates = {stack.stack_name: stack.template for stack in app.synth().stacks}
    return Synthesized(
        {stack.stack_name: templates[stack.stack_name] for stack in stacks},
        {stack.stack_name: sorted(other.stack_name for other in stack.dependencies) for stack in stacks},
    )


def main() -> None:
    """What `cdk.json` runs."""
    app = cdk.App(analytics_reporting=False)
    stage = app.node.try_get_context("stage") or "local"
    deployment = Deployment.of(load(), stage)
    made = synthesize(deployment, app)
    findings = pack.check(made.templates, open_by_choice=deployment.settings.auth == "none")
    if findings:
        lines = "\n".join(f"  {finding.rule} {finding.where}: {finding.why}" for finding in findings)
        raise TurnoutError(f"the stacks break turnout's own rules\n{lines}")


if __name__ == "__main__":
    try:
        main()
    except TurnoutError as error:
        print(f"turnout: error: {error}", file=sys.stderr)
        sys.exit(2)
