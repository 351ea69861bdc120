"""Given minutes of any kind, when the control step runs, then what it does stays within its bounds."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from handlers.errors import InvalidInput
from handlers.routing.capacity_limits import MAX_ORDERS_PER_HOUR, MAX_STEP
from handlers.routing.codec import from_json, to_json
from handlers.routing.control_codec import state_from_json, state_to_json
from handlers.routing.controlled import Controlled, read_models
from handlers.routing.controller import (
    MAX_CALLS,
    ControlState,
    Endpoint,
    Step,
    advance,
)
from handlers.routing.policy import decide
from handlers.routing.profile import Profile
from handlers.routing.report import MAX_MINUTES, Report, add_ms, by_minute
from handlers.routing.types import Local, Path, Reason

from .builders import CASCADE, MEDIUM, PRICES, request

PROFILE = Profile.parse(MEDIUM)
NOW = 1_800_000_030.0


def controlled(**change: Any) -> Controlled:
    entry: dict[str, Any] = {
        "model": "medium",
        "pointer": "/p",
        "endpoint": "e",
        "topology": "auto",
        "economics": PRICES,
        "min_instances": 0,
        "max_instances": 6,
        **change,
    }
    (made,) = read_models(json.dumps([entry]))
    return made


def report(requests: int, now: float, cpu_ms: float = 300.0, gpu_ms: float = 0.0, failed: int = 0) -> Report:
    made = Report()
    first = int(now // 60 - 1) * 60
    for i in range(requests):
        second = first + i % 60
        made.arrivals[second] = made.arrivals.get(second, 0.0) + 1.0
        add_ms(made.sketches, "cpu:1:warm", cpu_ms)
        if gpu_ms:
            add_ms(made.sketches, "gpu:1:warm", gpu_ms)
    made.counts["requests"] = made.counts["cpu"] = float(requests)
    made.counts["gpu"] = float(requests if gpu_ms else failed)
    made.counts["gpu_failed"] = float(failed)
    made.counts["cost_usd"] = requests * 1e-5
    return made


def step(state: ControlState, seen: Report, endpoint: Endpoint | None, now: float, **change: Any) -> Step:
    return advance(controlled(**change), "r" * 16, PROFILE, CASCADE, state, seen, endpoint, now)


def test_the_snapshot_predicts_what_was_seen_not_what_was_built() -> None:
    state, now = ControlState(), NOW
    for _ in range(5):
        made = step(state, report(100, now, cpu_ms=450.0, gpu_ms=90.0), Endpoint(1), now)
        state, now = made.state, now + 60.0
    latencies = made.snapshot.latencies
    assert latencies.cpu.curve(1).at(0.99) == pytest.approx(450.0, rel=0.05)
    assert latencies.cpu.curve(4).at(0.5) == pytest.approx(4 * 450.0, rel=0.05)
    assert latencies.gpu is not None
    assert latencies.gpu.curve(1).at(0.99) == pytest.approx(90.0, rel=0.05)
    assert latencies.gpu.curve(8).at(0.5) > 224.0 * 1.2  # not seen, corrected by the factor of size 1


def test_what_is_no_longer_seen_is_forgotten() -> None:
    made = step(ControlState(), report(400, NOW, cpu_ms=3_000.0), None, NOW)
    slow = made.snapshot.latencies.cpu.curve(1).at(0.5)
    for minute in range(1, 25):
        made = step(made.state, Report(), None, NOW + 60.0 * minute)
    assert slow > 2_500.0
    assert made.snapshot.latencies.cpu.curve(1).at(0.5) < 330.0
    assert all(sketch.count <= MAX_CALLS for sketch in made.state.sketches.values())


def test_an_endpoint_that_fails_for_all_is_left_and_still_probed() -> None:
    made = step(ControlState(), report(100, NOW, failed=80), Endpoint(1), NOW)
    assert made.snapshot.gpu is not None
    assert made.snapshot.gpu.failing
    left = decide(request(), made.snapshot, Local(), 0.0)
    assert (left.path, left.options[-1].reason) == (Path.CPU, Reason.BREAKER_OPEN)
    probing = decide(request(draw=0.001), made.snapshot, Local(), 0.0)
    assert probing.options[-1].reason is not Reason.BREAKER_OPEN


def test_reports_that_come_a_minute_late_earn_an_instance_all_the_same() -> None:
    state, now, targets = ControlState(), NOW, []
    for _ in range(15):
        made = step(state, report(6_000, now - 60.0), Endpoint(0), now)
        state, now = made.state, now + 60.0
        targets.append(made.target)
    assert any(targets)


def test_calls_that_found_no_instance_wake_one_where_nobody_reports() -> None:
    state, now, targets = ControlState(), NOW, []
    for _ in range(15):
        worth = {**PRICES, "missed_escalation_usd": 0.001}
        made = step(state, Report(), Endpoint(0, no_capacity=600.0), now, economics=worth)
        state, now = made.state, now + 60.0
        targets.append(made.target)
    assert any(targets)
    assert not any(step(ControlState(), Report(), Endpoint(0), NOW).reasons)


def test_a_fleet_is_ordered_when_two_minutes_want_it_and_given_back_whatever_was_ordered() -> None:
    """Given load for a fleet, then one minute orders nothing, the next all; orders are rationed."""
    first = step(ControlState(), report(60_000, NOW), Endpoint(0), NOW, max_instances=40)
    now = NOW + 60.0
    second = step(first.state, report(60_000, now), Endpoint(0), now, max_instances=40)
    assert first.action is not None
    assert (first.target, second.target) == (None, first.action.target)
    assert first.action.target > MAX_STEP
    often = ControlState(orders=tuple(NOW - i for i in range(MAX_ORDERS_PER_HOUR)))
    assert step(often, Report(), Endpoint(2), NOW, max_instances=1).target == 1
    assert step(often, Report(), Endpoint(0), NOW, min_instances=1).target is None


def test_a_loop_that_was_away_comes_back_to_what_it_would_have_known() -> None:
    present = away = step(ControlState(), report(600, NOW), Endpoint(1), NOW).state
    missed = Report()
    for minute in range(1, 31):
        now = NOW + 60.0 * minute
        seen = report(600 if minute % 10 < 4 else 5, now)
        present = step(present, seen, Endpoint(1), now).state
        missed.merge(seen)
    away = step(away, missed, Endpoint(1), NOW + 60.0 * 30).state
    assert away.spent_usd == pytest.approx(present.spent_usd)
    assert away.capacity.work_usd == pytest.approx(present.capacity.work_usd)
    assert away.capacity.optimum_usd == pytest.approx(present.capacity.optimum_usd)


def test_what_is_past_the_reports_life_is_said_to_be_gone() -> None:
    state = step(ControlState(), report(10, NOW), Endpoint(1), NOW).state
    made = step(state, Report(), Endpoint(1), NOW + 60.0 * (MAX_MINUTES + 90))
    assert "the reports of 90 are gone" in made.reasons[0]


@given(
    st.dictionaries(st.integers(0, 10_000), st.floats(0.0, 100.0)), st.integers(0, 100), st.integers(1, 50)
)
def test_no_arrival_is_lost_whenever_it_was(arrivals: dict[int, float], first: int, minutes: int) -> None:
    slots = by_minute(arrivals, first, minutes)
    assert [len(slot) for slot in slots] == [60] * minutes
    assert sum(map(sum, slots)) == pytest.approx(sum(arrivals.values()))
    for second, count in arrivals.items():
        if first <= second // 60 < first + minutes:
            assert slots[second // 60 - first][second % 60] >= count


def test_cloudwatch_latency_serves_where_no_sandbox_reported() -> None:
    metrics = Endpoint(1, invocations=500.0, model_latency_ms=(150.0, 160.0, 170.0))
    made = step(ControlState(), Report(), metrics, NOW)
    assert made.snapshot.latencies.gpu is not None
    assert made.snapshot.latencies.gpu.curve(1).at(0.5) == pytest.approx(154.0, rel=0.05)


def test_an_endpoint_in_the_middle_of_an_update_is_left_alone() -> None:
    busy = step(ControlState(), Report(), Endpoint(0, steady=False), NOW, min_instances=1)
    assert busy.target is None
    assert "waits" in busy.reasons[0]
    assert step(ControlState(), Report(), Endpoint(0), NOW, min_instances=1).target == 1


def test_another_scaler_is_left_alone() -> None:
    made = step(ControlState(), Report(), Endpoint(0), NOW, min_instances=2, scaling="target_tracking")
    assert (made.target, made.action) == (None, None)


@pytest.mark.parametrize("body", ["", "{}", '{"schema_version": 2}', '{"schema_version": 1, "minute": "x"}'])
def test_memory_that_cannot_be_read_is_refused(body: str) -> None:
    with pytest.raises(InvalidInput):
        state_from_json(body)


class Minutes(RuleBasedStateMachine):
    """Any traffic, any endpoint: instances start, die and refuse; the loop misses minutes; all is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.now = ControlState(), NOW
        self.endpoint: Endpoint | None = Endpoint(0)
        self.orders: list[float] = []

    @rule(
        requests=st.sampled_from([0, 1, 50, 3_000]),
        minutes=st.sampled_from([1, 1, 1, 7, 60]),
        event=st.sampled_from(["ready", "starting", "dead", "busy", "gone"]),
        in_flight=st.none() | st.floats(0.0, 500.0),
    )
    def minute(self, requests: int, minutes: int, event: str, in_flight: float | None) -> None:
        self.now += 60.0 * minutes
        held = self.endpoint or Endpoint(0)
        total = held.ready + held.starting
        self.endpoint = {
            "ready": Endpoint(total, 0, in_flight),
            "starting": held,
            "dead": Endpoint(0, 0, in_flight),
            "busy": Endpoint(held.ready, held.starting, in_flight, steady=False),
            "gone": None,
        }[event]
        made = step(self.state, report(requests, self.now), self.endpoint, self.now)
        if made.target is not None:
            assert self.endpoint is not None
            assert 0 <= made.target <= max(6, self.endpoint.ready + self.endpoint.starting)
            current = self.endpoint.ready + self.endpoint.starting
            assert abs(made.target - current) <= MAX_STEP
            assert any("USD" in reason for reason in made.reasons)
            self.orders = [at for at in self.orders if self.now - at < 3600.0]
            self.orders += [self.now] if made.target > current else []
            assert len(self.orders) <= MAX_ORDERS_PER_HOUR
            ready = min(self.endpoint.ready, made.target)
            self.endpoint = Endpoint(ready, made.target - ready)
        assert made.state.snapshot_version == self.state.snapshot_version + 1
        assert made.state.spent_usd >= self.state.spent_usd
        self.state = state_from_json(state_to_json(made.state))
        assert state_to_json(self.state) == state_to_json(made.state)
        assert len(state_to_json(self.state)) < 300_000
        again = from_json(to_json(made.snapshot))
        assert decide(request(), again, Local(), 0.0).admitted


TestMinutes = Minutes.TestCase
TestMinutes.settings = settings(deadline=None, max_examples=10, stateful_step_count=40)
