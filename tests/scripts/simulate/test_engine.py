"""The replay: sandboxes, the endpoint, and whole runs through the real decide."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.routing.capacity_prices import capacity_economics
from handlers.routing.latency import Quantiles
from handlers.routing.snapshot import GpuCapacity, Topology
from scripts.simulate.design import Design
from scripts.simulate.designs import NAMES, design
from scripts.simulate.draws import ASKS_GPU, draw
from scripts.simulate.engine import NOTICED_S, replay
from scripts.simulate.fleet import BATCH_DONE, Fleet, Instance
from scripts.simulate.outcome import CPU, GPU, REFUSED, STANDBY, Outcome
from scripts.simulate.sandboxes import COLD, THROTTLED, WARM, Sandboxes
from scripts.simulate.scaling import ByEconomics, Fixed, Seen, TargetTracking
from scripts.simulate.scenario import Scenario, SnapStart, read_profile
from scripts.simulate.synthetic import generate
from scripts.simulate.tables import PROFILES
from scripts.simulate.trace import Trace

ONLINE = [name for name in NAMES if name != "clairvoyant"]


def scenario_of(name: str) -> Scenario:
    return read_profile(PROFILES / f"{name}.json")


def run(scenario: Scenario, trace: Trace, made: Design, seed: int = 0) -> Outcome:
    return replay(scenario, trace, made, draw(scenario, trace.requests, 0.01, seed), seed)


def fixed(count: int, topology: Topology | None = None, router: str = "turnout") -> Design:
    return Design("fixed", router, topology, lambda: Fixed(count))


def test_sandboxes_are_reused_expire_and_are_limited() -> None:
    """Given a pool, then a free sandbox is reused, an old one is gone, and the limit refuses."""
    pool = Sandboxes(keep_alive_s=10.0, limit=2, burst=100)
    assert pool.acquire(0.0) == COLD
    pool.hold(1.0)
    assert pool.acquire(2.0) == WARM
    assert pool.acquire(2.0) == COLD
    assert pool.acquire(2.0) == THROTTLED
    pool.hold(3.0)
    pool.hold(3.0)
    assert pool.acquire(14.0) == COLD
    assert pool.live == 1


def test_starts_are_limited_to_a_rate() -> None:
    """Given ten starts in ten seconds at most, then the eleventh at once is refused."""
    pool = Sandboxes(keep_alive_s=600.0, limit=1000, burst=10)
    assert [pool.acquire(0.0) for _ in range(11)] == [COLD] * 10 + [THROTTLED]
    assert pool.acquire(1.001) == COLD


def fleet_with(instances: int, max_wait_s: float = 0.0) -> tuple[Fleet, list[tuple[float, int, Instance]]]:
    events: list[tuple[float, int, Instance]] = []
    capacity = GpuCapacity(ready=1, max_batch=4, batch_ms=((1, 10.0), (4, 16.0)))
    fleet = Fleet(capacity, max_wait_s, lambda at, kind, one: events.append((at, kind, one)))
    for _ in range(instances):
        fleet.became_ready(fleet.order(-1.0, 0.0))
    events.clear()
    return fleet, events


def test_calls_go_to_the_idlest_instance_and_are_batched() -> None:
    """Given two instances, then calls alternate, and what waits behind a batch leaves together."""
    fleet, events = fleet_with(2)
    assert all(fleet.call(i, 0.0, 9.0) for i in range(6))
    assert [len(one.running) + len(one.waiting) for one in fleet.ready] == [3, 3]
    first = next(one for at, kind, one in events if kind == BATCH_DONE)
    assert fleet.done(0.010, first) == [0]
    assert len(first.running) == 2


def test_a_call_that_cannot_be_in_time_is_refused() -> None:
    """Given a busy instance, then a call whose deadline is before its batch would end is refused."""
    fleet, _ = fleet_with(1)
    assert fleet.call(0, 0.0, 1.0)
    assert not fleet.call(1, 0.0, 0.015)
    assert fleet.call(2, 0.0, 0.025)


def test_a_fleet_of_none_refuses() -> None:
    """Given no instance, then no call is taken."""
    fleet, _ = fleet_with(0)
    assert not fleet.call(0, 0.0, 1.0)


@given(st.sampled_from(["heavy", "medium", "quality", "light"]), st.sampled_from(ONLINE), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_request_is_answered_and_paid_once(profile: str, name: str, seed: int) -> None:
    """Given any design, then each request is answered after some time, and the parts make the bill."""
    scenario = scenario_of(profile)
    trace = generate("mmpp", 6.0, 900.0, seed)
    made = design(name, scenario, trace.counts(1.0))
    one = run(scenario, trace, made, seed)
    assert len(one.latency_ms) == trace.requests
    assert np.all(one.latency_ms[one.served != REFUSED] > 0.0)
    assert one.cost_usd == pytest.approx(sum(one.components_usd.values()))
    assert all(usd >= 0.0 for usd in one.components_usd.values())
    fees = scenario.economics.front_door_request * trace.requests
    assert one.components_usd["front door"] == pytest.approx(fees)
    again = run(scenario, trace, design(name, scenario, trace.counts(1.0)), seed)
    assert again.cost_usd == one.cost_usd
    assert np.array_equal(again.latency_ms, one.latency_ms)


def test_a_light_load_on_the_cpu_costs_what_arithmetic_says() -> None:
    """Given one request at a time, then the bill is fees, service time and one cold start."""
    scenario = scenario_of("medium")
    trace = Trace("slow", np.arange(100) * 2.0, 200.0)
    draws = draw(scenario, 100, 0.0, 0)
    one = replay(scenario, trace, fixed(0, Topology.COLOCATED, "cpu_only"), draws, 0)
    gb_s = (sum(draws.cpu_s) + 1.2) * 3.0
    assert one.cost_usd == pytest.approx(100 * 1.2e-6 + gb_s * 0.0000166667)
    assert one.cold_starts == 1


def test_the_front_pays_for_the_wait_and_the_model_for_none_while_the_gpu_serves() -> None:
    """Given a GPU with room, when split, then only the front's memory is billed for the wait."""
    scenario = scenario_of("heavy")
    trace = generate("poisson", 1.0, 1800.0, 1)
    one = run(scenario, trace, fixed(2, Topology.SPLIT))
    assert np.mean(one.served == GPU) > 0.97
    waited = one.latency_ms[one.served == GPU].sum() / 1000.0 * 0.25 * scenario.economics.lambda_gb_s
    assert one.components_usd["Lambda waiting"] == pytest.approx(waited, rel=0.2)


