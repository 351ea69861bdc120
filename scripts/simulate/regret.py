"""The regret report: what turnout's own request log says was paid, against the clairvoyant optimum."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from handlers.errors import InvalidInput

from . import timestamps
from .draws import draw
from .plan import MONTH_S, bounds
from .readers import open_text
from .rows import InvalidTrace, Options, Rows
from .scenario import Scenario
from .trace import from_times

MESSAGE = "answered"


@dataclass(frozen=True, slots=True)
class Logged:
    """One request of the log: epoch seconds, path, USD without the GPU, in time or not, degraded or not."""

    at_s: float
    path: str
    cost_usd: float
    met: bool
    degraded: bool


def read_log(path: Path, options: Options) -> tuple[list[Logged], Rows]:
    """The answered requests of a log: JSON lines, of which those with another message are left alone."""
    rows = Rows(path.name, options.skip_malformed)
    found: list[Logged] = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            start = line.find("{")
            if start < 0:
                continue
            try:
                body = json.loads(line[start:])
            except json.JSONDecodeError as error:
                rows.bad(number, str(start + error.colno), line.strip(), "a JSON object per line")
                continue
            if not isinstance(body, dict) or body.get("message") != MESSAGE:
                continue
            wrong = next((name for name, (right, _) in FIELDS.items() if not right(body.get(name))), None)
            if wrong is not None:
                rows.bad(number, wrong, body.get(wrong), FIELDS[wrong][1])
                continue
            found.append(
                Logged(
                    at_s=timestamps.parse(body["timestamp"])[0],
                    path=body["path"],
                    cost_usd=float(body["cost_usd"]),
                    met=body["objective_met"],
                    degraded=body.get("degraded") is True,
                )
            )
    if not found:
        raise InvalidTrace("--from-logs", path.name, f'lines of turnout\'s request log (message "{MESSAGE}")')
    return found, rows


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and timestamps.parse(value)[0] >= 0.0
    except ValueError:
        return False


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < inf


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "timestamp": (_is_time, "a date and time"),
    "path": (lambda value: value in ("cpu", "gpu"), "cpu or gpu"),
    "cost_usd": (_is_amount, "an amount in USD, 0 or more"),
    "objective_met": (_is_switch, "true or false"),
    "degraded": (lambda value: value is None or _is_switch(value), "true or false"),
}


def regret_report(
    path: Path, scenario: Scenario, options: Options, as_json: bool, gpu_hours: float | None
) -> None:
    """Print what was paid, what the optimum would have been, and where the difference went.

    The log knows each request's own cost; the rent of the instances is not in it. `gpu_hours` says how many
    instance-hours were paid for; without it the report takes a minute with a GPU answer as a rented one.
    """
    if gpu_hours is not None and not _is_amount(gpu_hours):
        raise InvalidInput("--gpu-hours", gpu_hours, "a number of hours, 0 or more")
    logged, rows = read_log(path, options)
    notes = rows.summary()
    trace = from_times(path.name, np.array([one.at_s for one in logged]), seed=options.seed)
    least = bounds(scenario, trace, draw(scenario, trace.requests, 0.0, options.seed))
    optimum, lookahead = least.optimum_usd, least.lookahead_usd
    rent = scenario.economics.gpu_hour
    minutes = {int(one.at_s // 60) for one in logged if one.path == "gpu"}
    hours = len(minutes) / 60.0 if gpu_hours is None else gpu_hours
    missed = sum(one.degraded for one in logged) * scenario.economics.missed_escalation_usd
    requests_usd = sum(one.cost_usd for one in logged)
    paid = requests_usd + hours * rent + missed
    body = {
        "requests": len(logged),
        "from": min(one.at_s for one in logged),
        "duration_s": trace.duration_s,
        "paid_usd": paid,
        "optimum_usd": optimum,
        "lookahead_usd": lookahead,
        "regret": paid / optimum,
        "attainment": sum(one.met for one in logged) / len(logged),
        "components_usd": {
            "requests": requests_usd,
            "gpu": hours * rent,
            "missed escalations": missed,
        },
        "gpu_hours": hours,
        "gpu_hours_estimated": gpu_hours is None,
        "gpu_share": sum(one.path == "gpu" for one in logged) / len(logged),
        "notes": list(notes),
    }
    if as_json:
        print(json.dumps(body, indent=2))
        return
    month = MONTH_S / trace.duration_s
    print(
        f"{len(logged):,} requests in {trace.duration_s / 3600:.2f} h: you paid {paid:.4f} USD, "
        f"{paid / optimum:.2f} × the clairvoyant optimum ({optimum:.4f} USD)."
    )
    unavoidable = max(0.0, lookahead - optimum)
    how = " estimated from the minutes with a GPU answer" if gpu_hours is None else ""
    print(
        f"The difference was {paid - optimum:.4f} USD ({(paid - optimum) * month:,.2f} a month), of which "
        f"{unavoidable:.4f} is what nobody saves who sees no further than a start-up ahead. "
        f"Paid for requests {requests_usd:.4f}, for the GPU {hours * rent:.4f} ({hours:.2f} h{how}), "
        f"for missed escalations {missed:.4f}."
    )
    for note in notes:
        print(f"note: {note}")
