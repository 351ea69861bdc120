"""Calibrate: make the confidence mean something, then choose the threshold below which the GPU is asked.

The temperature is fitted on the first fifth of the threshold split and the threshold tested on the rest: an
example that shapes the confidence may not also be the judge of it, or the guarantee would not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from handlers.errors import BuildError
from handlers.serving.postprocess import score
from model_build.guarantee import fixed_sequence, least_examples

Array = npt.NDArray[Any]

TEMPERATURE_SHARE = 0.2
TEMPERATURE_MOST = 500
PRIOR_DEVIATION = 0.5
GRID_STEPS = 80
CLOSEST_TO_ONE = 1e-6


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the escalation curve, measured on the tested part of the threshold split."""

    threshold: float
    escalation_share: float
    accuracy: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """The chosen threshold and its guarantee.

    With probability ≥ 1 − `delta` over the draw of the threshold split, the error of the cascade exceeds the
    teacher's by at most `epsilon`. `worse`, `better`: examples where just the cascade, just the teacher errs.
    """

    threshold: float
    escalation_share: float
    accuracy: float
    teacher_accuracy: float
    agreement: float
    epsilon: float
    delta: float
    p_value: float
    worse: int
    better: int
    examples: int
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperatures of both variants (they divide the logits), calibration errors and the cascade.

    `cascade` is None for a regression: there is no confidence to escalate on. ECE: expected calibration error
    over 15 equal-width bins (Guo et al. 2017), before and after the temperature, on the tested part.
    """

    temperature: float
    gpu_temperature: float
    ece_before: float
    ece_after: float
    cascade: Cascade | None


def confidence(logits: Array, temperature: float) -> Array:
    """Largest probability of softmax(logits / temperature), float32 [N], by the code that serves it."""
    return score(logits, "classification", temperature).confidence


def fit_temperature(logits: Array, targets: Array) -> float:
    """The T that makes softmax(logits / T) likeliest (Guo et al. 2017), a priori log-normal around 1.

    Without the prior a network that is right on every example here would get T → 0: boundless confidence
    from a handful of examples. Its weight is that of one example in all, so it only speaks where the data
    is silent.
    """
    rows = np.arange(len(targets))
    wide = logits.astype(np.float64)

    def loss(log_t: float) -> float:
        scaled = wide / np.exp(log_t)
        data = float(np.sum(logsumexp(scaled, axis=1) - scaled[rows, targets]))
        return data + (log_t / PRIOR_DEVIATION) ** 2 / 2

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def expected_calibration_error(confidences: Array, correct: Array, bins: int = 15) -> float:
    """Σ over bins of (share of examples) · |accuracy − mean confidence|."""
    index = np.minimum((confidences * bins).astype(int), bins - 1)
    gaps = [
        np.mean(index == b) * abs(correct[index == b].mean() - confidences[index == b].mean())
        for b in range(bins)
        if np.any(index == b)
    ]
    return float(sum(gaps))


def grid(classes: int) -> Array:
    """Thresholds fixed before any data is seen, from 1 − 1e-6 down to 1/classes, even in log(1−t)."""
    return 1.0 - np.geomspace(CLOSEST_TO_ONE, 1.0 - 1.0 / classes, GRID_STEPS)


def split_rows(examples: int) -> int:
    """How many leading rows of the threshold split fit the temperature."""
    return min(int(examples * TEMPERATURE_SHARE), TEMPERATURE_MOST)


def check_size(examples: int, epsilon: float, delta: float) -> None:
    """Raises BuildError when a threshold split of that many examples cannot carry the bound asked."""
    cut, needed = split_rows(examples), least_examples(epsilon, delta)
    if cut >= 1 and examples - cut >= needed:
        return
    whole = int(np.ceil(min(needed / (1 - TEMPERATURE_SHARE), needed + TEMPERATURE_MOST))) + 1
    raise BuildError(
        f"calibrate: epsilon {epsilon:g} with delta {delta:g} needs at least {whole} examples in the "
        f"threshold split, it has {examples}; give it more, or ask for a larger epsilon"
    )


def calibrate(
    logits: Array, teacher_logits: Array, targets: Array, epsilon: float, delta: float
) -> Calibration:
    """Temperatures, curve and threshold from the threshold split.

    `logits`, `teacher_logits`: float32 [N, K] of the cpu and gpu variants; `targets`: int64 [N]. Raises
    BuildError when N is too small for the bound asked, saying how many are needed, or when no threshold
    meets it.
    """
    check_size(len(targets), epsilon, delta)
    cut = split_rows(len(targets))
    temperature = fit_temperature(logits[:cut], targets[:cut])
    teacher_temperature = fit_temperature(teacher_logits[:cut], targets[:cut])
    logits, teacher_logits, targets = logits[cut:], teacher_logits[cut:], targets[cut:]
    correct = logits.argmax(axis=1) == targets
    confidences = confidence(logits, temperature)
    return Calibration(
        temperature=temperature,
        gpu_temperature=teacher_temperature,
        ece_before=expected_calibration_error(confidence(logits, 1.0), correct),
        ece_after=expected_calibration_error(confidences, correct),
        cascade=choose(confidences, logits.argmax(axis=1), teacher_logits.argmax(axis=1), targets,
                       grid(logits.shape[1]), epsilon, delta),
    )  # fmt: skip


def choose(
    confidences: Array,
    answers: Array,
    teacher_answers: Array,
    targets: Array,
    thresholds: Sequence[float] | Array,
    epsilon: float,
    delta: float,
) -> Cascade:
    """The lowest threshold that fixed-sequence testing reaches; see model_build.guarantee.

    All arrays are [N]; `thresholds` descend. Raises BuildError when not even the first is accepted.
    """
    correct, teacher_correct = answers == targets, teacher_answers == targets
    kept = confidences[None, :] >= np.asarray(thresholds)[:, None]
    worse = (kept & (~correct & teacher_correct)).sum(axis=1)
    better = (kept & (correct & ~teacher_correct)).sum(axis=1)
    n = len(targets)
    tests = fixed_sequence([float(t) for t in thresholds], worse, better, n, epsilon, delta)
    passed = [test for test in tests if test.rejected]
    if not passed:
        first = tests[0]
        raise BuildError(
            f"calibrate: even at confidence {first.threshold:g} the cascade errs on {first.worse} of {n} "
            f"examples that the teacher gets right (p = {first.p_value:.3f} > delta {delta:g}); give the "
            "threshold "
            "split more examples, a larger epsilon, or train a better student"
        )
    agree = answers == teacher_answers
    curve = tuple(
        Point(
            float(threshold),
            float(1 - row.mean()),
            float(np.where(row, correct, teacher_correct).mean()),
            float(np.where(row, agree, True).mean()),
        )
        for threshold, row in zip(thresholds, kept, strict=True)
    )
    last = passed[-1]
    point = curve[len(passed) - 1]
    return Cascade(
        threshold=last.threshold,
        escalation_share=point.escalation_share,
        accuracy=point.accuracy,
        teacher_accuracy=float(teacher_correct.mean()),
        agreement=point.agreement,
        epsilon=epsilon,
        delta=delta,
        p_value=last.p_value,
        worse=last.worse,
        better=last.better,
        examples=n,
        curve=_thin(curve),
    )


def _thin(curve: Sequence[Point]) -> tuple[Point, ...]:
    """Ascending in threshold, without points that repeat the one before."""
    ascending = list(reversed(curve))
    kept = [
        point
        for index, point in enumerate(ascending)
        if index in (0, len(ascending) - 1) or point.escalation_share != ascending[index - 1].escalation_share
    ]
    return tuple(kept)
