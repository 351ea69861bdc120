"""The plan as one HTML file that opens offline, on a phone, and in print."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from .advice import Advice
from .outcome import SERVED_BY
from .plan import Plan
from .shown import COLUMNS, cells
from .svg import Chart, bars, patterns
from .sweeps import Point

BINS = 120
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#111;background:#fff;margin:0 auto;max-width:72rem;padding:1rem}
h1{font-size:1.5rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .4rem}
svg{width:100%;max-width:44rem;height:auto;display:block}svg text{font:13px system-ui,sans-serif}
h1,p{overflow-wrap:anywhere}p{max-width:60rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.82rem}
td,th{padding:.25rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid #ccc}
td:first-child,th:first-child{text-align:left}tr.chosen td{font-weight:700}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;padding:0;margin:.2rem 0;font-size:.85rem}
.legend svg{display:inline;width:26px;height:12px}
pre{background:#f2f2f2;padding:.7rem;overflow-x:auto}@media print{body{max-width:none}h2{break-after:avoid}}
"""


def write_report(path: Path, plan: Plan, advice: Advice, points: Sequence[Point]) -> None:
    """Write the report; the file appears whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as part:
        part.write(html(plan, advice, points))
    os.chmod(part.name, 0o644)
    os.replace(part.name, path)


def html(plan: Plan, advice: Advice, points: Sequence[Point]) -> str:
    """The document."""
    trace, scenario = plan.trace, plan.scenario
    shown = "turnout" if "turnout" in plan.outcomes else next(iter(plan.outcomes))
    sections = [
        ("", "".join(f"<p>{escape(sentence)}</p>" for sentence in advice.sentences)),
        ("Configuration", f"<pre>{escape(advice.toml)}</pre>"),
        ("Designs compared", _table(plan, advice.policy)),
        ("Arrivals", _arrivals(plan)),
        (f"GPU instances over time: {shown} and the optimum", _capacity(plan, shown)),
        (f"Who answered, over time: {shown}", _shares(plan, shown)),
        ("Cost by component, USD a month", _costs(plan)),
        ("Latency against the objective", _latency(plan, shown)),
        ("Cost and attainment", _frontier(plan)),
        *_swept(points),
    ]
    body = ""
    for title, content in sections:
        heading = f"<h2>{escape(title)}</h2>" if title else ""
        body += f"<section>{heading}{content}</section>"
    head = (
        f"{trace.requests:,} requests in {trace.duration_s / 3600:.2f} h; profile {scenario.profile.name}; "
        f"objective {scenario.latency_slo_ms:g} ms for {scenario.attainment:.1%}; seed {plan.seed}"
    )
    notes = "".join(f"<p>Note: {escape(note)}.</p>" for note in trace.notes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>turnout plan: {escape(trace.name)}</title><style>{STYLE}</style></head><body>{patterns()}"
        f"<h1>Plan for {escape(trace.name)}</h1><p>{escape(head)}</p>{notes}{body}</body></html>\n"
    )


def _table(plan: Plan, best: str) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in ("policy", *(title for title, _, _ in COLUMNS)))
    rows = ""
    for name in plan.outcomes:
        mark = ' class="chosen"' if name == best else ""
        rows += f"<tr{mark}>" + "".join(f"<td>{escape(c)}</td>" for c in (name, *cells(plan, name))) + "</tr>"
    least, optimum = plan.bounds, plan.optimum_usd
    bound = (
        f"<p>Clairvoyant optimum: at least {plan.monthly_usd(optimum):,.2f} USD a month. With no instance "
        f"ordered before the first request: {least.standing_usd / optimum:.2f} × that; with no more "
        f"foresight than a start-up takes: {least.lookahead_usd / optimum:.2f} ×.</p>"
    )
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>{bound}'


def _bins(plan: Plan) -> tuple[float, list[float], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    width = plan.trace.duration_s / BINS
    index = np.minimum((plan.trace.times / width).astype(np.int64), BINS - 1)
    return width, [(i + 0.5) * width / 3600.0 for i in range(BINS)], index


def _arrivals(plan: Plan) -> str:
    width, hours, index = _bins(plan)
    rates = np.bincount(index, minlength=BINS) / width
    chart = Chart((0, plan.trace.duration_s / 3600), (0, float(rates.max()) * 1.08), "hours", "requests/s")
    chart.line(list(zip(hours, rates.tolist(), strict=True)), "arrivals", 0)
    return chart.svg("Arrival rate over time")


def _capacity(plan: Plan, name: str) -> str:
    end = plan.trace.duration_s / 3600
    ready = [(at / 3600, float(count)) for at, count, _ in plan.outcomes[name].capacity] or [(0.0, 0.0)]
    best = [(minute / 60, float(size)) for minute, size in enumerate(plan.bounds.optimum_sizes)]
    most = max([count for _, count in ready] + [size for _, size in best] + [1.0])
    chart = Chart((0, end), (0, most * 1.1), "hours", "instances")
    chart.line([*best, (end, best[-1][1])], "clairvoyant optimum", 1, steps=True)
    chart.line([*ready, (end, ready[-1][1])], f"{name}: ready", 0, steps=True)
    return chart.svg("GPU instances over time")


def _shares(plan: Plan, name: str) -> str:
    _, hours, index = _bins(plan)
    served = plan.outcomes[name].served
    total = np.maximum(np.bincount(index, minlength=BINS), 1)
    chart = Chart((0, plan.trace.duration_s / 3600), (0, 1), "hours", "share")
    chart.stack(
        hours,
        [
            (label, (np.bincount(index[served == kind], minlength=BINS) / total).tolist())
            for kind, label in enumerate(SERVED_BY)
            if np.any(served == kind)
        ],
    )
    return chart.svg("Share of the requests by who answered")


def _costs(plan: Plan) -> str:
    rows = [
        (name, {part: plan.monthly_usd(usd) for part, usd in one.components_usd.items()})
        for name, one in plan.outcomes.items()
    ]
    return bars(rows, "USD a month", "Cost by component")


def _latency(plan: Plan, name: str) -> str:
    slo = plan.scenario.latency_slo_ms
    levels = np.concatenate((np.linspace(0, 99, 100), np.linspace(99.05, 100, 20)))
    shown = [one for one in (name, "all_cpu", "all_gpu") if one in plan.outcomes]
    curves = [(one, np.percentile(plan.outcomes[one].latency_ms, levels)) for one in shown]
    most = max(slo * 1.25, *(float(np.percentile(curve, 99)) for _, curve in curves))
    chart = Chart((0, most), (0, 100), "ms", "% of requests within")
    for kind, (one, curve) in enumerate(curves):
        kept = [(min(float(ms), most), float(level)) for ms, level in zip(curve, levels, strict=True)]
        chart.line(kept, one, kind)
    chart.rule(slo, f"objective {slo:g} ms")
    return chart.svg("Latency distribution")


def _frontier(plan: Plan) -> str:
    usd = {name: plan.monthly_usd(one.cost_usd) for name, one in plan.outcomes.items()}
    least = min(one.attainment for one in plan.outcomes.values()) * 100
    chart = Chart((0, max(usd.values()) * 1.1), _percent(least), "USD a month", "% in time")
    names = ""
    for number, (name, one) in enumerate(plan.outcomes.items(), 1):
        chart.dot(usd[name], one.attainment * 100, str(number))
        names += f"<li>{escape(name)}: {usd[name]:,.2f} USD, {one.attainment:.2%}</li>"
    return chart.svg("Cost against attainment by design") + f"<ol>{names}</ol>"


def _percent(least: float) -> tuple[float, float]:
    """An axis from below the least share in time, in %, to just above 100, where the dots still fit."""
    span = max(0.2, 100.0 - least)
    return max(0.0, least - 0.2 * span), 100.0 + 0.15 * span


def _swept_frontier(points: Sequence[Point]) -> tuple[str, str]:
    """turnout's cost against attainment as the objective and the threshold move."""
    rows = [point for point in points if point.sweep in ("latency_slo_ms", "threshold")]
    if not rows:
        return "", ""
    least = min(point.attainment for point in rows) * 100
    most = max(point.cost_usd for point in rows)
    chart = Chart((0, most * 1.1), _percent(least), "USD for the trace", "% in time")
    for kind, sweep in enumerate(("latency_slo_ms", "threshold")):
        line = sorted((p for p in rows if p.sweep == sweep), key=lambda p: p.value)
        if line:
            chart.line([(p.cost_usd, p.attainment * 100) for p in line], f"over {sweep}", kind)
        for point in line:
            chart.dot(point.cost_usd, point.attainment * 100, f"{point.value:g}")
    title = "The frontier over the objective and the threshold"
    return title, chart.svg(title)


def _swept(points: Sequence[Point]) -> list[tuple[str, str]]:
    titles = {
        "latency_slo_ms": "If the objective were (ms)",
        "threshold": "If the escalation threshold were",
        "gpu_usd_per_hour": "If the GPU cost (USD an hour)",
        "startup_s": "If the GPU took to start (s)",
        "traffic": "If the traffic were (times)",
    }
    made = [_swept_frontier(points)]
    for kind, title in titles.items():
        rows = [point for point in points if point.sweep == kind]
        if len(rows) < 2:
            continue
        high = max(point.regret for point in rows)
        chart = Chart(
            (min(p.value for p in rows), max(p.value for p in rows)),
            (0.0, max(1.2, high) * 1.05),
            title,
            "ratio",
        )
        chart.line([(p.value, p.regret) for p in rows], "regret", 0)
        chart.line([(p.value, p.attainment) for p in rows], "attainment", 1)
        top = max(p.cost_usd for p in rows)
        chart.line([(p.value, p.cost_usd / top) for p in rows], f"cost (1 = {top:,.4g} USD)", 2)
        made.append((title, chart.svg(title)))
    return made
