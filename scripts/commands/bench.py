"""`turnout bench` and `turnout faults`: what the hosted function costs, and what it survives, in one run."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.commands.cloud import find_places, say, start

if TYPE_CHECKING:
    from scripts.bench.hosted import Bench
    from scripts.local.places import Places

app = typer.Typer()
INSTANCE_S = 60.0


@app.command()
def bench(
    model: Annotated[str, typer.Argument(help="the model whose function is measured")] = "digits",
    cold_starts: Annotated[int, typer.Option(min=3, help="cold starts of each side")] = 9,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="install LiteLLM into .turnout/ and measure its router beside ours"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Measure decide(), a warm request and a cold start; a laptop cloud is started for it if none runs."""
    from scripts.bench.router import peers_python, report
    from scripts.local.supervisor import Supervisor

    places = find_places()
    supervisor = Supervisor(places, say)
    python = peers_python() if peers else None
    started = start(supervisor)
    try:
        say("deciding")
        found = {**report(python), **hosted(places, model, cold_starts), "machine": machine()}
    finally:
        if started:
            supervisor.down()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name:<24} {value if not isinstance(value, float) else f'{value:.3f}'}")


@app.command()
def faults(
    model: Annotated[str, typer.Argument(help="the model whose function is tried")] = "digits",
    slo_ms: Annotated[float, typer.Option(help="the objective of each request")] = 300.0,
    calls: Annotated[int, typer.Option(min=4, help="requests a cell")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Every fault of the GPU endpoint on every path under load: answered, in time, degraded, failed, cost."""
    import asyncio
    from dataclasses import asdict

    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from scripts.bench.faults import matrix
    from scripts.local.supervisor import Supervisor

    places = find_places()
    supervisor = Supervisor(places, say)
    started = start(supervisor)
    try:
        await_instance(places, model)
        with prepared(places, model) as (setup, inputs):
            cells = asyncio.run(matrix(setup, model, inputs, places.runtime_url, (1, 4), calls, slo_ms, say))
    finally:
        if started:
            supervisor.down()
    if as_json:
        typer.echo(json.dumps({"slo_ms": slo_ms, "machine": machine(), "cells": [asdict(c) for c in cells]}))
        return
    headings = ("path", "fault", "load", "requests", "answered", "in time", "degraded", "failed", "USD")
    shown = Table(*headings, title=f"{model}, objective {slo_ms:g} ms", box=SIMPLE, padding=0)
    for cell in cells:
        *counts, cost_usd = asdict(cell).values()
        shown.add_row(*(str(value) for value in counts), f"{cost_usd:.1e}")
    Console().print(shown)
    total, answered, within, degraded, failed = (
        sum(getattr(cell, name) for cell in cells)
        for name in ("requests", "answered", "within_objective", "degraded", "failed")
    )
    typer.echo(
        f"{total} requests: {answered} answered, {within} in time, {degraded} degraded, {failed} failed"
    )


def await_instance(places: Places, model: str) -> None:
    """Wait until the model's endpoint has an instance: one that is asleep would fail in every cell alike."""
    from handlers.errors import LocalCloudError
    from infra.names import Names
    from scripts.local.supervisor import status_of

    name = Names("local").endpoint(model)
    until = time.monotonic() + INSTANCE_S
    while time.monotonic() < until:
        if any(e["endpoint"] == name and e["ready"] for e in status_of(places)["endpoints"]):
            return
        time.sleep(0.5)
    raise LocalCloudError(f"{name} has no instance after {INSTANCE_S:.0f} s: turnout status says why")


def hosted(places: Places, model: str, cold_starts: int) -> dict[str, Any]:
    """The warm and the cold side, in sandboxes of our own beside those of the running cloud."""
    import asyncio

    from scripts.bench import hosted as measure
    from scripts.bench.placement import placements

    with prepared(places, model) as (setup, inputs):
        settings = measure.model_settings(setup.release, setup.package, setup.function.memory_mb, inputs)
        by_placement = {
            placement.name: asyncio.run(measure.warm(setup, settings, placement, say))
            for placement in placements()
        }
        cold = asyncio.run(measure.cold(setup, settings, cold_starts, say))
    placement, warm = next(iter(by_placement.items()))
    return {
        "warm_placement": placement,
        "warm_ms": {key: round(warm[key], 4) for key in ("hosted", "floor", "echo", "model")},
        "warm_overhead_ratio": warm["hosted"] / warm["floor"],
        "warm_overhead_by_placement": {
            name: round(found["hosted"] / found["floor"], 3) for name, found in by_placement.items()
        },
        "cold_ms": {key: round(value, 1) for key, value in cold.items()},
        "cold_start_ratio": cold["init"] / cold["bare"],
        "handler_overhead_ms": {"p50": warm["overhead"]},
    }


@contextmanager
def prepared(places: Places, model: str) -> Iterator[tuple[Bench, list[dict[str, Any]]]]:
    """The deployed function of a model, ready to be hosted once more; and the inputs of one example."""
    from handlers.errors import LocalCloudError
    from infra.names import Names
    from scripts.bench import hosted as measure
    from scripts.local import client, deployed, release_upload
    from scripts.local.runtime_folder import make_runtime_folder
    from scripts.local.supervisor import local_session

    lambda_client = local_session(places).client("lambda", endpoint_url=places.aws_url)
    functions, aliases = deployed.read_functions(lambda_client)
    name = Names("local").function(model)
    alias = aliases.get((name, "live"))
    if alias is None:
        raise LocalCloudError(f"{name}:live is not deployed")
    function = functions[name, alias.version]
    inputs = client.sample(places.releases, model, 1)["inputs"]
    with tempfile.TemporaryDirectory() as scratch:
        yield (
            measure.Bench(
                function=function,
                package=measure.fetch_package(function, places.cache / "functions"),
                runtime=make_runtime_folder(Path(scratch) / "runtime"),
                release=release_upload.current(places.releases, model).folder,
                environment=places.client_environment(),
                event=measure.event(model, inputs),
                scratch=Path(scratch),
            ),
            inputs,
        )


def machine() -> str:
    """The processor, the cores we may use, the interpreter."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"
