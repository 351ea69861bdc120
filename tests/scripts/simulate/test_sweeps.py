"""Sweeps: one thing changes at a time, and the bill moves with it without a cliff."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from scripts.simulate.designs import design
from scripts.simulate.draws import draw
from scripts.simulate.engine import replay
from scripts.simulate.scenario import Scenario, read_profile
from scripts.simulate.sweeps import sweep
from scripts.simulate.synthetic import generate
from scripts.simulate.tables import PROFILES
from scripts.simulate.trace import Trace

STEP = 1.25
FACTORS = [0.4 * STEP**i for i in range(10)]


def bill_usd(scenario: Scenario, trace: Trace) -> float:
    draws = draw(scenario, trace.requests, 0.01, 0)
    return replay(scenario, trace, design("turnout", scenario, trace.counts(1.0)), draws, 0).cost_usd


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["heavy", "quality"])
def test_no_cliff_over_price_and_start_up(profile: str) -> None:
    """Given steps of 25 % in price or start-up time, then no step moves the bill by over 30 %."""
    scenario = read_profile(PROFILES / f"{profile}.json")
    trace = generate("diurnal", 5.0, 4 * 3600.0, 1)
    gpu = scenario.profile.gpu
    assert gpu is not None
    priced = [scenario.priced(gpu_hour=scenario.economics.gpu_hour * factor) for factor in FACTORS]
    slowed = [
        replace(
            scenario, profile=replace(scenario.profile, gpu=replace(gpu, startup_s=gpu.startup_s * factor))
        )
        for factor in FACTORS
    ]
    for cases in (priced, slowed):
        bills = [bill_usd(case, trace) for case in cases]
        for before, after in itertools.pairwise(bills):
            assert 1 / 1.3 < after / before < 1.3, bills


def test_a_sweep_changes_one_thing_at_a_time() -> None:
    """Given a profile, then each sweep passes through the plan itself, with the plan's own bill."""
    scenario = read_profile(PROFILES / "heavy.json")
    trace = generate("poisson", 3.0, 900.0, 1)
    points = sweep(scenario, trace, 0)
    assert {point.sweep for point in points} == {"gpu_usd_per_hour", "startup_s", "latency_slo_ms", "traffic"}
    here = {
        "gpu_usd_per_hour": scenario.economics.gpu_hour,
        "startup_s": 300.0,
        "latency_slo_ms": 2500.0,
        "traffic": 1.0,
    }
    bills = {point.cost_usd for point in points if point.value == here[point.sweep]}
    assert len(bills) == 1
