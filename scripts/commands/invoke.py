"""`turnout invoke` and `turnout route`: ask the running API, or ask it what it would do."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from scripts.local.client import Reply
    from scripts.local.places import Places
    from scripts.stage_api import StageApi

app = typer.Typer()

Model = Annotated[str, typer.Argument(help="the model's name")]
Sample = Annotated[int, typer.Option(min=0, help="which held-out example of the release")]
Slo = Annotated[float | None, typer.Option("--slo-ms", help="latency objective")]
MaxCost = Annotated[float | None, typer.Option("--max-cost-usd", help="cost ceiling of this request")]
MinConfidence = Annotated[float | None, typer.Option("--min-confidence", help="confidence floor")]
ForcedPath = Annotated[str | None, typer.Option("--path", help="cpu or gpu, instead of the router's choice")]
Quality = Annotated[str | None, typer.Option("--quality", help="cheap, balanced or best")]
Url = Annotated[str | None, typer.Option("--url", help="the API, in place of the stage's own")]
StageName = Annotated[str, typer.Option("--stage", help="a stage of turnout.toml; local is the laptop cloud")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")]


@app.command()
def invoke(
    model: Model,
    sample: Sample = 0,
    slo_ms: Slo = None,
    max_cost_usd: MaxCost = None,
    min_confidence: MinConfidence = None,
    path: ForcedPath = None,
    quality: Quality = None,
    stage: StageName = "local",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Send one held-out example to MODEL and say what it answered, by which path and why."""
    constraints = {
        "latency_slo_ms": slo_ms, "max_cost_usd": max_cost_usd, "min_confidence": min_confidence,
        "path": path, "quality": quality,
    }  # fmt: skip
    answer, truth = send(model, "infer", sample, constraints, stage, url)
    parameters = answer.body.get("parameters", {})
    if as_json:
        told = {
            "model": model, "sample": sample, "label": truth, "elapsed_ms": round(answer.elapsed_ms, 3),
            "server_timing": answer.server_timing, **answer.body,
        }  # fmt: skip
        typer.echo(json.dumps(told))
        return
    outputs = {output["name"]: output["data"] for output in answer.body["outputs"]}
    for name, data in outputs.items():
        typer.echo(f"{name:<14} {shown(data)}" + (f"   (truth: {truth})" if name == "label" else ""))
    for name, value in parameters.items():
        typer.echo(f"{name:<14} {value}")
    typer.echo(f"{'elapsed':<14} {answer.elapsed_ms:.1f} ms")


@app.command()
def route(
    model: Model,
    sample: Sample = 0,
    slo_ms: Slo = None,
    max_cost_usd: MaxCost = None,
    min_confidence: MinConfidence = None,
    path: ForcedPath = None,
    quality: Quality = None,
    stage: StageName = "local",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say what MODEL's router would do with such a request, what each path would take and cost, and why."""
    constraints = {
        "latency_slo_ms": slo_ms, "max_cost_usd": max_cost_usd, "min_confidence": min_confidence,
        "path": path, "quality": quality,
    }  # fmt: skip
    answer, _ = send(model, "route", sample, constraints, stage, url)
    typer.echo(json.dumps(answer.body) if as_json else json.dumps(answer.body, indent=2))


def send(
    model: str,
    action: str,
    index: int,
    constraints: dict[str, float | str | None],
    stage: str,
    url: str | None,
) -> tuple[Reply, str]:
    """(the answer, the true label); a refusal goes to stderr with exit code 2."""
    from scripts.commands.cloud import find_places
    from scripts.local import client

    places = find_places()
    example = client.sample(places.releases, model, index)
    body: dict[str, Any] = {"inputs": example["inputs"]}
    given = {name: value for name, value in constraints.items() if value is not None}
    if given:
        body["parameters"] = given
    api = api_of(stage, places)
    answer = client.ask(f"{url or api.url}/v2/models/{model}/{action}", body, headers=api.headers)
    if answer.status != 200:
        print(f"turnout: {answer.status}: {client.error_text(answer)}", file=sys.stderr)
        raise typer.Exit(2)
    return answer, str(example.get("label", ""))


def api_of(stage: str, places: Places) -> StageApi:
    """The API of a stage, with what its calls must carry."""
    from infra.config import load
    from infra.names import Names
    from scripts.local import client
    from scripts.stage_api import StageApi, stage_api
    from scripts.stage_session import stage_session

    if stage == "local":
        return StageApi(places.api_url, client.plain)
    settings = load().stage(stage)
    return stage_api(stage_session(stage)[0], Names(stage), settings.auth, os.environ)


def shown(data: list[Any]) -> str:
    """Numbers with four decimals, other values as they are."""
    return ", ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in data)
