"""`turnout release push | deploy | rollback | purge`: a built release into a stage, and back."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.stage_session import stage_session

if TYPE_CHECKING:
    from infra.rollout import Rollout

GROUP = "release"
app = typer.Typer()

Which = Annotated[str, typer.Argument(help="MODEL for its current release, or MODEL@HASH")]
StageName = Annotated[str, typer.Option("--stage", help="a stage of turnout.toml")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]


@app.command()
def push(which: Which, stage: StageName = "local", as_json: AsJson = False) -> None:
    """Verify a release of the local store and upload it to the stage's bucket; nothing is served yet."""
    from handlers.serving import manifest
    from infra.config import load
    from infra.names import Names
    from model_build.build import releases
    from scripts.local.release_upload import LocalRelease, current, upload

    model, _, wanted = which.partition("@")
    load().models_of(stage)
    release = current(releases(), model)
    if wanted:
        release = LocalRelease(model, wanted, releases() / model / wanted)
    manifest.verify(release.folder, manifest.load(release.folder))
    session, account = stage_session(stage)
    bucket = Names(stage).bucket(account)
    upload(session, bucket, release)
    uri = f"s3://{bucket}/releases/{model}/{release.release}/"
    _tell(
        as_json,
        {"model": model, "release": release.release, "uri": uri},
        f"{model}@{release.release} -> {uri}",
    )


@app.command()
def deploy(
    which: Which,
    stage: StageName = "local",
    canary: Annotated[str, typer.Option(help="share of the calls that try it first, such as 10%")] = "100%",
    minutes: Annotated[float, typer.Option(help="how long they try it", min=0.0)] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Move pointer, functions, GPU endpoint and snapshot to a pushed release; an alarm takes all back."""
    from infra.rollout import Canary
    from model_build.build import releases
    from scripts.local.release_upload import current

    model, _, wanted = which.partition("@")
    plan = Canary.parse(canary, minutes)
    rollout = _rollout(stage, model)
    release = wanted or current(releases(), model).release
    before = rollout.deploy(release, plan, _say)
    _tell(
        as_json, {"model": model, "release": release, "before": before.pointer}, f"{model} serves {release}"
    )


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="the model")],
    stage: StageName = "local",
    leaving: Annotated[
        str | None, typer.Option(help="go back only from this release, such as one that took itself back")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the release that was served before the present one, past all that were taken back."""
    release = _rollout(stage, model).rollback(_say, leaving)
    told = f"{model} serves {release} again" if release else f"{model} did not serve {leaving}: nothing to do"
    _tell(as_json, {"model": model, "release": release}, told)


@app.command()
def purge(
    stage: Annotated[str, typer.Option("--stage", help="a stage of turnout.toml, not a production one")],
    yes: Annotated[
        bool, typer.Option("--yes", help="do it; without it only say what would be deleted")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete every object of the stage's buckets, releases and all, before `cdk destroy`."""
    from infra.config import load
    from infra.names import Names
    from infra.purge import purge

    settings = load().stage(stage)
    session, _account = stage_session(stage)
    counts = purge(
        Names(stage), settings, session.client("cloudformation"), session.client("s3"), only_count=not yes
    )
    told = ", ".join(f"{count} object versions in {bucket}" for bucket, count in counts.items())
    _tell(as_json, {"deleted": yes, **counts}, f"{'deleted' if yes else 'would delete (say --yes)'}: {told}")


def _rollout(stage: str, model: str) -> Rollout:
    from handlers.errors import InvalidConfig
    from infra.config import load
    from infra.names import Names
    from infra.rollout import Aws, Rollout

    models = load().models_of(stage)
    if model not in models:
        raise InvalidConfig("model", model, f"one of {', '.join(models)}, which stage {stage} deploys")
    session, account = stage_session(stage)
    aws = Aws(
        s3=session.client("s3"),
        ssm=session.client("ssm"),
        functions=session.client("lambda"),
        stacks=session.client("cloudformation"),
        alarms=session.client("cloudwatch"),
        table=session.client("dynamodb"),
        sleep=time.sleep,
    )
    front, gpu = models[model].topology != "colocated", models[model].gpu is not None
    return Rollout(aws, Names(stage), model, account, front=front, gpu=gpu)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tell(as_json: bool, document: dict[str, object], line: str) -> None:
    typer.echo(json.dumps(document) if as_json else line)
