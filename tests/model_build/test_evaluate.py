"""Evaluate: the test split's numbers, and a gate that chance alone does not close."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.errors import BuildError
from model_build.evaluate import Drop, confusion_matrix, drop_between, refuse, reliability
from model_build.metric import ACCURACY, R2
from model_build.recipe import Gates

ROWS = 10_000
TARGETS = np.zeros(ROWS, np.int64)


def answers(wrong: slice) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Logits [ROWS, 2] that are right everywhere but in `wrong`."""
    logits = np.tile(np.float32([1.0, 0.0]), (ROWS, 1))
    logits[wrong] = logits[wrong][:, ::-1]
    return logits


def test_GivenTwoVariants_WhenCompared_ThenTheIntervalIsPaired() -> None:
    # Given 30 shared errors, 20 of the cpu variant's own and 10 of the gpu variant's own
    cpu, gpu = answers(slice(0, 50)), answers(slice(20, 60))
    drop = drop_between(ACCURACY, cpu, gpu, TARGETS, seed=0)
    assert drop.points == pytest.approx(0.001)
    # Then it is drop ± 1.64 · sqrt(20 + 10) / n, whatever the shared errors are
    assert drop.low == pytest.approx(0.001 - 1.64 * 30**0.5 / ROWS, abs=2e-4)
    assert drop.high == pytest.approx(0.001 + 1.64 * 30**0.5 / ROWS, abs=2e-4)
    assert drop.cpu_high > 0.995


def test_GivenARegression_WhenCompared_ThenItsOwnMetricDecides() -> None:
    draw = np.random.default_rng(1)
    targets = draw.normal(size=(500, 1)).astype(np.float32)
    near, far = targets + 0.1 * draw.normal(size=(500, 1)), targets + 0.3 * draw.normal(size=(500, 1))
    drop = drop_between(R2, far, near, targets, seed=0)
    assert 0.05 < drop.low < drop.points < drop.high < 0.14


@pytest.mark.parametrize("points", [0.0005, 0.0018, 0.0022])
def test_GivenADropThatChanceExplains_WhenGated_ThenTheReleaseIsMade(points: float) -> None:
    refuse(Gates(max_drop=0.002, min_accuracy=0.99), Drop(points, points - 0.001, points + 0.001, 0.9905))


def test_GivenADropThatIsSurelyTooLarge_WhenGated_ThenBothNumbersAreNamed() -> None:
    said = r"0\.40 points below the gpu variant \(surely more than 0\.30\), at most 0\.20 are allowed"
    with pytest.raises(BuildError, match=said):
        refuse(Gates(max_drop=0.002), Drop(0.004, 0.003, 0.005, 0.99))


def test_GivenAScoreThatIsSurelyTooLow_WhenGated_ThenNoReleaseIsMade() -> None:
    with pytest.raises(BuildError, match=r"surely less than 0\.9700, 0\.9900 is asked"):
        refuse(Gates(max_drop=0.1, min_accuracy=0.99), Drop(0.0, -0.01, 0.01, 0.97))


@pytest.mark.slow
def test_GivenTheGateHoldsExactly_WhenManyTestSplitsAreDrawn_ThenFewAreRefused() -> None:
    # Given variants whose true drop is the gate's
    draw, refused, trials, rows = np.random.default_rng(5), 0, 60, 2000
    for _ in range(trials):
        kind = draw.choice(3, size=rows, p=(0.02, 0.01, 0.97))
        right, wrong = np.float32([1.0, 0.0]), np.float32([0.0, 1.0])
        cpu, gpu = np.where((kind == 0)[:, None], wrong, right), np.where((kind == 1)[:, None], wrong, right)
        drop = drop_between(ACCURACY, cpu, gpu, np.zeros(rows, np.int64), seed=0)
        refused += drop.low > 0.01
    # Then about one in twenty, not every second one
    assert refused <= 9


def test_GivenConfidences_WhenBinned_ThenEveryExampleCountsOnce() -> None:
    bins = reliability(np.array([0.2, 0.21, 0.9, 1.0]), np.array([False, True, True, True]))
    assert [entry.count for entry in bins] == [2, 1, 1]
    assert bins[0].accuracy == 0.5


def test_GivenAnswers_WhenCounted_ThenRowsAreWhatIsAndColumnsWhatWasAnswered() -> None:
    counts = confusion_matrix(np.array([1, 1, 0]), np.array([0, 1, 0]), 2)
    assert counts == ((1, 1), (0, 1))
