"""`turnout profile --gpu`: measure a release's gpu variant where it will run, and write the curve into it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def profile(
    release: Annotated[
        str, typer.Argument(help="a model (its current release) or the start of a release id")
    ],
    gpu: Annotated[bool, typer.Option("--gpu", help="the gpu variant, by batch size")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    engine: Annotated[str, typer.Option(help="eager, compile or aot")] = "eager",
    max_batch: Annotated[int, typer.Option(min=1, max=4096, help="largest batch to time")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Time every batch size on this machine's device; a release with the new curve becomes current."""
    from handlers.errors import InvalidInput
    from model_build.build import releases
    from model_build.gpu_profile import measure, write_release
    from model_build.release import set_current
    from model_build.shelf import current_of, find

    if not gpu:
        raise InvalidInput("--gpu", False, "--gpu; the cpu variant is profiled by turnout build")
    if engine not in ("eager", "compile", "aot"):
        raise InvalidInput("--engine", engine, "eager | compile | aot")
    folder = find(releases(), release).folder
    curve = measure(folder, device, engine, max_batch)
    made = write_release(folder, curve)
    if current_of(folder.parent) == folder.name:
        set_current(folder.parent, made.name)
    if as_json:
        typer.echo(json.dumps({"release": made.name, "from": folder.name, **asdict(curve)}))
        return
    typer.echo(f"{made.parent.name} on {curve.device}: loaded in {curve.load_s:.1f} s")
    for size, ms in curve.batch_ms.items():
        typer.echo(f"  batch {size:>4}  {ms:9.3f} ms  {1000 * size / ms:10.0f} items/s")
    typer.echo(f"release {folder.name} -> {made.name}")
