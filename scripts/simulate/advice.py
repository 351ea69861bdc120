"""What a plan means, in plain words, with the configuration to paste."""

from __future__ import annotations

from dataclasses import dataclass

from handlers.routing.capacity_prices import capacity_economics, path_prices
from handlers.routing.snapshot import Topology

from .plan import Plan
from .scenario import Scenario

CANDIDATES = {
    "turnout": "auto",
    "turnout_colocated": "colocated",
    "turnout_split": "split",
    "all_cpu": "colocated",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """The design to take, why, and its lines of turnout.toml."""

    policy: str
    sentences: tuple[str, ...]
    toml: str


def break_even_rps(scenario: Scenario, topology: Topology) -> float:
    """Requests/s above which one instance that runs all the time beats the CPU; inf where none can.

    λ* = E / (3600 · (c_cpu − c_gpu)), both prices in the given topology, missed escalations counted.
    """
    prices = path_prices(scenario.profile, scenario.economics, topology)
    share = scenario.escalation_share
    saved = prices.cpu_usd - prices.gpu_usd + share * prices.missed_usd
    if not scenario.has_gpu or saved <= 0.0:
        return float("inf")
    return scenario.economics.gpu_second_usd() / saved


def advise(plan: Plan) -> Advice:
    """The cheapest of turnout's designs that meets the objective, else the one that comes nearest."""
    scenario = plan.scenario
    mine = [name for name in CANDIDATES if name in plan.outcomes]
    meeting = [name for name in mine if plan.outcomes[name].attainment >= scenario.attainment]
    if meeting:
        best = min(meeting, key=lambda name: plan.outcomes[name].cost_usd)
    else:
        best = max(mine or plan.outcomes, key=lambda name: plan.outcomes[name].attainment)
    # Where no GPU is ever started the designs cost the same; the simplest that may start one is kept.
    cpu_usd = plan.outcomes[best].cost_usd
    if best == "all_cpu" and "turnout" in meeting and plan.outcomes["turnout"].cost_usd <= 1.005 * cpu_usd:
        best = "turnout"
    one = plan.outcomes[best]
    month = plan.monthly_usd(one.cost_usd)
    verdict = (
        f"Take {best}: about {month:,.2f} USD a month for such traffic, {plan.regret(best):.2f} × the "
        f"least that was possible with the future known; {one.attainment:.2%} of requests within "
        f"{scenario.latency_slo_ms:g} ms (asked: {scenario.attainment:.2%})."
    )
    lines = [verdict]
    others = [name for name in plan.outcomes if name not in CANDIDATES and name != "clairvoyant"]
    if others:
        rival = min(others, key=lambda name: plan.outcomes[name].cost_usd)
        other = plan.outcomes[rival]
        hindsight = "; its count was chosen with hindsight." if rival == "best_fixed" else "."
        lines.append(
            f"The cheapest of the other designs is {rival} at {plan.monthly_usd(other.cost_usd):,.2f} "
            f"USD a month with {other.attainment:.2%} in time{hindsight}"
        )
    if not meeting:
        lines.append(_why_missed(plan, best))
    lines += _gpu_sentences(plan, best)
    lines.append(_assumed(plan.scenario))
    return Advice(best, tuple(lines), _toml(plan, best))


def _why_missed(plan: Plan, best: str) -> str:
    one, scenario = plan.outcomes[best], plan.scenario
    cold_share = one.cold_starts / plan.trace.requests
    if scenario.profile.cpu.service.at(scenario.attainment) > scenario.latency_slo_ms:
        return "No design meets the objective: the CPU alone is slower than it. Raise it, or the memory."
    if cold_share > 1.0 - scenario.attainment:
        return (
            f"No design meets the objective: bursts start {one.cold_starts} sandboxes cold "
            f"({cold_share:.1%} of the requests), and {scenario.profile.cpu.init_ms:g} ms of start miss it. "
            "Provisioned concurrency or SnapStart is what helps."
        )
    return "No design meets the objective on this trace."


def _assumed(scenario: Scenario) -> str:
    cloud = scenario.cloud
    said = f"Assumed, not measured: a front starts cold in {cloud.front_init_ms:g} ms"
    if cloud.snap_start is not None:
        said += f", SnapStart restores a sandbox in {cloud.snap_start.restore_ms:g} ms"
    return f"{said}, an idle sandbox lives {cloud.keep_alive_s / 60.0:g} minutes."


def _gpu_sentences(plan: Plan, best: str) -> list[str]:
    scenario = plan.scenario
    if not scenario.has_gpu:
        return ["There is no GPU in this profile."]
    split, colocated = (break_even_rps(scenario, t) for t in (Topology.SPLIT, Topology.COLOCATED))
    rate = capacity_economics(scenario.profile, scenario.economics, topology=None).capacity_rps
    sentence = f"One GPU instance serves {rate:.3g} requests/s and pays from {split:.3g} on (split)"
    sentence += f", {colocated:.3g} colocated" if colocated < float("inf") else "; colocated it never pays"
    mean = plan.trace.rate_rps
    one = plan.outcomes[best]
    said = [f"{sentence}; this traffic has {mean:.3g} on average."]
    if one.gpu_hours > 0:
        waste = plan.monthly_usd(one.components_usd["GPU starts"])
        said.append(
            f"The GPU ran {one.gpu_hours:.2f} instance-hours, in {one.gpu_starts} "
            f"{'start' if one.gpu_starts == 1 else 'starts'} ({waste:,.2f} USD a month went into starting)."
        )
    else:
        said.append("The GPU never earned its price here; it stays at zero and costs nothing.")
    return said


def _toml(plan: Plan, best: str) -> str:
    scenario = plan.scenario
    name = "".join(c if c.isalnum() else "-" for c in scenario.profile.name.lower()) or "model"
    lines = [
        f"[models.{name}]",
        f'recipe = "{scenario.recipe}"' if scenario.recipe else '# recipe = "…": what builds the model',
        f"memory_mb = {scenario.economics.model_memory_mb}",
        f"front_memory_mb = {scenario.economics.front_memory_mb}",
        f"latency_slo_ms = {scenario.latency_slo_ms:g}",
        f"attainment = {scenario.attainment:g}",
        'policy = "' + ("cpu_only" if best == "all_cpu" else "turnout") + '"',
        f'topology = "{CANDIDATES.get(best, "auto")}"',
    ]
    if best != "all_cpu" and scenario.has_gpu:
        most = max((ready + starting for _, ready, starting in plan.outcomes[best].capacity), default=1)
        lines += [
            "",
            f"[models.{name}.gpu]",
            f'instance_type = "{scenario.instance_type}"'
            if scenario.instance_type
            else f'# instance_type = "…": planned with one at {scenario.economics.gpu_hour:g} USD an hour',
            "min_instances = 0",
            f"max_instances = {max(1, most)}",
            f"missed_escalation_usd = {scenario.economics.missed_escalation_usd:g}",
        ]
    switch = "false" if scenario.cloud.snap_start is None else "true"
    lines += ["", f"# and in the stage's table: snapstart = {switch}"]
    return "\n".join(lines) + "\n"