def test_a_request_that_demands_the_gpu_waits_for_it_though_the_cpu_was_quicker() -> None:
    """Given a CPU of a millisecond beside the GPU, then only those that demand it are answered by the GPU."""
    sound = scenario_of("heavy")
    cpu = replace(sound.profile.cpu, service=Quantiles.constant(1.0))
    scenario = replace(sound, profile=replace(sound.profile, cpu=cpu))
    trace = generate("poisson", 0.5, 600.0, 1)
    demanded = np.arange(trace.requests) % 2 == 1
    asked = np.where(demanded, ASKS_GPU, 0).astype(np.uint8).tobytes()
    draws = replace(draw(scenario, trace.requests, 0.0, 0), explores=asked)
    one = replay(scenario, trace, fixed(2, Topology.COLOCATED), draws, 0)
    assert np.all(one.served[~demanded] == CPU)
    assert np.mean(one.served[demanded] == GPU) > 0.95


def test_a_failing_endpoint_never_costs_an_answer() -> None:
    """Given that a third of the GPU calls fail, then all are answered, on the CPU, nearly all in time."""
    sound = scenario_of("heavy")
    scenario = replace(sound, cloud=replace(sound.cloud, failure_share=0.33))
    trace = generate("poisson", 2.0, 1800.0, 1)
    one = run(scenario, trace, fixed(2, Topology.SPLIT))
    assert np.mean(one.served == STANDBY) > 0.25
    assert one.attainment > 0.98
    assert one.throttled == 0


def test_instances_that_die_are_replaced_and_their_calls_answered() -> None:
    """Given instances that live ten minutes on average, then the fixed count is ordered again each time."""
    sound = scenario_of("heavy")
    scenario = replace(sound, cloud=replace(sound.cloud, instance_life_h=1 / 6))
    one = run(scenario, generate("poisson", 3.0, 7200.0, 1), fixed(2))
    assert one.gpu_starts > 4
    assert one.attainment > 0.98


