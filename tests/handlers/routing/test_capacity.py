"""The capacity rule: break-even both ways, bounds kept, memory as JSON, and the worst case of learning."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.errors import InvalidInput
from handlers.routing.capacity import (
    THRESHOLDS,
    TRUST_SHARE,
    TRUST_STARTS,
    CapacityEconomics,
    CapacityObservation,
    CapacityState,
    PathPrices,
    interval_usd,
    serving_usd,
    step,
)

CPU = PathPrices(cpu_usd=1.5e-4, gpu_usd=2e-6)
ECONOMICS = CapacityEconomics(
    instance_usd_per_hour=1.41,
    startup_s=300.0,
    startup_billed=True,
    capacity_rps=5.0,
    asleep=CPU,
    awake=CPU,
    max_instances=4,
    threshold=1.0,
)
TICK_S = 60.0


def drive(rates: list[float], economics: CapacityEconomics) -> tuple[list[int], float, CapacityState]:
    """Run the rule over requests/s by minute, starts taking their time: sizes held, bill, state."""
    state, ready, starting, sizes, bill = CapacityState(), economics.min_instances, list[float](), [], 0.0
    for minute, rate in enumerate(rates):
        now = minute * TICK_S
        while starting and starting[0] <= now:
            starting.pop(0)
            ready += 1
        seen = CapacityObservation(TICK_S, [rate * TICK_S], ready, len(starting))
        bill += interval_usd(seen, economics)[ready]
        state, action = step(state, seen, economics)
        more = action.target - ready - len(starting)
        bill += max(more, 0) * economics.startup_usd
        starting += [now + TICK_S + economics.startup_s] * max(more, 0)
        for _ in range(max(-more, 0)):
            if starting:
                starting.pop()
            else:
                ready -= 1
        sizes.append(ready + len(starting))
    return sizes, bill, state


def test_it_adds_when_the_saving_has_reached_the_price_of_a_start() -> None:
    """Given a load whose saving per minute is known, when it lasts, then the start comes at break-even."""
    saved = 5.0 * TICK_S * (CPU.cpu_usd - CPU.gpu_usd) - 1.41 / 60
    needed = int(ECONOMICS.startup_usd / saved) + 1
    sizes, _, _ = drive([5.0] * (needed + 2), ECONOMICS)
    assert sizes[needed - 2] == 0
    assert sizes[needed] == 1


def test_it_removes_symmetrically_when_the_rent_is_not_earned() -> None:
    """Given a full ledger, when the load ends, then the instance goes after one start's rent."""
    idle_minutes = int(ECONOMICS.startup_usd / (1.41 / 60)) + 1
    sizes, _, _ = drive([5.0] * 40 + [0.0] * (idle_minutes + 2), ECONOMICS)
    assert sizes[40 + idle_minutes - 2] == 1
    assert sizes[-1] == 0


def test_a_load_below_break_even_never_starts_one() -> None:
    """Given less traffic than pays an instance's rent, then there is none, however long it lasts."""
    pays_from = 1.41 / 3600 / (CPU.cpu_usd - CPU.gpu_usd)
    for threshold in (1.0, 0.1, None):
        sizes, _, _ = drive([0.95 * pays_from] * 600, replace(ECONOMICS, threshold=threshold))
        assert max(sizes) == 0


@pytest.mark.parametrize("threshold", [1.0, 0.25, None])
def test_minimum_and_maximum_are_kept(threshold: float | None) -> None:
    """Given bounds, when there is no load, or far too much, then they hold from the first step on."""
    bounded = replace(ECONOMICS, min_instances=1, max_instances=2, threshold=threshold)
    assert set(drive([0.0] * 60, bounded)[0]) == {1}
    assert max(drive([100.0] * 60, bounded)[0]) == 2
    seen = CapacityObservation(TICK_S, [0.0], ready=5, starting=0)
    assert step(CapacityState(), seen, bounded)[1].target <= 2


def test_room_goes_to_the_escalations_first() -> None:
    """Given room for some, when a tenth needs the GPU, then those are what the room is charged for."""
    prices = PathPrices(cpu_usd=1e-5, gpu_usd=1e-6, missed_usd=1e-3)
    economics = replace(ECONOMICS, asleep=prices, awake=prices, capacity_rps=1.0)
    usd = serving_usd(1, [10.0], 1.0, 0.1, economics)
    assert usd == pytest.approx(9 * 1e-5 + 1e-6)


def test_a_burst_may_wait_for_room_as_long_as_it_is_said() -> None:
    """Given a burst and then nothing, then what may wait is served from the room that comes after."""
    burst = [20.0, 0.0, 0.0, 0.0]
    patient = replace(ECONOMICS, queue_s=2.0)
    served = [
        sum(burst) - serving_usd(1, burst, 1.0, 0.0, one) / (CPU.cpu_usd - CPU.gpu_usd)
        for one in (ECONOMICS, patient)
    ]
    assert served[1] - served[0] == pytest.approx(2.0 * ECONOMICS.capacity_rps)


def test_what_earns_its_start_within_the_horizon_is_ordered_at_once() -> None:
    """Given a full load from nothing, then the forecast orders after one minute, and α = 1 alone later."""
    ordered = [
        next(i for i, size in enumerate(drive([5.0] * 20, replace(ECONOMICS, threshold=alpha))[0]) if size)
        for alpha in (None, 1.0)
    ]
    assert ordered[0] == 0
    assert ordered[1] > 3


