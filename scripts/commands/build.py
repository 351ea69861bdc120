"""`turnout build MODEL`: from a recipe to a release; progress on stderr, JSON on stdout if asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_build.pipeline import Planned

app = typer.Typer()


@app.command()
def build(
    model: Annotated[str, typer.Argument(help="a recipe's name, or the path of a recipe's .py file")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say which steps would run, and stop")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Train, compress, calibrate, measure and package MODEL; finished steps are taken from the cache."""
    from model_build.build import publish, summary
    from rich.console import Console

    from model_build import cache, data, pipeline, steps
    from model_build.recipes import find
    from model_build.train import check_networks
    from scripts.progress import Bars

    console = Console(stderr=True)
    recipe = find(recipe_of(model))
    store = cache.Cache(cache.root() / recipe.name)
    with console.status(f"{recipe.name}: data"):
        splits = data.load(recipe)
        planned = pipeline.plan(recipe, splits, steps.STEPS, store)
        if dry_run:
            _print_plan(planned, as_json)
            return
        check_networks(recipe, splits)
    with cache.locked(store), Bars(console, [item.step.name for item in planned]) as bars:
        results = pipeline.run(recipe, splits, planned, store, bars)
        folder = publish(recipe, results)
    told = summary(recipe, results)
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _print_summary(told, str(folder))


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


def _print_summary(told: dict[str, Any], folder: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{told['model']} {told['release']}")
    for heading in ("variant", "accuracy", "size, kB", "p50, ms"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, variant in told["variants"].items():
        size = f"{variant['size_bytes'] / 1000:,.1f}" if "size_bytes" in variant else ""
        latency = f"{variant['latency_ms']['p50']:.3f}" if "latency_ms" in variant else ""
        table.add_row(name, f"{variant['accuracy']:.4f}", size, latency)
    console.print(table)
    if told["threshold"] is not None:
        console.print(
            f"escalate below {told['threshold']:.3f}: {told['escalation_share']:.1%} of requests, "
            f"cascade accuracy {told['cascade_accuracy']:.4f}"
        )
    console.print(f"release: {folder}", soft_wrap=True)
