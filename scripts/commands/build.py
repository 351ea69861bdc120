"""`turnout build MODEL`: from a recipe to a release; progress on stderr, JSON on stdout if asked."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model_build.pipeline import Planned

app = typer.Typer()


@app.command()
def build(
    model: Annotated[
        str, typer.Argument(help="a model, a recipe's name, or the path of a recipe's .py file")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say which steps would run, and stop")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Train, compress, calibrate, measure and package MODEL; finished steps are taken from the cache."""
    # Waiting OpenMP threads spin by default, which takes the CPU from whoever else is at work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from rich.console import Console

    from model_build import build as builds
    from model_build.recipes import find
    from scripts.progress import Bars

    console = Console(stderr=True)
    ready = builds.prepare(find(recipe_of(model)))
    if dry_run:
        _print_plan(ready.planned, as_json)
        return
    with Bars(console, [item.step.name for item in ready.planned]) as bars:
        built = builds.build(ready, bars)
    told = builds.summary(built)
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _print_summary(told, str(built.folder))


def recipe_of(model: str) -> str:
    """What turnout.toml says is the recipe of this model, else the word itself."""
    from infra import config

    if model.endswith(".py") or not config.DEFAULT_PATH.is_file():
        return model
    models = config.load().models
    return models[model].recipe if model in models else model


def _print_plan(planned: Sequence[Planned], as_json: bool) -> None:
    rows = [{"step": item.step.name, "key": item.key[:16], "cached": item.cached} for item in planned]
    if as_json:
        typer.echo(json.dumps({"steps": rows}))
        return
    for row in rows:
        typer.echo(f"{row['step']:<12} {row['key']}  {'in the cache' if row['cached'] else 'would run'}")


def _print_summary(told: Mapping[str, Any], folder: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{told['model']}  {told['release']}")
    for heading in ("variant", told["metric"], "size, kB", "p50, ms"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, variant in told["variants"].items():
        size = f"{variant['size_bytes'] / 1000:,.1f}" if "size_bytes" in variant else ""
        latency = f"{variant['latency_ms']['p50']:.3f}" if "latency_ms" in variant else ""
        table.add_row(name, f"{variant['accuracy']:.4f}", size, latency)
    console.print(table)
    console.print(f"cpu variant: {told['reason']}", soft_wrap=True, markup=False)
    if told["threshold"] is not None:
        bound = told["guarantee"]
        console.print(
            f"below confidence {told['threshold']:.4f} the GPU is asked: {told['escalation_share']:.2%} of "
            f"requests, cascade {told['cascade_accuracy']:.4f}; with probability {1 - bound['delta']:.0%} "
            f"its error exceeds the teacher's by at most {bound['epsilon']:.1%}",
            soft_wrap=True,
        )
    console.print(f"release: {folder}", soft_wrap=True, markup=False)
