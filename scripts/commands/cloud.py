"""`turnout up`, `turnout down`, `turnout status`: the laptop cloud as a whole."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from scripts.local.places import Places
    from scripts.local.supervisor import Supervisor

app = typer.Typer()

ApiPort = Annotated[int | None, typer.Option("--api-port", help="where the HTTP API listens (8080)")]
AwsPort = Annotated[int | None, typer.Option("--aws-port", help="where AWS (moto) listens (5566)")]
RuntimePort = Annotated[int | None, typer.Option("--runtime-port", help="Lambda and SageMaker calls (5567)")]
Every = Annotated[float | None, typer.Option(min=1.0, help="seconds between runs of the control loop")]
Foreground = Annotated[bool, typer.Option("--foreground", help="stay until Ctrl-C, then end it all")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find_places(
    api_port: int | None = None, aws_port: int | None = None, runtime_port: int | None = None
) -> Places:
    """The cloud of the current folder: a running one's ports, else flags, else environment, else defaults."""
    from infra import config
    from scripts.local import state
    from scripts.local.places import Places

    root = Path.cwd()
    flags = {"TURNOUT_API_PORT": api_port, "TURNOUT_AWS_PORT": aws_port, "TURNOUT_RUNTIME_PORT": runtime_port}
    given = {name: str(port) for name, port in flags.items() if port is not None}
    region = config.load(root / "turnout.toml").stages["local"].region
    places = Places.from_env(root, {**os.environ, **given}, region)
    running = state.load(places.home)
    if running is not None and running.alive:
        return replace(
            places,
            region=running.region,
            api_port=running.api_port,
            aws_port=running.aws_port,
            runtime_port=running.runtime_port,
        )
    return places


def local_models() -> list[str]:
    """The models that turnout.toml deploys in the local stage."""
    from infra import config

    return list(config.load(Path.cwd() / "turnout.toml").stages["local"].models)


def interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def start(
    supervisor: Supervisor, control_every_s: float | None = None, max_sandboxes: int = 8, gpu_copies: int = 1
) -> bool:
    """`up` with SIGTERM treated as Ctrl-C, so that both leave nothing behind."""
    from scripts.local.supervisor import Options

    signal.signal(signal.SIGTERM, interrupt)
    return supervisor.up(local_models(), Options(max_sandboxes, control_every_s, gpu_copies))


@app.command()
def up(
    api_port: ApiPort = None,
    aws_port: AwsPort = None,
    runtime_port: RuntimePort = None,
    max_sandboxes: Annotated[int, typer.Option(min=1, help="the most sandboxes of one function")] = 8,
    control_every_s: Every = None,
    gpu_copies: Annotated[int, typer.Option(min=0, help="GPU processes to begin with")] = 1,
    foreground: Foreground = False,
) -> None:
    """Start the laptop cloud: AWS in a process, the CDK deployment into it, functions, API, GPU endpoint."""
    from scripts.local.supervisor import Supervisor

    places = find_places(api_port, aws_port, runtime_port)
    supervisor = Supervisor(places, say)
    try:
        fresh = start(supervisor, control_every_s, max_sandboxes, gpu_copies)
    except KeyboardInterrupt:
        say("interrupted: everything that had started is ended")
        raise typer.Exit(130) from None
    say(f"{'up' if fresh else 'already up'}: {places.api_url}")
    if foreground:
        try:
            while True:
                time.sleep(1.0)
        except KeyboardInterrupt:
            supervisor.down()
            say("down")


@app.command()
def down() -> None:
    """End the laptop cloud and everything it started."""
    from scripts.local.supervisor import Supervisor

    say("down" if Supervisor(find_places(), say).down() else "nothing was running")


@app.command()
def status(as_json: AsJson = False) -> None:
    """What runs: processes, sandboxes and their cold starts, GPU processes wanted and ready."""
    from scripts.local.supervisor import status_of

    found = status_of(find_places())
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"{found['phase']}: {found['api']} (AWS: {found['aws']})")
    for process in found["processes"]:
        typer.echo(f"  process {process['name']:<8} pid {process['pid']:<8} log {process['log']}")
    for row in found["functions"]:
        starts = ", ".join(f"{ms:.0f} ms" for ms in row["cold_starts_ms"][-5:]) or "none"
        name = f"{row['function']}:{row['version']}"
        typer.echo(f"  function {name}  {row['sandboxes']} sandboxes, cold starts: {starts}")
    for row in found["endpoints"]:
        name = row["component"] or row["endpoint"]
        counts = ", ".join(f"{row[key]} {key}" for key in ("desired", "ready", "starting", "invocations"))
        typer.echo(f"  endpoint {name}  {counts}")
