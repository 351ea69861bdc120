"""`turnout cost`: what a stage will cost, before it is deployed."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from infra.config import Model
    from infra.cost import Serving
    from infra.deployment import Deployment

app = typer.Typer()
ASSUMED_CPU_MS, ASSUMED_GPU_MS = 50.0, 30.0


@app.command()
def cost(
    stage: Annotated[str, typer.Option("--stage", help="a stage of turnout.toml")] = "dev",
    requests: Annotated[int, typer.Option("--requests-per-month", min=0)] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Fixed and per-request cost by component, GPU scenarios and break-even, each price with its date."""
    from infra.config import load
    from infra.cost import break_even_rps, fixed, per_request, scenarios
    from infra.deployment import Deployment

    deployment = Deployment.of(load(), stage)
    prices, models = deployment.prices, deployment.models
    gpu_models = sum(model.gpu is not None for model in models.values())
    base = fixed(_templates(deployment), prices, len(models), gpu_models)
    document: dict[str, Any] = {
        "stage": stage,
        "region": prices.region,
        "requests_per_month": requests,
        "monthly_limit_usd": deployment.settings.monthly_limit_usd,
        "fixed": [asdict(line) for line in base],
        "fixed_usd_per_month": sum(line.usd for line in base),
        "models": [],
    }
    for name, model in models.items():
        serving = _serving(deployment, name, model)
        paths = per_request(serving, prices)
        document["models"].append(
            {
                "serving": asdict(serving),
                "per_request": {path: [asdict(line) for line in lines] for path, lines in paths.items()},
                "usd_per_request": {path: sum(line.usd for line in lines) for path, lines in paths.items()},
                "gpu_scenarios": [asdict(scenario) for scenario in scenarios(serving, prices)],
                "break_even_rps": break_even_rps(serving, prices),
            }
        )
    if as_json:
        typer.echo(json.dumps(document))
    else:
        typer.echo("\n".join(_page(document)))


def _templates(deployment: Deployment) -> list[dict[str, Any]]:
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
    from infra.app import new_app, synthesize

    with tempfile.TemporaryDirectory() as folder:
        return list(synthesize(deployment, new_app(folder)).templates.values())


def _serving(deployment: Deployment, name: str, model: Model) -> Serving:
    from handlers.routing.profile import Profile
    from infra.cost import Serving
    from infra.environment import current_profile, memory_mb
    from model_build.memory import handler_ms

    memory, measured = memory_mb(name, model), current_profile(name)
    waiting = memory if model.topology == "colocated" else model.front_memory_mb
    profile = Profile.parse(measured).at(memory) if measured else None
    gpu = profile.gpu if profile else None
    return Serving(
        model=name,
        architecture=deployment.target.architecture,
        api=deployment.settings.api,
        memory_mb=memory,
        waiting_mb=waiting,
        cpu_ms=handler_ms(memory, False) + (profile.cpu.service.at(0.5) if profile else ASSUMED_CPU_MS),
        gpu_ms=handler_ms(waiting, False)
        + (gpu.batch_ms[1] + profile.network.at(0.5) if profile and gpu else ASSUMED_GPU_MS),
        instance_type=model.gpu.instance_type if model.gpu else None,
        startup_s=gpu.startup_s if gpu else 240.0,
        assumed=profile is None,
    )


def _page(document: dict[str, Any]) -> list[str]:
    requests = document["requests_per_month"]
    lines = [f"stage {document['stage']}, prices of {document['region']}, USD", "", "fixed, a month"]
    lines += [_row(line, 1) for line in document["fixed"]]
    lines.append(f"  {'together':36} {document['fixed_usd_per_month']:>12.2f}")
    for model in document["models"]:
        serving = model["serving"]
        note = "assumed: no release here" if serving["assumed"] else "as the release measured"
        times = f"cpu {serving['cpu_ms']:.3g} ms in {serving['memory_mb']} MB, gpu {serving['gpu_ms']:.3g} ms"
        lines += ["", f"{serving['model']}: {times} ({note})"]
        for path, rows in model["per_request"].items():
            total = model["usd_per_request"][path]
            lines.append(
                f"  {path}: {1e6 * total:.2f} a million requests, {requests * total:.2f} for {requests:,}"
            )
            lines += [_row(row, 1e6) for row in rows]
        for scenario in model["gpu_scenarios"]:
            lines.append(f"  GPU {scenario['name']:32} {scenario['usd']:>12.2f}  ({scenario['hours']:.2f} h)")
        if serving["instance_type"]:
            rate = model["break_even_rps"]
            lines.append(
                f"  one {serving['instance_type']} pays above {rate:,.0f} requests/s"
                if rate
                else f"  one {serving['instance_type']} never pays: the wait costs more than the CPU"
            )
    lines += ["", f"the stage's limit is {document['monthly_limit_usd']:g} USD a month"]
    return lines


def _row(line: dict[str, Any], times: float) -> str:
    return f"  {line['component']:36} {times * line['usd']:>12.4f}  {line['as_of']} {line['confidence']}"
