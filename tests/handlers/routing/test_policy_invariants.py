"""Whatever the profile, the prices, the request and the load: what always holds of a decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, assume, given, settings

from handlers.routing.breaker import CLOSED, Breaker
from handlers.routing.budget import BudgetView
from handlers.routing.forecast import forecast
from handlers.routing.policy import decide
from handlers.routing.select import SELECTORS, turnout
from handlers.routing.types import (
    Cascade,
    CurvePoint,
    Economics,
    Local,
    OnMiss,
    Path,
    Priority,
    Profile,
    Quality,
    Reason,
    Request,
    Snapshot,
    Topology,
)

MS = st.floats(0.05, 5_000.0)
OPEN = Breaker(open_until=1e9)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    cpu, gpu = sorted(draw(st.tuples(MS, MS))), draw(MS)
    network = sorted(draw(st.tuples(st.floats(0.1, 50.0), st.floats(0.1, 50.0))))
    raw: dict[str, Any] = {
        "cpu": {
            "memory_mb": 1024,
            "service_ms": {"p50": cpu[0], "p99": cpu[1]},
            "batch_ms": {"1": cpu[0], "8": cpu[0] * draw(st.floats(1.0, 8.0))},
            "init_ms": draw(MS),
            "accuracy": draw(st.floats(0.5, 1.0)),
        },
        "gpu": {
            "batch_ms": {"1": gpu, "4": gpu * draw(st.floats(1.0, 4.0))},
            "max_batch": draw(st.sampled_from([1, 4])),
            "max_wait_ms": draw(st.floats(0.0, 20.0)),
            "accuracy": draw(st.floats(0.5, 1.0)),
        },
        "network_ms": {"p50": network[0], "p99": network[1]},
    }
    return Profile.parse(raw)


@st.composite
def economies(draw: st.DrawFn) -> Economics:
    return Economics(
        lambda_gb_s=draw(st.floats(1e-6, 1e-4)),
        lambda_request=draw(st.floats(0.0, 1e-6)),
        front_door_request=draw(st.floats(0.0, 5e-6)),
        model_memory_mb=draw(st.integers(512, 10240)),
        front_memory_mb=draw(st.integers(128, 512)),
        gpu_hour=draw(st.floats(0.0, 60.0)),
        data_gb=draw(st.floats(0.0, 0.1)),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    points = [CurvePoint(0.5, 0.01, 0.9), CurvePoint(0.8, 0.1, 0.95), CurvePoint(0.95, 0.5, 0.97)]
    cascade = draw(st.none() | st.just(Cascade(0.8, 0.1, 0.95, tuple(points))))
    made = Snapshot.from_profile(
        draw(profiles()),
        draw(economies()),
        cascade=cascade,
        topology=draw(st.sampled_from(list(Topology))),
        gpu_ready=draw(st.integers(0, 3)),
        gpu_starting=draw(st.integers(0, 2)),
    )
    if draw(st.integers(0, 5)) == 0:
        return replace(made, gpu=None, latencies=replace(made.latencies, gpu=None))
    assert made.gpu is not None
    bound = draw(st.sampled_from([0, 8]))
    return replace(made, gpu=replace(made.gpu, max_in_flight=bound))


requests = st.builds(
    Request,
    latency_slo_ms=st.floats(1.0, 20_000.0),
    attainment=st.sampled_from([0.5, 0.9, 0.99, 0.999]),
    items=st.integers(1, 40),
    payload_bytes=st.integers(0, 6_000_000),
    max_cost_usd=st.none() | st.floats(1e-7, 1e-2),
    min_confidence=st.none() | st.floats(0.0, 1.0),
    quality=st.none() | st.sampled_from(list(Quality)),
    path=st.none(),
    on_miss=st.sampled_from(list(OnMiss)),
    priority=st.sampled_from(list(Priority)),
    elapsed_ms=st.just(0.0),
    draw=st.just(1.0),
)
locals_ = st.builds(
    Local,
    cold=st.booleans(),
    cpu_breaker=st.sampled_from([CLOSED, CLOSED, OPEN]),
    gpu_breaker=st.sampled_from([CLOSED, CLOSED, OPEN]),
    gpu_in_flight=st.none() | st.floats(0.0, 100.0),
    latencies=st.none(),
    hedge_tokens=st.sampled_from([0.0, 1.0]),
    budgets=st.sampled_from([(), (BudgetView("m", 0.85, 1.0, 9.0),), (BudgetView("m", 0.97, 1.0, 9.0),)]),
)


@given(requests, snapshots(), locals_)
def test_never_an_infeasible_path_when_a_feasible_one_exists(
    request: Request, snapshot: Snapshot, local: Local
) -> None:
    decision = decide(request, snapshot, local, 0.0)
    feasible = [option for option in decision.options if option.feasible]
    if feasible:
        assert decision.admitted
        assert decision.taken.feasible
        assert decision.taken.cost_usd == min(option.cost_usd for option in feasible)
        assert decision.reason is Reason.CHEAPEST_FEASIBLE
    for option in decision.options:
        assert option.feasible == (option.reason is Reason.FEASIBLE)
        assert 0.0 <= option.p_meet <= 1.0
        assert option.cost_usd >= 0.0
        if option.feasible:
            assert option.predicted_ms <= request.latency_slo_ms
            assert option.p_meet >= request.attainment - 1e-9
            assert request.max_cost_usd is None or option.cost_usd <= request.max_cost_usd


@given(requests, snapshots(), locals_, st.floats(1.0, 10.0))
def test_cost_is_monotone_in_every_price(
    request: Request, snapshot: Snapshot, local: Local, factor: float
) -> None:
    before = decide(request, snapshot, local, 0.0).options
    for name in ("lambda_gb_s", "lambda_request", "front_door_request", "gpu_hour", "data_gb"):
        dearer = replace(snapshot.economics, **{name: getattr(snapshot.economics, name) * factor})
        after = decide(request, replace(snapshot, economics=dearer), local, 0.0).options
        for one, two in zip(before, after, strict=True):
            assert two.cost_usd >= one.cost_usd * (1.0 - 1e-12)


@settings(max_examples=50, suppress_health_check=[HealthCheck.filter_too_much])  # few are feasible
@given(requests, snapshots(), locals_, st.floats(0.05, 1.0))
def test_a_tighter_objective_never_picks_a_slower_feasible_path(
    request: Request, snapshot: Snapshot, local: Local, factor: float
) -> None:
    # In a front the chance that the standby is asked for, so the price of the GPU, depends on the objective.
    snapshot = replace(snapshot, topology=Topology.COLOCATED)
    loose = decide(request, snapshot, local, 0.0)
    tight = decide(request._replace(latency_slo_ms=request.latency_slo_ms * factor), snapshot, local, 0.0)
    assume(any(option.feasible for option in tight.options))
    one, two = loose.taken, tight.taken
    assert two.predicted_ms <= one.predicted_ms or two.cost_usd <= one.cost_usd


@given(requests, snapshots(), locals_, st.randoms(use_true_random=False))
def test_permuting_the_options_changes_nothing(
    request: Request, snapshot: Snapshot, local: Local, source: Any
) -> None:
    options = list(decide(request, snapshot, local, 0.0).options)
    for name, select in SELECTORS.items():
        one = select(tuple(options), request, replace(snapshot, policy=name))
        source.shuffle(options)
        assert select(tuple(options), request, replace(snapshot, policy=name)) == one


@given(requests, snapshots(), locals_)
def test_every_policy_answers_everything_that_is_admitted(
    request: Request, snapshot: Snapshot, local: Local
) -> None:
    for name in SELECTORS:
        decision = decide(request, replace(snapshot, policy=name), local, 0.0)
        assert decision.admitted or request.on_miss is OnMiss.REFUSE
        assert decision.admitted == (decision.retry_after_s is None)
        if decision.path is Path.GPU and decision.admitted:
            assert snapshot.gpu is not None
            assert snapshot.gpu.ready > 0
            assert local.gpu_breaker == CLOSED or local.cpu_breaker == OPEN  # the last resort
        if decision.degraded_below is not None and decision.path is Path.CPU:
            assert decision.escalate_below is not None or decision.degraded_reason is not None
        assert 1 <= decision.chunk_items <= request.items


@given(requests, snapshots(), locals_)
def test_a_shared_batch_has_two_parts_and_waits_for_the_longer(
    request: Request, snapshot: Snapshot, local: Local
) -> None:
    options = decide(request, snapshot, local, 0.0).options
    for shared in (option for option in options if option.gpu_items):
        assert 0 < shared.gpu_items < request.items
        row = forecast(
            snapshot.latencies, request.items, request.attainment, local.cold,
            snapshot.topology is Topology.SPLIT, snapshot.gpu.ready if snapshot.gpu else 1,
        )  # fmt: skip
        assert row.shared is not None
        own, theirs = row.shared.cpu.mean_ms(), row.shared.gpu.mean_ms()
        assert max(own, theirs) * (1.0 - 1e-9) <= row.shared.mean_ms <= (own + theirs) * (1.0 + 1e-9)


@given(requests, snapshots(), locals_)
def test_the_standby_leaves_the_deadline_room(request: Request, snapshot: Snapshot, local: Local) -> None:
    decision = decide(request, snapshot, local, 0.0)
    if decision.admitted and decision.path is Path.GPU and decision.standby:
        alone = decision.options[0]
        start_ms = decision.standby_after_ms
        assert start_ms == 0.0 or start_ms + alone.predicted_ms <= request.latency_slo_ms
        assert decision.hedge_after_ms is None or decision.hedge_after_ms < request.latency_slo_ms


@settings(max_examples=30)
@given(snapshots(), locals_, st.floats(10.0, 5_000.0))
def test_exploration_takes_its_share_and_no_more(snapshot: Snapshot, local: Local, slo_ms: float) -> None:
    made = [
        decide(Request(slo_ms, draw=i / 400.0), snapshot, local, 0.0).reason is Reason.EXPLORING
        for i in range(400)
    ]
    assert sum(made) <= snapshot.explore_share * 400 + 1


@given(requests, snapshots(), locals_)
def test_the_default_policy_is_turnout(request: Request, snapshot: Snapshot, local: Local) -> None:
    decision = decide(request, snapshot, local, 0.0)
    if decision.admitted:
        assert turnout(decision.options, request, snapshot)[0] == decision.taken
