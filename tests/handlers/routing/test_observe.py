"""Given a path whose latency changes, when calls are observed, then traffic leaves it and comes back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from handlers.errors import InvalidInput
from handlers.routing.latency import LEVELS, Quantiles
from handlers.routing.learn import PRIOR_CALLS, blend
from handlers.routing.observe import Observer
from handlers.routing.policy import decide
from handlers.routing.report import Report, merged
from handlers.routing.sketch import ACCURACY, Sketch
from handlers.routing.types import Path, Reason

from .builders import request, snapshot


def _traffic(gpu_ms: Callable[[float], float], seconds: int) -> dict[int, float]:
    """Ten requests a second through one sandbox; returns the GPU's share in each ten seconds."""
    source, observer, awake = random.Random(7), Observer(), snapshot(gpu_ready=1)
    chosen: dict[int, list[bool]] = {}
    for i in range(10 * seconds):
        now = 1_000.0 + i / 10.0
        decision = decide(request(draw=source.random()), awake, observer.local(awake, now), now)
        on_gpu = decision.path is Path.GPU
        ms = gpu_ms(now - 1_000.0) if on_gpu else source.gauss(300.0, 8.0)
        if on_gpu:
            observer.started(Path.GPU, now)
        observer.called(decision.path, 1, ms, now, awake)
        observer.finished(decision, ms, decision.cost_usd, now)
        chosen.setdefault(i // 100, []).append(on_gpu)
    return {ten: sum(flags) / len(flags) for ten, flags in chosen.items()}


def test_a_path_that_becomes_slow_loses_traffic_and_one_that_recovers_wins_it_back() -> None:
    share = _traffic(lambda t: 2_000.0 if 60.0 <= t < 120.0 else 70.0, seconds=420)
    assert share[5] > 0.95
    assert all(share[ten] < 0.25 for ten in range(7, 12))
    assert max(share[ten] for ten in range(12, 40)) > 0.95
    assert share[41] > 0.95


def test_while_a_path_stays_slow_it_is_tried_but_rarely() -> None:
    share = _traffic(lambda t: 2_000.0 if t >= 30.0 else 70.0, seconds=600)
    later = [share[ten] for ten in range(10, 60)]
    assert 0.0 < sum(later) / len(later) < 0.1


def test_few_samples_move_a_prediction_little_and_many_replace_it() -> None:
    prior = Quantiles.constant(100.0)
    one, many = Sketch(), Sketch()
    one.add(1_000.0)
    for _ in range(2_000):
        many.add(1_000.0)
    assert blend(prior, one).at(0.5) == pytest.approx((PRIOR_CALLS * 100.0 + 1_000.0) / 21.0, rel=0.03)
    assert blend(prior, many).at(0.99) == pytest.approx(1_000.0, rel=0.05)


def test_reports_merge_to_what_one_sandbox_would_have_seen() -> None:
    source, awake = random.Random(1), snapshot(gpu_ready=1)
    whole, parts = Observer(), [Observer() for _ in range(4)]
    for i in range(400):
        ms = source.lognormvariate(5.0, 0.4)
        for observer in (whole, parts[i % 4]):
            decision = decide(request(), awake, observer.local(awake, i / 10.0), i / 10.0)
            observer.called(Path.CPU, 1, ms, i / 10.0, awake)
            observer.finished(decision, ms, 1e-6, i / 10.0, missed=1)
    total, refused = merged([part.drain().to_json() for part in parts])
    alone = whole.drain()
    assert refused == []
    assert total.counts == pytest.approx(alone.counts)
    assert total.arrivals == alone.arrivals
    assert total.sketches["cpu:1:warm"].buckets == alone.sketches["cpu:1:warm"].buckets
    assert whole.drain().counts["requests"] == 0.0


@pytest.mark.parametrize(
    "body",
    [
        "nothing",
        "{}",
        '{"schema_version": 9, "counts": {}, "arrivals": [], "sketches": {}}',
        '{"schema_version": 1, "counts": {"requests": -1}, "arrivals": [], "sketches": {}}',
        '{"schema_version": 1, "counts": {"profit": 1}, "arrivals": [], "sketches": {}}',
        '{"schema_version": 1, "counts": {}, "arrivals": [], "sketches": {"tpu:1:warm": []}}',
        '{"schema_version": 1, "counts": {}, "arrivals": [], "sketches": {"cpu:1:warm": [[1, NaN]]}}',
        '{"schema_version": 1, "counts": {}, "arrivals": [], "sketches": {"cpu:1:warm": [[90000, 1]]}}',
    ],
)
def test_a_broken_report_is_left_out_and_named(body: str) -> None:
    good = Report()
    good.counts["requests"] = 3.0
    total, refused = merged([body, good.to_json()])
    assert total.counts["requests"] == 3.0
    assert len(refused) == 1


def test_failures_open_the_breaker_and_do_not_enter_the_sketch() -> None:
    observer, awake = Observer(), snapshot(gpu_ready=1)
    for i in range(4):
        observer.called(Path.GPU, 1, 5.0, float(i) / 10.0, awake, ok=False)
    decision = decide(request(), awake, observer.local(awake, 0.5), 0.5)
    assert decision.options[1].reason is Reason.BREAKER_OPEN
    assert observer.report.sketches == {}
    assert observer.report.counts["gpu_failed"] == 4.0


def test_a_sketch_answers_within_its_stated_error() -> None:
    source = random.Random(3)
    values = sorted(source.lognormvariate(3.0, 1.0) for _ in range(10_000))
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    for level, found in zip(LEVELS, sketch.quantiles(LEVELS), strict=True):
        exact = values[max(0, -(-int(level * 1e6) * len(values) // 10**6) - 1)]
        assert found == pytest.approx(exact, rel=ACCURACY * 1.01)
    half = Sketch.from_json(sketch.to_json())
    half.fade(0.5)
    assert half.count == pytest.approx(5_000.0, rel=1e-6)
    with pytest.raises(InvalidInput):
        sketch.add(float("nan"))
    with pytest.raises(InvalidInput):
        Sketch().quantiles(LEVELS)


def test_a_front_learns_the_service_without_the_hop_and_leaves_the_report_to_the_function() -> None:
    observer, awake = Observer(front=True), snapshot(gpu_ready=1)
    hop_ms = awake.latencies.hop.at(0.5)
    for i in range(400):
        observer.called(Path.CPU, 1, 500.0 + hop_ms, i / 10.0, awake)
    local = observer.local(awake, 40.0)
    assert local.latencies is not None
    assert local.latencies.cpu.curve(1).at(0.5) == pytest.approx(500.0, rel=0.1)
    assert observer.report.sketches == {}
    assert observer.report.counts["cpu"] == 0.0
