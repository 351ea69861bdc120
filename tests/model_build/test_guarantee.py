"""The guarantee: p-values that are valid, and a threshold whose bound holds as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial

from model_build.calibrate import choose, grid
from model_build.guarantee import fixed_sequence, least_examples, p_value, score


@pytest.mark.parametrize("q", [0.0, 0.004, 0.02, 0.1])
def test_p_values_are_valid_at_the_boundary_exactly(q: float) -> None:
    # Given P(L = 1) − P(L = −1) = ε, the boundary of the hypothesis
    n, epsilon, delta = 60, 0.05, 0.1
    p = q + epsilon
    # When the p-value of every possible outcome is weighed by its probability
    outcomes = [(a, b) for a in range(n + 1) for b in range(n + 1 - a)]
    weights = multinomial.pmf([(a, b, n - a - b) for a, b in outcomes], n, [p, q, 1 - p - q])
    rejected = sum(
        float(weight)
        for (a, b), weight in zip(outcomes, weights, strict=True)
        if weight > 1e-12 and p_value(a, b, n, epsilon, delta) <= delta
    )
    # Then a true hypothesis is rejected no more often than delta
    assert rejected <= delta


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 400), st.floats(0.005, 0.2), st.data())
def test_worse_counts_give_larger_p_values(n: int, epsilon: float, data: st.DataObject) -> None:
    a = data.draw(st.integers(0, n - 2))
    b = data.draw(st.integers(0, n - 2 - a))
    here = p_value(a, b, n, epsilon)
    assert 0 < here <= 1
    z = [float(score(np.array(x), np.array(y), n, epsilon)) for x, y in ((a, b), (a + 1, b), (a, b + 1))]
    assert z[2] <= z[0] + 1e-9
    assert z[0] <= z[1] + 1e-9


def test_is_sharper_than_counting_harm_alone_where_both_err_differently() -> None:
    # 44 harmed, 44 helped of 872: the binomial tail over harm alone can never reject, the paired test does
    assert binom.cdf(44, 872, 0.025) > 0.99
    assert p_value(44, 44, 872, 0.025) < 0.05


@pytest.mark.parametrize(("epsilon", "delta"), [(0.005, 0.05), (0.02, 0.05), (0.01, 0.1)])
def test_least_examples_is_the_least(epsilon: float, delta: float) -> None:
    n = least_examples(epsilon, delta)
    assert p_value(0, 0, n, epsilon, delta) <= delta < p_value(0, 0, int(0.96 * n), epsilon, delta)


@pytest.mark.parametrize("counts", [(-1, 0, 10), (6, 5, 10), (0, 0, 0)])
def test_refuses_impossible_counts(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="counts"):
        p_value(*counts, 0.01)


def test_stops_at_the_first_threshold_that_is_not_rejected() -> None:
    tests = fixed_sequence([0.9, 0.8, 0.7, 0.6], [0, 30, 0, 0], [0, 0, 0, 0], 400, 0.02, 0.05)
    assert [test.rejected for test in tests] == [True, False]


def population(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, cpu answer, teacher answer, target: errors rise as confidence falls, in a 4-class task."""
    rng = np.random.default_rng(seed)
    confidence = 1 - rng.beta(0.6, 2.0, rows)
    targets = rng.integers(0, 4, rows)
    cpu_right = rng.random(rows) < 0.72 + 0.28 * confidence**2
    teacher_right = rng.random(rows) < 0.97
    wrong = (targets + rng.integers(1, 4, rows)) % 4
    other = (targets + rng.integers(1, 4, rows)) % 4
    return confidence, np.where(cpu_right, targets, wrong), np.where(teacher_right, targets, other), targets


@pytest.mark.slow
def test_over_many_random_splits_the_bound_holds_as_often_as_it_says() -> None:
    # Given a population of which the truth is known, and a bound asked of samples of it
    epsilon, delta, repeats, size = 0.02, 0.1, 400, 800
    everyone = population(200_000, 0)
    rng = np.random.default_rng(1)
    broken = 0
    shares = []
    for _ in range(repeats):
        # When a threshold is chosen on each of many random splits
        rows = rng.choice(len(everyone[0]), size, replace=False)
        chosen = choose(*(array[rows] for array in everyone), grid(4), epsilon, delta)
        # Then its true excess error is known
        confidence, cpu, teacher, targets = everyone
        kept = confidence >= chosen.threshold
        excess = np.mean(kept & (cpu != targets)) - np.mean(kept & (teacher != targets))
        broken += excess > epsilon
        shares.append(chosen.escalation_share)
    # Then the bound breaks at most as often as delta allows (three binomial deviations of slack) ...
    assert broken <= repeats * delta + 3 * np.sqrt(repeats * delta * (1 - delta))
    # ... not because the procedure escalates everything
    assert broken > 0
    assert np.median(shares) < 0.8
