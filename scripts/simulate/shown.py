"""A plan on the terminal: one table, a few sentences, the configuration to paste, the sweeps."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .advice import Advice
from .plan import Plan, policy_summary
from .sweeps import Point

COLUMNS = (
    ("USD/month", "usd_per_month", ",.2f"),
    ("USD/million", "usd_per_million", ",.2f"),
    ("regret", "regret", ".2f"),
    ("in time", "attainment", ".2%"),
    ("p50", "p50_ms", ",.0f"),
    ("p95", "p95_ms", ",.0f"),
    ("p99", "p99_ms", ",.0f"),
    ("max ms", "max_ms", ",.0f"),
    ("right", "accuracy", ".1%"),
    ("degraded", "degraded", ",d"),
    ("escalated", "escalations", ",d"),
    ("cold", "cold_starts", ",d"),
    ("GPU h", "gpu_hours", ".2f"),
    ("starts", "gpu_starts", "d"),
    ("GB-s", "lambda_gb_s", ",.0f"),
)


def cells(plan: Plan, name: str) -> list[str]:
    """One policy's row as text."""
    numbers = policy_summary(plan, name)
    return [format(numbers[key], form) for _, key, form in COLUMNS]


def show(console: Console, plan: Plan, advice: Advice, points: Sequence[Point]) -> None:
    """Print the whole plan."""
    trace, scenario = plan.trace, plan.scenario
    console.print(
        f"{trace.name}: {trace.requests:,} requests in {trace.duration_s / 3600:.2f} h, "
        f"{trace.rate_rps:.3g}/s on average, {trace.counts(1.0).max():.0f} in the busiest second. "
        f"Profile {scenario.profile.name}, objective {scenario.latency_slo_ms:g} ms for "
        f"{scenario.attainment:.1%}.",
        highlight=False,
    )
    for note in trace.notes:
        console.print(f"  note: {note}", highlight=False, markup=False)
    table = Table(show_edge=False, pad_edge=False, box=None)
    table.add_column("policy", no_wrap=True)
    for title, _, _ in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for name in plan.outcomes:
        table.add_row(name, *cells(plan, name))
    console.print(table)
    least, optimum = plan.bounds, plan.optimum_usd
    console.print(
        f"clairvoyant optimum: at least {plan.monthly_usd(optimum):,.2f} USD/month; "
        f"with no instance ordered before the first request {least.standing_usd / optimum:.2f} × that, "
        f"with no more foresight than a start-up takes {least.lookahead_usd / optimum:.2f} ×.",
        highlight=False,
    )
    console.print()
    for sentence in advice.sentences:
        console.print(sentence, highlight=False, markup=False)
    console.print("\nturnout.toml:\n", highlight=False)
    console.print(advice.toml, highlight=False, markup=False)
    if points:
        _sweeps(console, points)


def _sweeps(console: Console, points: Sequence[Point]) -> None:
    table = Table(show_edge=False, pad_edge=False, box=None, title="turnout, one thing changed at a time")
    for title in ("what", "value", "USD", "regret", "in time", "right", "GPU h"):
        table.add_column(title, justify="left" if title == "what" else "right", no_wrap=True)
    for point in points:
        table.add_row(
            point.sweep,
            f"{point.value:.4g}",
            f"{point.cost_usd:,.4g}",
            f"{point.regret:.2f}",
            f"{point.attainment:.2%}",
            f"{point.accuracy:.1%}",
            f"{point.gpu_hours:.2f}",
        )
    console.print(table)
