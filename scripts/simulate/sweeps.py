"""How a plan moves with what is uncertain: GPU price, start-up time, objective, traffic, threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from handlers.routing.snapshot import NOMINAL_THRESHOLD

from .designs import design
from .draws import draw
from .engine import replay
from .plan import EXPLORE_SHARE, SLOT_S, bounds
from .scenario import Scenario
from .trace import Trace

PRICE_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
STARTUP_FACTORS = (0.2, 0.5, 1.0, 2.0, 4.0)
SLO_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
SCALES = (0.1, 0.3, 1.0, 3.0, 10.0)
MOST_REQUESTS = 2_000_000


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep: what was changed to what, and turnout's result there."""

    sweep: str
    value: float
    cost_usd: float
    regret: float
    attainment: float
    accuracy: float
    gpu_hours: float


def sweep(
    scenario: Scenario, trace: Trace, seed: int, progress: Callable[[str], None] = lambda _: None
) -> list[Point]:
    """Replay turnout at every point; each sweep changes one thing and leaves the rest as planned."""
    cases: list[tuple[str, float, Scenario, Trace]] = []
    gpu = scenario.profile.gpu
    if gpu is not None and scenario.has_gpu:
        hour = scenario.economics.gpu_hour
        cases += [
            ("gpu_usd_per_hour", hour * f, scenario.priced(gpu_hour=hour * f), trace) for f in PRICE_FACTORS
        ]
        for factor in STARTUP_FACTORS:
            slower = replace(scenario.profile, gpu=replace(gpu, startup_s=gpu.startup_s * factor))
            cases.append(("startup_s", gpu.startup_s * factor, replace(scenario, profile=slower), trace))
    for factor in SLO_FACTORS:
        slo_ms = scenario.latency_slo_ms * factor
        cases.append(("latency_slo_ms", slo_ms, replace(scenario, latency_slo_ms=slo_ms), trace))
    for factor in SCALES:
        if trace.requests * factor <= MOST_REQUESTS:
            cases.append(("traffic", factor, scenario, trace.scaled(factor, seed)))
    if scenario.cascade is not None:
        for point in scenario.cascade.curve:
            at = replace(
                scenario.cascade,
                threshold=point.threshold,
                escalation_share=point.escalation_share,
                accuracy=point.accuracy,
            )
            profile = replace(scenario.profile, escalation_share=point.escalation_share)
            cases.append(
                ("threshold", point.threshold, replace(scenario, cascade=at, profile=profile), trace)
            )
    elif scenario.profile.escalation_share > 0.0:
        cases.append(("threshold", NOMINAL_THRESHOLD, scenario, trace))
    points = []
    for kind, value, changed, changed_trace in cases:
        progress(kind)
        points.append(_point(kind, value, changed, changed_trace, seed))
    return points


def _point(kind: str, value: float, scenario: Scenario, trace: Trace, seed: int) -> Point:
    draws = draw(scenario, trace.requests, EXPLORE_SHARE, seed)
    one = replay(scenario, trace, design("turnout", scenario, trace.counts(SLOT_S)), draws, seed)
    regret = one.cost_usd / bounds(scenario, trace, draws).optimum_usd
    return Point(kind, value, one.cost_usd, regret, one.attainment, one.accuracy, one.gpu_hours)
