"""The bound: its greedy choice against a linear programme, and no replay below it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from handlers.routing.latency import Quantiles
from scripts.simulate.check import EXPECTED
from scripts.simulate.designs import NAMES
from scripts.simulate.draws import draw
from scripts.simulate.plan import bounds, make_plan
from scripts.simulate.relaxed import Server, _less_saved, block_costs, size_needed
from scripts.simulate.scenario import Scenario, read_profile
from scripts.simulate.synthetic import generate
from scripts.simulate.tables import PROFILES
from scripts.simulate.trace import Trace

SERVER = Server(
    segments=((0.1, 1e-6), (0.05, 6e-6)),
    gains=(4e-5, 5e-6),
    within_s=(12.0, 9.0),
    slot_s=10.0,
    rent_per_s=0.0,
)


def solved_by_highs(arrivals: NDArray[np.float64], instances: int, stretch: int) -> float:
    """The most that blocks of `stretch` slots at one count can save: every stretch of slots a constraint.

    Variables: what is served by slot and kind, and by block and segment. `arrivals` are (needing, other).
    """
    slots, kinds = arrivals.shape
    blocks, segments = slots // stretch, len(SERVER.segments)
    width = slots * kinds + blocks * segments
    value = np.zeros(width)
    value[: slots * kinds] = np.tile(SERVER.gains, slots)
    rows, most = [], []
    for first in range(slots):
        for last in range(first, slots):
            for taken, within_s in (((0,), SERVER.within_s[0]), ((0, 1), max(SERVER.within_s))):
                row = np.zeros(width)
                row[[slot * kinds + kind for slot in range(first, last + 1) for kind in taken]] = 1.0
                rows.append(row)
                length_s = (last - first + 1) * SERVER.slot_s + within_s
                most.append(instances * SERVER.rate_rps * length_s)
    for block in range(blocks):
        at = slots * kinds + block * segments
        row = np.zeros(width)  # what is served has a place in some segment
        row[block * stretch * kinds : (block + 1) * stretch * kinds] = 1.0
        row[at : at + segments] = -1.0
        rows.append(row)
        most.append(0.0)
        value[at : at + segments] = [-wait for _, wait in SERVER.segments]
    room_s = stretch * SERVER.slot_s + max(SERVER.within_s)
    limits = [(0.0, count) for count in arrivals.ravel()]
    limits += [(0.0, instances * width * room_s) for width, _ in SERVER.segments] * blocks
    found = linprog(-value, A_ub=np.array(rows), b_ub=most, bounds=limits)
    assert found.success
    return float(-found.fun)


arrivals_of = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=18, max_size=18)


@given(arrivals_of, st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_the_greedy_choice_is_the_best_one(drawn: list[tuple[int, int]], instances: int) -> None:
    """Given arrivals, then a block saves what HiGHS finds, and a stay of three blocks at least that."""
    arrivals = np.array(drawn, dtype=np.float64)
    counts = np.cumsum(arrivals, axis=1).reshape(3, 6, 2)
    costs = _less_saved(np.zeros((3, 4)), counts, np.full(3, 60.0), SERVER)
    for block in range(3):
        alone = solved_by_highs(arrivals[block * 6 : block * 6 + 6], instances, 6)
        assert -costs.entered[block, instances] == pytest.approx(alone, abs=1e-12)
    stay = costs.entered[0, instances] + costs.stayed[1:, instances].sum()
    assert -stay >= solved_by_highs(arrivals, instances, 6) - 1e-12


def without_dice(name: str) -> Scenario:
    """A reference profile whose service and network times do not vary."""
    scenario = read_profile(PROFILES / f"{name}.json")
    profile = scenario.profile
    cpu = replace(profile.cpu, service=Quantiles.constant(profile.cpu.service.at(0.5)))
    return replace(scenario, profile=replace(profile, cpu=cpu, network=Quantiles.constant(4.0)))


@given(
    st.sampled_from(["heavy", "medium", "quality", "light"]),
    st.lists(st.tuples(st.floats(0.0, 1200.0), st.integers(1, 400)), min_size=1, max_size=6),
    st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_no_design_is_cheaper_than_the_optimum(name: str, bursts: list[tuple[float, int]], seed: int) -> None:
    """Given any bursts, then every design pays at least the clairvoyant's bill in the replay."""
    random = np.random.default_rng(seed)
    times = np.concatenate([begin + random.exponential(20.0, count) for begin, count in bursts])
    trace = Trace("bursts", np.sort(times), float(times.max()) + 1.0)
    plan = make_plan(without_dice(name), trace, NAMES, seed)
    for design, one in plan.outcomes.items():
        if one.throttled == 0:
            assert one.cost_usd >= plan.optimum_usd - 1e-12, design


def test_no_committed_result_is_below_the_optimum() -> None:
    """Given the gate's results, which the gate holds against today's, then each is at least its optimum."""
    regrets = [
        numbers["regret"] for case in json.loads(EXPECTED.read_text()).values() for numbers in case.values()
    ]
    assert min(regrets) >= 1.0


@pytest.mark.parametrize("name", ["heavy", "medium", "quality"])
def test_more_instances_than_are_needed_never_pay(name: str) -> None:
    """Given the most instances that are looked at, then the last costs more than it saves in every block."""
    scenario = read_profile(PROFILES / f"{name}.json")
    trace = generate("mmpp", 40.0, 1200.0, 1)
    draws = draw(scenario, trace.requests, 0.0, 1)
    costs = block_costs(scenario, trace, draws, size_needed(scenario, trace)).stayed
    assert np.all(costs[:, -1] > costs[:, -2])


def test_less_foresight_costs_more() -> None:
    """Given a trace, then the bounds are in the order of what is known."""
    scenario = read_profile(PROFILES / "heavy.json")
    trace = generate("poisson", 5.0, 2400.0, 1)
    least = bounds(scenario, trace, draw(scenario, trace.requests, 0.0, 1))
    assert least.optimum_usd < least.standing_usd
    assert least.optimum_usd < least.lookahead_usd
    assert max(least.optimum_sizes) >= 1
