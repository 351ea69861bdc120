"""Calibrate: a temperature that fits, an honest curve, a threshold only where one is deserved."""

from __future__ import annotations

import numpy as np
import pytest

from handlers.errors import BuildError
from model_build.calibrate import calibrate, confidence, expected_calibration_error, fit_temperature, grid


def logits(rows: int, noise: float, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 5, rows)
    clean = 4.0 * np.eye(5)[targets] + rng.normal(0, noise, (rows, 5))
    return (sharpness * clean).astype(np.float32), targets.astype(np.int64)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_sharpened_softmax(sharpness: float) -> None:
    plain, targets = logits(4000, 2.0, 0)
    sharp, _ = logits(4000, 2.0, 0, sharpness)
    assert fit_temperature(sharp, targets) == pytest.approx(
        sharpness * fit_temperature(plain, targets), rel=0.02
    )


def test_a_sample_without_mistakes_does_not_give_boundless_confidence() -> None:
    perfect, targets = logits(40, 0.1, 1)
    assert fit_temperature(perfect, targets) > 0.2


def test_calibration_error_falls_and_is_zero_for_the_perfectly_calibrated() -> None:
    overconfident, targets = logits(3000, 2.2, 2, 4.0)
    done = calibrate(overconfident, overconfident, targets, 0.02, 0.05)
    assert done.ece_after < done.ece_before / 2
    assert expected_calibration_error(np.full(10, 0.7), np.array([True] * 7 + [False] * 3)) == pytest.approx(
        0.0
    )


def test_the_curve_runs_from_the_cpu_alone_to_the_gpu_alone() -> None:
    cpu, targets = logits(2000, 2.0, 3)
    gpu, _ = logits(2000, 1.0, 3)
    cascade = calibrate(cpu, gpu, targets, 0.02, 0.05).cascade
    assert cascade is not None
    tested = slice(400, None)
    first, last = cascade.curve[0], cascade.curve[-1]
    assert first.accuracy == pytest.approx(np.mean(cpu[tested].argmax(1) == targets[tested]))
    assert last.accuracy == pytest.approx(cascade.teacher_accuracy, abs=0.01)
    assert list(cascade.curve) == sorted(cascade.curve, key=lambda point: point.threshold)
    shares = [point.escalation_share for point in cascade.curve]
    assert shares == sorted(shares)
    assert 0 < cascade.escalation_share < 1
    assert cascade.p_value <= cascade.delta
    assert cascade.teacher_accuracy - cascade.accuracy <= cascade.epsilon


def test_a_student_as_good_as_the_teacher_escalates_nothing() -> None:
    same, targets = logits(1000, 1.5, 4)
    cascade = calibrate(same, same, targets, 0.02, 0.05).cascade
    assert cascade is not None
    assert cascade.escalation_share == 0


def test_says_how_many_examples_are_missing() -> None:
    few, targets = logits(500, 1.0, 5)
    with pytest.raises(BuildError, match=r"epsilon 0\.005 .* needs at least 7\d\d examples .* has 500"):
        calibrate(few, few, targets, 0.005, 0.05)


def test_refuses_when_the_student_errs_even_where_it_is_sure() -> None:
    sure, targets = logits(400, 0.1, 6, 20.0)
    confused = np.roll(sure, 1, axis=1)
    mixed = np.where((np.arange(400) % 4 == 0)[:, None], confused, sure)
    with pytest.raises(BuildError, match="even at confidence"):
        calibrate(mixed * 5, sure, targets, 0.01, 0.05)


def test_the_grid_descends_and_confidence_is_the_largest_probability() -> None:
    assert np.all(np.diff(grid(10)) < 0)
    row = np.array([[2.0, 1.0, 0.0]], np.float32)
    assert confidence(row, 2.0)[0] == pytest.approx(np.exp(1) / (np.exp(1) + np.exp(0.5) + 1), rel=1e-6)
