"""`turnout train MODEL --on sagemaker`: the same training on a GPU in the cloud, the release made here."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer

app = typer.Typer()


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="a model of turnout.toml, or a recipe's name")],
    on: Annotated[str, typer.Option("--on", help="where: sagemaker")] = "sagemaker",
    role: Annotated[str, typer.Option("--role", help="ARN of the role that the job takes")] = "",
    bucket: Annotated[str, typer.Option("--bucket", help="where checkpoints and weights go")] = "",
    instance: Annotated[str, typer.Option("--instance", help="SageMaker instance type")] = "ml.g5.xlarge",
    instances: Annotated[int, typer.Option("--instances", min=1, max=16)] = 1,
    spot: Annotated[bool, typer.Option("--spot", help="managed spot: cheaper, may be interrupted")] = False,
    image: Annotated[str, typer.Option("--image", help="a training image of your own")] = "",
    data: Annotated[str, typer.Option("--data", help="folder or s3:// URI of the training channel")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the job and stop")] = False,
) -> None:
    """Train MODEL on SageMaker, follow its logs, then compress and release it here."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import tempfile
    from datetime import UTC, datetime
    from pathlib import Path

    import boto3
    from rich.console import Console

    from handlers.errors import InvalidConfig
    from model_build import build, cache, launch, steps
    from model_build.recipes import find
    from scripts.commands.build import recipe_of
    from scripts.progress import Bars

    if on != "sagemaker":
        raise InvalidConfig("--on", on, "sagemaker; to train here, `turnout build`")
    region = boto3.session.Session().region_name or "us-east-1"
    for name, value in (("--role", role), ("--bucket", bucket)):
        if not value:
            raise InvalidConfig(name, value, "the training stack's outputs, or your own")
    name = recipe_of(model)
    recipe = find(name)
    spec = launch.JobSpec(
        name, role, bucket, region, instance, instances, spot, image=image or None, data=data or None
    )
    job: dict[str, Any] = launch.request(spec, datetime.now(UTC).date())
    if dry_run:
        typer.echo(json.dumps(job))
        return
    with tempfile.TemporaryDirectory() as folder:
        launch.stage_code(Path(folder))
        uri = launch.launch(job, Path(folder))
    place, _, key = uri.removeprefix("s3://").partition("/")
    archive: bytes = boto3.client("s3", region_name=region).get_object(Bucket=place, Key=key)["Body"].read()
    launch.take_in(archive, cache.root())
    ready = build.prepare(recipe)
    launch.check_taken(ready.planned, tuple(step.name for step in steps.TRAINING))
    with Bars(Console(stderr=True), [item.step.name for item in ready.planned]) as bars:
        built = build.build(ready, bars)
    typer.echo(json.dumps(build.summary(built)))
