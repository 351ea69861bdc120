"""A plan: every design on the same trace with the same chance, the bounds, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from handlers.routing.capacity_prices import capacity_economics

from .designs import NAMES, awake_prices, best_fixed, design
from .draws import draw
from .engine import replay
from .optimum import bound_prices, clairvoyant_usd, size_needed
from .outcome import Outcome
from .scenario import Scenario
from .slots import LOOKAHEAD_THRESHOLDS, rule_usd
from .trace import Trace

EXPLORE_SHARE = 0.01
MONTH_S = 365.25 / 12 * 86400.0
SLOT_S = 1.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The result: outcomes by policy, the two bounds in USD for the trace, and how long it took."""

    scenario: Scenario
    trace: Trace
    outcomes: dict[str, Outcome]
    optimum_usd: float
    optimum_sizes: list[int]
    lookahead_usd: float
    wall_s: float
    seed: int

    def regret(self, name: str) -> float:
        """A policy's cost over the clairvoyant optimum's."""
        return self.outcomes[name].cost_usd / self.optimum_usd

    def monthly_usd(self, usd: float) -> float:
        """The same for a month of such traffic."""
        return usd * MONTH_S / self.trace.duration_s


def quiet(_policy: str, _done: int, _of: int) -> None:
    """No progress shown."""


def make_plan(
    scenario: Scenario,
    trace: Trace,
    names: Sequence[str] = NAMES,
    seed: int = 0,
    progress: Progress = quiet,
) -> Plan:
    """Replay every named design over the trace, and work out the bounds."""
    began = time.perf_counter()
    counts = trace.counts(SLOT_S)
    draws = draw(scenario, trace.requests, EXPLORE_SHARE, seed)
    outcomes: dict[str, Outcome] = {}
    for name in names:

        def done(count: int, policy: str = name) -> None:
            progress(policy, count, trace.requests)

        if name == "best_fixed" and scenario.has_gpu:
            near = best_fixed(scenario, counts)
            tried = [
                replay(scenario, trace, design(name, scenario, counts, count), draws, seed, done)
                for count in range(max(0, near - 1), near + 2)
            ]
            outcomes[name] = min(tried, key=lambda one: (one.attainment < scenario.attainment, one.cost_usd))
        else:
            outcomes[name] = replay(scenario, trace, design(name, scenario, counts), draws, seed, done)
    optimum, sizes, lookahead = bounds(scenario, trace)
    return Plan(scenario, trace, outcomes, optimum, sizes, lookahead, time.perf_counter() - began, seed)


def bounds(scenario: Scenario, trace: Trace, lookahead: bool = True) -> tuple[float, list[int], float]:
    """The clairvoyant optimum (USD, its sizes by second), and the best rule with start-up-time lookahead."""
    counts = trace.counts(SLOT_S)
    prices = bound_prices(scenario)
    most = size_needed(counts, SLOT_S, prices, scenario.max_instances) if scenario.has_gpu else 0
    optimum, sizes = clairvoyant_usd(counts, SLOT_S, prices, most)
    if not (scenario.has_gpu and lookahead):
        return optimum, sizes.tolist(), optimum
    awake = awake_prices(scenario)
    rule = capacity_economics(scenario.profile, scenario.economics, topology=None, max_instances=most)
    ahead = min(
        rule_usd(
            counts,
            SLOT_S,
            awake,
            replace(rule, threshold=threshold, capacity_rps=awake.rate_rps),
            delay_s=0.0,
            tick_slots=60,
        )
        for threshold in LOOKAHEAD_THRESHOLDS
    )
    return optimum, sizes.tolist(), ahead


def summary(plan: Plan) -> dict[str, object]:
    """The plan as plain JSON types."""
    return {
        "trace": plan.trace.name,
        "profile": plan.scenario.profile.name,
        "requests": plan.trace.requests,
        "duration_s": plan.trace.duration_s,
        "seed": plan.seed,
        "wall_s": plan.wall_s,
        "latency_slo_ms": plan.scenario.latency_slo_ms,
        "attainment_objective": plan.scenario.attainment,
        "optimum_usd": plan.optimum_usd,
        "lookahead_usd": plan.lookahead_usd,
        "lookahead_regret": plan.lookahead_usd / plan.optimum_usd,
        "policies": {name: policy_summary(plan, name) for name in plan.outcomes},
        "notes": list(plan.trace.notes),
    }


def policy_summary(plan: Plan, name: str) -> dict[str, object]:
    """One policy's numbers."""
    one = plan.outcomes[name]
    requests = plan.trace.requests
    return {
        "cost_usd": one.cost_usd,
        "usd_per_month": plan.monthly_usd(one.cost_usd),
        "usd_per_million": one.cost_usd / requests * 1e6,
        "regret": plan.regret(name),
        "attainment": one.attainment,
        "p50_ms": one.percentile_ms(50),
        "p95_ms": one.percentile_ms(95),
        "p99_ms": one.percentile_ms(99),
        "max_ms": one.percentile_ms(100),
        "accuracy": one.accuracy,
        "degraded": one.degraded,
        "escalations": one.escalations,
        "missed_escalations": one.missed,
        "throttled": one.throttled,
        "cold_starts": one.cold_starts,
        "gpu_hours": one.gpu_hours,
        "gpu_starts": one.gpu_starts,
        "lambda_gb_s": one.lambda_gb_s,
        "components_usd": one.components_usd,
    }
