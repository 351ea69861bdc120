"""`turnout release list | show | compare | table | triton`: what is built, and how two differ."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]


def _store() -> Path:
    from model_build.build import releases

    return releases()


@app.command(name="list")
def list_releases(
    model: Annotated[str | None, typer.Argument(help="only this model's releases")] = None,
    as_json: AsJson = False,
) -> None:
    """Every release in the store, the current one of each model marked."""
    from model_build.shelf import listed

    entries = listed(_store(), model)
    if as_json:
        typer.echo(json.dumps({"releases": [asdict(entry) for entry in entries]}))
        return
    if not entries:
        typer.echo(f"no releases in {_store()}; make one with: turnout build digits")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in (
        "model",
        "release",
        "current",
        "precision",
        "cpu",
        "gpu",
        "size, kB",
        "p50, ms",
        "escalated",
    ):
        table.add_column(heading)
    for e in entries:
        table.add_row(
            e.model,
            e.release,
            "current" if e.current else "",
            e.precision,
            f"{e.cpu_accuracy:.4f}",
            "" if e.gpu_accuracy is None else f"{e.gpu_accuracy:.4f}",
            f"{e.size_bytes / 1000:,.1f}",
            f"{e.p50_ms:.3f}",
            f"{e.escalation_share:.1%}",
        )
    Console().print(table)


@app.command()
def show(
    release: Annotated[
        str, typer.Argument(help="a release id (or its beginning), or a model for its current one")
    ],
    as_json: AsJson = False,
) -> None:
    """One release: its manifest, checked against its files."""
    from model_build.shelf import find

    shelved = find(_store(), release)
    if as_json:
        typer.echo(json.dumps(shelved.document))
        return
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(
        f"[bold]{shelved.document['model']} {shelved.folder.name}[/]  every file matches its sha256"
    )
    for line in shelved.account():
        console.print(line, highlight=False, markup=False)
    console.print(f"report: {shelved.folder / 'report.html'}", highlight=False)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="a release id or its beginning")],
    second: Annotated[str, typer.Argument(help="the release to compare it with")],
    as_json: AsJson = False,
) -> None:
    """Two releases of one model: every number side by side, with the change."""
    from model_build.shelf import compared, find, text

    store = _store()
    changes = compared(find(store, first), find(store, second))
    if as_json:
        typer.echo(json.dumps({"first": first, "second": second, "changes": [asdict(c) for c in changes]}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("what", first, second, "change"):
        table.add_column(heading)
    for change in changes:
        table.add_row(change.what, text(change.first), text(change.second), change.words)
    Console().print(table)


@app.command()
def table(
    write: Annotated[
        Path | None, typer.Option("--write", help="a Markdown file: replace the table between its marks")
    ] = None,
) -> None:
    """The current release of every model as the Markdown table that the README has."""
    from model_build.shelf import rewritten
    from model_build.shelf import table as rows

    content = rows(_store())
    if write is None:
        typer.echo(content, nl=False)
        return
    page = rewritten(write.read_text(encoding="utf-8"), content)
    part = write.with_name(write.name + ".part")
    part.write_text(page, encoding="utf-8")
    part.replace(write)


@app.command()
def triton(
    model: Annotated[
        str, typer.Argument(help="a model that has been built, a recipe's name, or its .py file")
    ],
    out: Annotated[Path, typer.Option("--out", help="the repository's folder")] = Path("triton"),
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=1024)] = 32,
    precision: Annotated[str, typer.Option("--precision", help="of TensorRT: FP32, FP16 or BF16")] = "FP16",
) -> None:
    """Write a Triton repository of MODEL's large network: ONNX back end, TensorRT, dynamic batching."""
    from model_build import build
    from model_build.recipes import find as find_recipe
    from model_build.triton import TritonOptions, repository_of
    from scripts.commands.build import recipe_of

    ready = build.prepare(find_recipe(recipe_of(model)))
    options = TritonOptions(max_batch=max_batch, precision=precision)
    home, exported = repository_of(ready, out, options)
    typer.echo(
        f"{home}: ONNX by {exported.exporter}, {exported.parity.max_rel:.1e} from PyTorch; start it with: "
        f"tritonserver --model-repository {out}"
    )
