"""`turnout train MODEL`: the same training on a GPU in the cloud, by one job or the stage's state machine."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import boto3

app = typer.Typer()


@app.command()
def train(
    model: Annotated[
        str, typer.Argument(help="a model of turnout.toml, a recipe's name, or the path of its .py file")
    ],
    on: Annotated[
        str,
        typer.Option("--on", help="sagemaker: one job, released here; pipeline: all of it in the cloud"),
    ] = "sagemaker",
    stage: Annotated[str, typer.Option("--stage", help="whose training stack names role and bucket")] = "dev",
    role: Annotated[str, typer.Option("--role", help="ARN of the role that the job takes")] = "",
    bucket: Annotated[str, typer.Option("--bucket", help="where code, checkpoints and weights go")] = "",
    instance: Annotated[str, typer.Option("--instance", help="SageMaker instance type")] = "ml.g5.xlarge",
    instances: Annotated[int, typer.Option("--instances", min=1, max=16)] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="managed spot: cheaper, may be interrupted")] = False,
    image: Annotated[str, typer.Option("--image", help="a training image of your own")] = "",
    data: Annotated[str, typer.Option("--data", help="folder or s3:// URI of the training channel")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the job and stop")] = False,
) -> None:
    """Train MODEL on SageMaker, follow its logs, then compress and release it here; or start the pipeline."""
    if on == "pipeline":
        start_pipeline(model, stage)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import tempfile
    from datetime import UTC, datetime
    from pathlib import Path

    import boto3
    from botocore.exceptions import ClientError
    from rich.console import Console

    from handlers.errors import BuildError, InvalidConfig
    from model_build import build, cache, launch, steps
    from model_build.recipes import find
    from model_build.tool_environment import python_with
    from scripts.commands.build import recipe_of
    from scripts.progress import Bars
    from scripts.stage_session import stage_session

    if on != "sagemaker":
        raise InvalidConfig("--on", on, "sagemaker or pipeline; to train here, `turnout build`")
    name = recipe_of(model)
    recipe = find(name)
    if role and bucket:
        session = boto3.Session()
    else:
        session, _account = stage_session(stage)
        outputs = training_outputs(session, stage)
        role, bucket = role or outputs["TrainerRole"], bucket or outputs["Bucket"]
    spec = launch.JobSpec(
        name, role, bucket, session.region_name or "us-east-1", instance, instances, spot,
        image=image or None, data=data or None,
    )  # fmt: skip
    job: dict[str, Any] = launch.request(spec, datetime.now(UTC).date())
    if dry_run:
        typer.echo(json.dumps(job))
        return
    python = python_with("sagemaker", launch.SDK)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "code"
        code.mkdir()
        launch.stage_code(name, code)
        trained = launch.launch(job, code, python, os.environ)
    for metric, value in sorted(trained.metrics.items()):
        print(f"{trained.job}: {metric} {value:.4f}", file=sys.stderr)
    place, _, key = trained.uri.removeprefix("s3://").partition("/")
    try:
        archive: bytes = session.client("s3").get_object(Bucket=place, Key=key)["Body"].read()
    except ClientError as error:
        raise BuildError(f"job {trained.job}: {trained.uri} cannot be fetched ({error})") from error
    launch.take_in(archive, cache.root())
    ready = build.prepare(recipe)
    launch.check_taken(ready.planned, tuple(step.name for step in steps.TRAINING))
    with Bars(Console(stderr=True), [item.step.name for item in ready.planned]) as bars:
        built = build.build(ready, bars)
    typer.echo(json.dumps(build.summary(built) | {"job": trained.job}))


def start_pipeline(model: str, stage: str) -> None:
    """Start the stage's state machine: train, compress, gate, register, deploy, verify, or roll back.

    Raises InvalidConfig when the stage does not deploy the model, or its training stack is not there.
    """
    from botocore.exceptions import ClientError

    from handlers.errors import InvalidConfig
    from infra.config import load
    from infra.names import Names
    from scripts.stage_session import stage_session

    names, models = Names(stage), load().models_of(stage)
    if model not in models:
        raise InvalidConfig("model", model, f"one of {', '.join(models)}, which stage {stage} deploys")
    session, account = stage_session(stage)
    machine = f"arn:aws:states:{session.region_name}:{account}:stateMachine:{names.training(model)}"
    try:
        started = session.client("stepfunctions").start_execution(stateMachineArn=machine, input="{}")
    except ClientError as error:
        allowed = f"a stage whose stack {names.stack('training')} is deployed ({error})"
        raise InvalidConfig("--stage", stage, allowed) from error
    arn = started["executionArn"]
    print(f"follow it: aws stepfunctions describe-execution --execution-arn {arn}", file=sys.stderr)
    typer.echo(json.dumps({"model": model, "stage": stage, "execution": arn}))


def training_outputs(session: boto3.Session, stage: str) -> dict[str, str]:
    """The outputs of the stage's training stack. Raises InvalidConfig when it is not deployed."""
    from botocore.exceptions import ClientError

    from handlers.errors import InvalidConfig
    from infra.names import Names

    stack = Names(stage).stack("training")
    try:
        found = session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    except ClientError as error:
        raise InvalidConfig(
            "--stage",
            stage,
            f"a stage whose stack {stack} is deployed; or give --role and --bucket ({error})",
        ) from error
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