def test_an_order_that_was_refused_is_not_paid() -> None:
    """Given a fleet that is busy with a start, when the rule asks for more, then nothing is owed."""
    learning, state = replace(ECONOMICS, threshold=None), CapacityState()
    seen = CapacityObservation(TICK_S, [20.0 * TICK_S], ready=0, starting=1)
    for _ in range(5):
        state, action = step(state, seen, learning)
        assert action.target > 1
    assert state.bill_usd == pytest.approx(5 * interval_usd(seen, learning)[0])
    state, _ = step(state, replace(seen, ready=1, starting=2), learning)
    assert state.bill_usd == pytest.approx(
        5 * interval_usd(seen, learning)[0] + interval_usd(seen, learning)[1] + 2 * learning.startup_usd
    )


def test_it_jumps_over_a_size_that_alone_would_not_pay() -> None:
    """Given that the first instance makes the other requests dearer, then enough come at once."""
    economics = replace(ECONOMICS, awake=replace(CPU, cpu_usd=1.8e-4), max_instances=8)
    sizes, _, _ = drive([40.0] * 30, economics)
    assert sizes[-1] == 8
    assert 1 not in sizes


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60), st.sampled_from([None, 0.25, 1.0]))
@settings(max_examples=50, deadline=None)
def test_the_memory_survives_json(rates: list[float], threshold: float | None) -> None:
    """Given any past, when the state is written and read, then the next step is the same."""
    economics = replace(ECONOMICS, threshold=threshold)
    _, _, state = drive(rates, economics)
    again = CapacityState.from_json(json.loads(json.dumps(state.to_json())))
    seen = CapacityObservation(TICK_S, [300.0], 1, 0)
    assert again == state
    assert step(again, seen, economics) == step(state, seen, economics)


@pytest.mark.parametrize(
    "body",
    [
        {"work_usd": "abc"},
        {"work_usd": [float("nan")]},
        {"experts": [{}]},
        {"bill_usd": None},
        {"work_usd": 3},
    ],
)
def test_a_corrupt_memory_is_refused(body: dict[str, object]) -> None:
    """Given something that is not a state, then it is refused rather than half read."""
    with pytest.raises(InvalidInput):
        CapacityState.from_json(body)


@pytest.mark.parametrize(
    "change",
    [{"capacity_rps": float("nan")}, {"startup_s": -1.0}, {"min_instances": 3, "max_instances": 2}],
)
def test_senseless_economics_are_refused(change: dict[str, float]) -> None:
    """Given a number that makes no sense, then the field is named."""
    with pytest.raises(InvalidInput, match=next(iter(change))):
        replace(ECONOMICS, **change)  # type: ignore[arg-type]


def bound_usd(plain_usd: float, largest: int) -> float:
    """The docstring's promise: what learning may cost at most, given the plain rule's bill."""
    one_interval = 4 * 1.41 / 60 + 30.0 * TICK_S * CPU.cpu_usd
    start = ECONOMICS.startup_usd
    return (1 + TRUST_SHARE) * plain_usd + start * (TRUST_STARTS + 2) * (1 + largest) + one_interval


def adversary(threshold: float | None, rate: float, minutes: int) -> list[float]:
    """Load that stops the moment the rule at `threshold` has started, and comes back when it has let go.

    With None it is made against the fleet itself, which the forecast leads until it has lost.
    """
    economics = replace(ECONOMICS, threshold=threshold)
    rates: list[float] = []
    on = True
    for _ in range(minutes):
        rates.append(rate if on else 0.0)
        held = drive(rates, economics)[0][-1]
        on = held == 0
    return rates


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [None, *THRESHOLDS])
@pytest.mark.parametrize("rate", [5.0, 12.0])
def test_learning_is_bounded_against_an_adversary(threshold: float, rate: float) -> None:
    """Given arrivals made to hurt one threshold, then the bill keeps the stated bound."""
    rates = adversary(threshold, rate, 120) * 4
    sizes, bill, _ = drive(rates, replace(ECONOMICS, threshold=None))
    _, plain, _ = drive(rates, ECONOMICS)
    assert bill <= bound_usd(plain, max(sizes))


def test_a_fixed_low_threshold_breaks_the_bound_that_learning_keeps() -> None:
    """Given the adversary and no safety net, then a low threshold pays more than the bound."""
    rates = adversary(0.1, 12.0, 120) * 16
    _, plain, _ = drive(rates, ECONOMICS)
    eager_sizes, eager, _ = drive(rates, replace(ECONOMICS, threshold=0.1))
    sizes, learned, _ = drive(rates, replace(ECONOMICS, threshold=None))
    assert eager > bound_usd(plain, max(eager_sizes))
    assert learned <= bound_usd(plain, max(sizes))


@pytest.mark.slow
@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
@settings(max_examples=40, deadline=None)
def test_learning_is_bounded_on_random_bursts(seed: int, turning: float) -> None:
    """Given bursts of any rhythm, then the bound holds too."""
    chance = random.Random(seed)
    rates, on = [], False
    for _ in range(400):
        on = on != (chance.random() < turning)
        rates.append(chance.uniform(2.0, 25.0) if on else 0.0)
    sizes, bill, _ = drive(rates, replace(ECONOMICS, threshold=None))
    _, plain, _ = drive(rates, ECONOMICS)
    assert bill <= bound_usd(plain, max([1, *sizes]))