def test_an_instance_is_used_soon_after_it_is_ready_not_at_the_next_tick() -> None:
    """Given an instance ordered at the first tick, then the GPU serves within seconds of its being ready."""
    scenario = scenario_of("quality")
    trace = generate("poisson", 40.0, 600.0, 3)
    outcome = run(scenario, trace, design("turnout", scenario, trace.counts(1.0)))
    ordered = outcome.actions[0][0]
    used = trace.times[np.flatnonzero(outcome.served == GPU)[0]]
    ready = next(at for at, ready, _ in outcome.capacity if ready) - NOTICED_S
    assert ordered + 270.0 <= ready <= ordered + 330.0
    assert used - ready == pytest.approx(NOTICED_S, abs=1.0)


def test_an_endpoint_that_updates_takes_no_other_order() -> None:
    """Given instances that start, then the rule remembers what it sees and asks for nothing."""
    scenario = scenario_of("heavy")
    economics = capacity_economics(scenario.profile, scenario.economics, topology=None, max_instances=20)
    busy = Seen(60.0, 60.0, [60.0] * 60, 0, 3, 0.0)
    rule = ByEconomics(economics)
    assert rule.target(busy)[0] == 3
    assert rule.target(replace(busy, now_s=120.0, ready=3, starting=0))[0] > 3


def test_snap_start_trades_init_for_restores() -> None:
    """Given SnapStart, then cold starts are quicker, and the cache and the restores are paid for."""
    plain = scenario_of("heavy")
    snapped = replace(plain, cloud=replace(plain.cloud, snap_start=SnapStart(restore_ms=300.0)))
    trace = generate("mmpp", 5.0, 1800.0, 1)
    slow, quick = (run(s, trace, fixed(0, Topology.COLOCATED, "cpu_only")) for s in (plain, snapped))
    assert quick.attainment > slow.attainment
    assert quick.components_usd["SnapStart cache"] > 0.0


def test_accuracy_is_simulated_from_the_profile() -> None:
    """Given a profile whose GPU is better, then each design has the accuracy of who answered."""
    scenario = scenario_of("quality")
    trace = generate("poisson", 10.0, 3600.0, 1)
    cpu = run(scenario, trace, fixed(0, Topology.COLOCATED, "cpu_only"))
    gpu = run(scenario, trace, fixed(2, Topology.SPLIT, "gpu_only"))
    auto = run(scenario, trace, design("turnout", scenario, trace.counts(1.0)))
    assert cpu.accuracy == pytest.approx(0.91, abs=0.01)
    assert gpu.accuracy == pytest.approx(0.96, abs=0.01)
    assert cpu.accuracy <= auto.accuracy <= gpu.accuracy + 0.005
    assert np.all(cpu.served == CPU)


def test_concurrency_refuses_what_it_has_no_room_for() -> None:
    """Given two sandboxes at most and more load than they carry, then the rest is refused and counted."""
    sound = scenario_of("medium")
    scenario = replace(sound, cloud=replace(sound.cloud, concurrency=2))
    one = run(scenario, generate("poisson", 20.0, 60.0, 1), fixed(0, Topology.COLOCATED, "cpu_only"))
    assert one.throttled > 0
    assert one.attainment < 0.5


def test_target_tracking_waits_three_minutes_out_and_fifteen_in() -> None:
    """Given load that comes and goes, then it scales out at the third minute, in at the 15th."""
    scaler = TargetTracking(capacity_rps=10.0, most=10)
    sizes, current = [], 1
    for minute in range(40):
        rate = 33.0 if minute < 10 else 0.0
        current, _ = scaler.target(Seen(minute * 60.0, 60.0, [rate * 60.0], current, 0, 0.0))
        sizes.append(current)
    assert sizes[:3] == [1, 1, 5]
    assert sizes[23] == 5
    assert sizes[-1] == 1


@pytest.mark.slow
def test_the_cost_of_a_replay_grows_no_faster_than_its_requests() -> None:
    """Given eight times the requests, then the replay takes at most some twenty times as long."""
    scenario = scenario_of("light")

    def seconds(rps: float) -> float:
        trace = generate("poisson", rps, 600.0, 1)
        made = design("turnout", scenario, trace.counts(1.0))
        draws = draw(scenario, trace.requests, 0.01, 0)
        began = time.process_time()
        replay(scenario, trace, made, draws, 0)
        return time.process_time() - began

    small = min(seconds(50.0) for _ in range(3))
    assert seconds(400.0) < 20.0 * small
