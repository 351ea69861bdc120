"""`turnout doctor`: what is missing before a deployment to AWS, each with its fix."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()
MARKS = {"ok": "ok     ", "failed": "FAILED ", "to do": "to do  ", "unknown": "unknown"}


@app.command()
def doctor(
    stage: Annotated[str, typer.Option("--stage", help="a stage of turnout.toml")] = "dev",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Check each step of a deployment, from Python to the first release; exit 1 if one is wrong."""
    import boto3
    from botocore.config import Config

    from infra.config import load
    from infra.names import Names
    from infra.preflight import Outside, checks

    config = load()
    settings = config.stage(stage)
    quick = Config(connect_timeout=3, read_timeout=5, retries={"max_attempts": 1})
    session = boto3.Session()
    region = session.region_name or settings.region

    @cache
    def client(service: str) -> Any:
        return session.client(service, region_name=region, config=quick)

    outside = Outside(run=_run, client=client, root=Path(__file__).parent.parent.parent)
    found = list(checks(Names(stage), settings, config.models_of(stage), outside))
    failed = any(check.status == "failed" for check in found)
    if as_json:
        typer.echo(
            json.dumps({"stage": stage, "ok": not failed, "checks": [asdict(check) for check in found]})
        )
    else:
        for check in found:
            fix = f"  -> {check.fix}" if check.status != "ok" and check.fix else ""
            typer.echo(f"{MARKS[check.status]} {check.name}: {check.found}{fix}")
    raise typer.Exit(1 if failed else 0)


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
