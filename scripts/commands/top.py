"""`turnout top`: the traffic of the laptop cloud as it goes, by path, objective and money."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.commands.cloud import find_places

if TYPE_CHECKING:
    from rich.table import Table

    from scripts.local.tally import Tally
    from scripts.simulate.scenario import Scenario

app = typer.Typer()


@app.command()
def top(
    model: Annotated[str, typer.Argument(help="the model")] = "digits",
    every_s: Annotated[float, typer.Option(min=0.2, help="seconds between refreshes")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="show it once and stop")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON document on stdout and stop")
    ] = False,
) -> None:
    """Path shares, attainment, spend and regret since the laptop cloud started; Ctrl-C ends it."""
    from rich.console import Console
    from rich.live import Live

    from infra.names import Names
    from scripts.local.supervisor import status_of
    from scripts.local.tally import Follower, Tally
    from scripts.simulate.released import from_release

    places = find_places()
    names = Names("local")
    logs = [
        Follower(places.home / "logs" / f"{name}.log") for name in (names.function(model), names.front(model))
    ]
    scenario, tally = from_release(model, "local"), Tally()

    def look() -> dict[str, Any]:
        for log in logs:
            tally.add(log.lines())
        endpoints = [
            row for row in status_of(places)["endpoints"] if row["endpoint"] == names.endpoint(model)
        ]
        return figures(tally, endpoints, scenario)

    if once or as_json:
        found = look()
        if as_json:
            typer.echo(json.dumps({"model": model, **found}))
        else:
            Console().print(table(model, found))
        return
    try:
        with Live(table(model, look()), refresh_per_second=4) as live:
            while True:
                time.sleep(every_s)
                live.update(table(model, look()))
    except KeyboardInterrupt:
        return


def figures(tally: Tally, endpoints: list[dict[str, Any]], scenario: Scenario) -> dict[str, Any]:
    """Everything that is shown. Regret is what was paid over what the clairvoyant optimum would have paid."""
    gpu_usd = sum(row["instance_s"] for row in endpoints) / 3600 * scenario.economics.gpu_hour
    missed_usd = sum(one.degraded for one in tally.served) * scenario.economics.missed_escalation_usd
    return {
        "requests": len(tally.served),
        "path_shares": tally.shares(),
        "attainment": tally.share("met"),
        "degraded": tally.share("degraded"),
        "escalated": tally.share("escalated"),
        "latency_ms": {"p50": tally.percentile_ms(0.5), "p99": tally.percentile_ms(0.99)},
        "spend_usd": {"requests": tally.requests_usd, "gpu": gpu_usd, "missed_escalations": missed_usd},
        "regret": regret(tally, tally.requests_usd + gpu_usd + missed_usd, scenario),
        "gpu": {key: sum(row[key] for row in endpoints) for key in ("desired", "ready", "starting")},
    }


def regret(tally: Tally, paid_usd: float, scenario: Scenario) -> float | None:
    """None before there were two requests; the optimum knows which share needed the heavy model."""
    if len(tally.served) < 2:
        return None
    import numpy as np

    from scripts.simulate.draws import draw
    from scripts.simulate.plan import bounds
    from scripts.simulate.trace import from_times

    times = np.array(sorted(one.at_s for one in tally.served))
    trace, seen = from_times("so far", times, seed=0), as_seen(scenario, tally)
    optimum_usd = bounds(seen, trace, draw(seen, trace.requests, 0.0, 0)).optimum_usd
    return paid_usd / optimum_usd if optimum_usd > 0 else None


def as_seen(scenario: Scenario, tally: Tally) -> Scenario:
    """The scenario with the share of escalations that were made or missed, not that of the release."""
    share = sum(one.escalated or one.degraded for one in tally.served) / len(tally.served)
    if scenario.cascade is None:
        return replace(scenario, profile=replace(scenario.profile, escalation_share=share))
    return replace(scenario, cascade=replace(scenario.cascade, escalation_share=share))


def table(model: str, found: dict[str, Any]) -> Table:
    """The figures as two columns."""
    from rich.table import Table

    shares = ", ".join(f"{path} {share:.1%}" for path, share in found["path_shares"].items()) or "none yet"
    spend = found["spend_usd"]
    rows = {
        "requests": f"{found['requests']}",
        "paths": shares,
        "objective met": f"{found['attainment']:.2%}",
        "escalated": f"{found['escalated']:.1%}",
        "degraded": f"{found['degraded']:.1%}",
        "latency": f"p50 {found['latency_ms']['p50']:.2f} ms, p99 {found['latency_ms']['p99']:.2f} ms",
        "spend": f"requests ${spend['requests']:.6f}, GPU ${spend['gpu']:.6f}, "
        f"missed escalations ${spend['missed_escalations']:.6f}",
        "regret so far": "–"
        if found["regret"] is None
        else f"{found['regret']:.2f} times the clairvoyant optimum",
        "GPU copies": ", ".join(f"{count} {state}" for state, count in found["gpu"].items()),
    }
    made = Table(title=f"turnout {model}", show_header=False)
    for name, text in rows.items():
        made.add_row(name, text)
    return made
