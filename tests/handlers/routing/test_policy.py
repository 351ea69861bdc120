"""Given a snapshot and a request, when a decision is made, it is the cheapest that keeps the promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handlers.errors import InvalidInput
from handlers.routing.breaker import Breaker
from handlers.routing.policy import QUEUE_SHARE, STANDBY_MARGIN_MS, decide, gpu_within_ms
from handlers.routing.types import (
    BudgetView,
    Local,
    OnMiss,
    Path,
    Priority,
    Quality,
    Reason,
    Topology,
)

from .builders import CASCADE, PRICES, request, snapshot

OPEN = Breaker(open_until=1e9)


def test_the_cheaper_of_two_feasible_paths_wins() -> None:
    awake = decide(request(), snapshot(gpu_ready=1), Local(), 0.0)
    assert (awake.path, awake.reason) == (Path.GPU, Reason.CHEAPEST_FEASIBLE)
    dear_wait = snapshot(gpu_ready=1, prices={"data_gb": 1000.0})
    decision = decide(request(payload_bytes=1_000_000), dear_wait, Local(), 0.0)
    assert (decision.path, decision.reason) == (Path.CPU, Reason.CHEAPEST_FEASIBLE)


def test_every_path_considered_is_in_the_decision() -> None:
    decision = decide(request(), snapshot(CASCADE), Local(), 0.0)
    assert [(option.path, option.escalates) for option in decision.options] == [
        (Path.CPU, False),
        (Path.CPU, True),
        (Path.GPU, False),
    ]
    assert [option.reason for option in decision.options] == [
        Reason.BELOW_CONFIDENCE,
        Reason.GPU_ASLEEP,
        Reason.GPU_ASLEEP,
    ]


def test_a_sleeping_gpu_degrades_and_says_so() -> None:
    decision = decide(request(), snapshot(CASCADE), Local(), 0.0)
    assert (decision.path, decision.escalate_below) == (Path.CPU, None)
    assert decision.degraded_below == CASCADE.threshold
    assert decision.reason is decision.degraded_reason is Reason.GPU_ASLEEP


def test_the_cpu_escalates_where_the_deadline_allows_both() -> None:
    dear_gpu = {"data_gb": 100.0}
    body = 100_000
    awake = snapshot(CASCADE, gpu_ready=1, prices=dear_gpu)
    roomy = decide(request(payload_bytes=body), awake, Local(), 0.0)
    assert (roomy.path, roomy.escalate_below) == (Path.CPU, 0.8)
    tight = decide(request(payload_bytes=body, latency_slo_ms=400.0), awake, Local(), 0.0)
    assert (tight.path, tight.escalate_below) == (Path.GPU, None)
    assert tight.options[1].reason is Reason.CASCADE_TOO_SLOW


def test_only_the_gpu_meets_a_tight_objective() -> None:
    decision = decide(request(latency_slo_ms=200.0), snapshot(gpu_ready=1), Local(), 0.0)
    assert decision.path is Path.GPU
    assert decision.options[0].reason is Reason.CPU_TOO_SLOW


def test_a_confidence_floor_moves_the_threshold() -> None:
    awake = snapshot(CASCADE, gpu_ready=1, prices={"data_gb": 100.0})
    decision = decide(request(min_confidence=0.9, payload_bytes=100_000), awake, Local(), 0.0)
    assert decision.escalate_below == 0.9
    without_gpu = decide(request(min_confidence=0.9), replace(awake, gpu=None), Local(), 0.0)
    assert without_gpu.degraded_below == 0.9
    assert without_gpu.degraded_reason is Reason.GPU_ABSENT


def test_quality_chooses_whose_answer_will_do() -> None:
    awake = snapshot(CASCADE, gpu_ready=1, prices={"data_gb": 1000.0})
    cheap = decide(request(quality=Quality.CHEAP, payload_bytes=1_000_000), awake, Local(), 0.0)
    assert (cheap.path, cheap.escalate_below, cheap.degraded_below) == (Path.CPU, None, None)
    best = decide(request(quality=Quality.BEST, payload_bytes=1_000_000), awake, Local(), 0.0)
    assert (best.path, best.standby_degrades, best.degraded_below) == (Path.GPU, True, 1.0)


def test_a_cost_ceiling_forbids_the_dearer_path() -> None:
    awake = snapshot(gpu_ready=1)
    free_choice = decide(request(), awake, Local(), 0.0)
    ceiling = 0.5 * (free_choice.options[0].cost_usd + free_choice.options[1].cost_usd)
    decision = decide(request(max_cost_usd=ceiling), awake, Local(), 0.0)
    assert decision.options[0].reason is Reason.OVER_COST_CEILING
    assert decision.path is Path.GPU


@pytest.mark.parametrize("path", list(Path))
def test_a_forced_path_is_taken(path: Path) -> None:
    decision = decide(request(path=path), snapshot(CASCADE, gpu_ready=1), Local(), 0.0)
    assert (decision.path, decision.reason, decision.escalate_below) == (path, Reason.FORCED, None)


def test_a_forced_path_that_sleeps_falls_back() -> None:
    decision = decide(request(path=Path.GPU), snapshot(), Local(), 0.0)
    assert (decision.path, decision.reason, decision.degraded_below) == (Path.CPU, Reason.GPU_ASLEEP, 1.0)


def test_hopeless_work_is_answered_best_effort_or_refused_as_asked() -> None:
    best_effort = decide(request(latency_slo_ms=10.0), snapshot(gpu_ready=1), Local(), 0.0)
    assert best_effort.admitted
    assert best_effort.reason is Reason.NO_FEASIBLE_PATH_BEST_EFFORT
    refused = decide(request(latency_slo_ms=10.0, on_miss=OnMiss.REFUSE), snapshot(gpu_ready=1), Local(), 0.0)
    assert not refused.admitted
    assert refused.reason is Reason.NO_FEASIBLE_PATH_REFUSED
    assert refused.retry_after_s is not None
    assert refused.retry_after_s >= 1.0


def test_time_already_spent_counts_against_the_objective() -> None:
    decision = decide(request(elapsed_ms=300.0), snapshot(gpu_ready=1), Local(), 0.0)
    assert decision.options[0].reason is Reason.CPU_TOO_SLOW
    assert decision.deadline_ms == 600.0


def test_an_open_breaker_takes_a_path_out_but_never_the_last_one() -> None:
    decision = decide(request(), snapshot(gpu_ready=1), Local(gpu_breaker=OPEN), 0.0)
    assert (decision.path, decision.options[1].reason) == (Path.CPU, Reason.BREAKER_OPEN)
    alone = decide(request(), replace(snapshot(), gpu=None), Local(cpu_breaker=OPEN), 0.0)
    assert (alone.path, alone.admitted) == (Path.CPU, True)
    refused = decide(
        request(on_miss=OnMiss.REFUSE), replace(snapshot(), gpu=None), Local(cpu_breaker=OPEN), 1e9 - 7.0
    )
    assert (refused.admitted, refused.retry_after_s) == (False, pytest.approx(7.0))


def test_the_standby_starts_at_once_colocated_and_late_in_a_front() -> None:
    colocated = decide(request(), snapshot(gpu_ready=1), Local(), 0.0)
    assert (colocated.standby, colocated.standby_after_ms) == (True, 0.0)
    split = decide(request(), snapshot(gpu_ready=1, topology=Topology.SPLIT), Local(), 0.0)
    assert split.standby_after_ms == pytest.approx(600.0 - split.options[0].predicted_ms - STANDBY_MARGIN_MS)


def test_waiting_costs_the_memory_of_the_function_that_waits() -> None:
    colocated = decide(request(), snapshot(gpu_ready=1), Local(), 0.0).options[-1].cost_usd
    split = (
        decide(request(), snapshot(gpu_ready=1, topology=Topology.SPLIT), Local(), 0.0).options[-1].cost_usd
    )
    fees = 1.2e-6
    assert (colocated - fees) / (split - fees) == pytest.approx(3072 / 256, rel=1e-6)


def test_a_full_endpoint_costs_the_next_instance_and_makes_wait() -> None:
    idle, full = (
        decide(request(), snapshot(gpu_ready=1), Local(gpu_in_flight=n), 0.0).options[1] for n in (0.0, 24.0)
    )
    assert full.cost_usd > idle.cost_usd
    assert full.predicted_ms > idle.predicted_ms + 200.0


def test_low_priority_leaves_slots_of_a_bounded_endpoint_free() -> None:
    awake = snapshot(gpu_ready=1)
    assert awake.gpu is not None
    bounded = replace(awake, gpu=replace(awake.gpu, in_flight=6.0, max_in_flight=10))
    reasons = [decide(request(priority=p), bounded, Local(), 0.0).options[1].reason for p in Priority]
    assert reasons == [Reason.GPU_BUSY, Reason.FEASIBLE, Reason.FEASIBLE]


def test_a_low_budget_forbids_what_costs_more_than_the_cpu_and_a_spent_one_everything() -> None:
    awake = snapshot(CASCADE, gpu_ready=1, prices={"data_gb": 1000.0})
    asked = request(payload_bytes=1_000_000)
    low = decide(asked, awake, Local(budgets=(BudgetView("model", 9.2, 10.0, 60.0),)), 0.0)
    assert (low.path, low.escalate_below) == (Path.CPU, None)
    assert low.degraded_reason is Reason.BUDGET_LOW
    spent = decide(asked, awake, Local(budgets=(BudgetView("model", 10.0, 10.0, 60.0),)), 0.0)
    assert (spent.admitted, spent.reason, spent.retry_after_s) == (False, Reason.BUDGET_EXHAUSTED, 60.0)


def test_hedging_needs_a_token_and_time() -> None:
    awake = snapshot(gpu_ready=1)
    assert decide(request(), awake, Local(), 0.0).hedge_after_ms is None
    hedged = decide(request(), awake, Local(hedge_tokens=1.0), 0.0)
    assert hedged.hedge_after_ms is not None
    assert hedged.hedge_after_ms < 600.0
    tight = decide(request(latency_slo_ms=80.0), awake, Local(hedge_tokens=1.0), 0.0)
    assert tight.hedge_after_ms is None


def test_exploration_is_a_bounded_share_of_the_draws() -> None:
    awake = snapshot(gpu_ready=1)
    paths = [decide(request(draw=i / 1000.0), awake, Local(), 0.0).path for i in range(1000)]
    assert paths.count(Path.CPU) == 10


def test_policies_are_picked_by_name() -> None:
    picked = {
        name: decide(request(draw=0.4), snapshot(gpu_ready=1, policy=name), Local(), 0.0).path
        for name in ("turnout", "cpu_only", "gpu_only", "static_split", "latency_only")
    }
    assert picked == {
        "turnout": Path.GPU,
        "cpu_only": Path.CPU,
        "gpu_only": Path.GPU,
        "static_split": Path.GPU,
        "latency_only": Path.GPU,
    }
    late = decide(request(draw=0.6), snapshot(gpu_ready=1, policy="static_split"), Local(), 0.0)
    assert late.path is Path.CPU
    with pytest.raises(InvalidInput, match="latency_only"):
        snapshot(policy="cheapest")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_slo_ms", 0.0),
        ("latency_slo_ms", float("nan")),
        ("latency_slo_ms", float("inf")),
        ("latency_slo_ms", -5.0),
        ("attainment", 1.0),
        ("attainment", float("nan")),
        ("items", 0),
        ("elapsed_ms", float("nan")),
        ("max_cost_usd", 0.0),
        ("max_cost_usd", float("nan")),
        ("min_confidence", 1.1),
        ("min_confidence", float("nan")),
    ],
)
def test_numbers_that_make_no_sense_are_rejected(field: str, value: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        request(**{field: value})
    assert refused.value.field == field


def test_those_who_may_do_without_leave_the_queue_to_escalations() -> None:
    free = decide(request(), snapshot(gpu_ready=1), Local(), 0.0)
    mixed = decide(request(), snapshot(CASCADE, gpu_ready=1), Local(), 0.0)
    best = decide(request(quality=Quality.BEST), snapshot(CASCADE, gpu_ready=1), Local(), 0.0)
    assert free.path is mixed.path is best.path is Path.GPU
    assert gpu_within_ms(mixed) == max(QUEUE_SHARE * gpu_within_ms(free), mixed.gpu_needs_ms)
    assert gpu_within_ms(best) == gpu_within_ms(free)


def test_a_batch_is_shared_where_that_is_cheaper_and_sent_whole_where_that_is() -> None:
    # The seventeenth item costs the GPU one more batch, and the CPU less time than it waits anyway.
    made = decide(request(items=17, latency_slo_ms=5_000.0), snapshot(gpu_ready=1), Local(), 0.0)
    assert (made.path, made.gpu_items, made.reason) == (Path.GPU, 16, Reason.CHEAPEST_FEASIBLE)
    assert made.taken is not None
    assert made.taken.cost_usd == min(option.cost_usd for option in made.options if option.feasible)
    whole = decide(request(items=8, latency_slo_ms=5_000.0), snapshot(gpu_ready=1), Local(), 0.0)
    assert (whole.path, whole.gpu_items) == (Path.GPU, 0)
    one = decide(request(), snapshot(gpu_ready=1), Local(), 0.0)
    assert not any(option.gpu_items for option in one.options)


def test_a_front_sends_the_batch_whole_because_its_wait_is_cheap_unless_time_is_short() -> None:
    front = snapshot(gpu_ready=1, topology=Topology.SPLIT)
    assert decide(request(items=17, latency_slo_ms=29_000.0), front, Local(), 0.0).gpu_items == 0
    assert decide(request(items=17, latency_slo_ms=500.0), front, Local(), 0.0).gpu_items == 16


def test_a_large_body_passes_the_front_door_as_several_requests() -> None:
    costs = [
        decide(request(payload_bytes=size), snapshot(), Local(), 0.0).options[0].cost_usd
        for size in (0, 524_288, 524_289, 2_000_000)
    ]
    door = PRICES["front_door_request"]
    assert [round((cost - costs[0]) / door, 6) for cost in costs] == [0.0, 0.0, 1.0, 3.0]


def test_a_forced_path_and_the_best_quality_are_not_shared() -> None:
    made = snapshot(gpu_ready=1)
    assert decide(request(items=17, path=Path.GPU), made, Local(), 0.0).gpu_items == 0
    assert decide(request(items=17, quality=Quality.BEST), made, Local(), 0.0).gpu_items == 0
