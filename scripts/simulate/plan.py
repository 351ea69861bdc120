"""A plan: every design on the same trace with the same chance, the bounds, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from handlers.routing.capacity import THRESHOLDS

from .designs import NAMES, best_fixed, design
from .draws import Draws, draw
from .engine import replay
from .optimum import clairvoyant_usd, rule_on
from .outcome import Outcome
from .relaxed import block_costs, blocks_of_start, size_needed, start_usd
from .scenario import Scenario, SnapStart
from .trace import Trace

EXPLORE_SHARE = 0.01
MONTH_S = 365.25 / 12 * 86400.0
SLOT_S = 1.0

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the trace costs at least, USD, by how much is known: `optimum_sizes` holds a count per minute.

    `optimum_usd`: the whole future, in time to order before the trace begins. `standing_usd`: the whole
    future, but nothing was ordered before the first request. `lookahead_usd`: as far ahead as a start takes.
    """

    optimum_usd: float
    optimum_sizes: list[int]
    standing_usd: float
    lookahead_usd: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The result: outcomes by policy, the bounds in USD for the trace, and how long it took."""

    scenario: Scenario
    trace: Trace
    outcomes: dict[str, Outcome]
    bounds: Bounds
    wall_s: float
    seed: int

    @property
    def optimum_usd(self) -> float:
        """The clairvoyant optimum for the trace."""
        return self.bounds.optimum_usd

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
    *,
    choose_snap_start: bool = True,
) -> Plan:
    """Replay every named design over the trace, and work out the bounds.

    Whether Lambda restores or starts sandboxes is chosen for turnout, and then the same for all (`_suited`);
    with `choose_snap_start` False it stays as the scenario has it.
    """
    began = time.perf_counter()
    counts = trace.counts(SLOT_S)
    draws = draw(scenario, trace.requests, EXPLORE_SHARE, seed)
    least = bounds(scenario, trace, draws)

    def tried(name: str, planned: Scenario) -> Outcome:
        def through(known: Sequence[int] | None) -> Outcome:
            made = design(name, planned, counts, known)
            return replay(planned, trace, made, draws, seed, lambda at: progress(name, at, trace.requests))

        if name == "best_fixed" and planned.has_gpu:
            near = best_fixed(planned, counts)
            some = [through([count]) for count in range(max(0, near - 1), near + 2)]
            return min(some, key=lambda one: (one.attainment < planned.attainment, one.cost_usd))
        return through(least.optimum_sizes if name == "clairvoyant" else None)

    known: dict[str, Outcome] = {}
    if choose_snap_start:
        scenario, known["turnout"] = _suited(scenario, lambda planned: tried("turnout", planned))
    outcomes = {name: known.get(name) or tried(name, scenario) for name in names}
    return Plan(scenario, trace, outcomes, least, time.perf_counter() - began, seed)


def _suited(scenario: Scenario, turnout: Callable[[Scenario], Outcome]) -> tuple[Scenario, Outcome]:
    """With SnapStart where the objective is missed without it and less with it: it has its price."""
    plain = turnout(scenario)
    slower = scenario.profile.cpu.init_ms > SnapStart().restore_ms
    if plain.attainment >= scenario.attainment or scenario.cloud.snap_start is not None or not slower:
        return scenario, plain
    restoring = replace(scenario, cloud=replace(scenario.cloud, snap_start=SnapStart()))
    restored = turnout(restoring)
    return (restoring, restored) if restored.attainment > plain.attainment else (scenario, plain)


def bounds(scenario: Scenario, trace: Trace, draws: Draws) -> Bounds:
    """The clairvoyant optimum in the relaxed replay (see `relaxed`), and with less foresight."""
    costs = block_costs(scenario, trace, draws, size_needed(scenario, trace))
    start = start_usd(scenario)
    optimum, sizes = clairvoyant_usd(costs.entered, start, costs.stayed)
    standing, _ = clairvoyant_usd(costs.entered, start, costs.stayed, blocks_of_start(scenario))
    ahead = min(rule_on(costs.stayed, start, threshold) for threshold in THRESHOLDS)
    return Bounds(optimum, sizes.tolist(), standing, ahead)


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
        "snapstart": plan.scenario.cloud.snap_start is not None,
        "optimum_usd": plan.optimum_usd,
        "standing_start_usd": plan.bounds.standing_usd,
        "lookahead_usd": plan.bounds.lookahead_usd,
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
