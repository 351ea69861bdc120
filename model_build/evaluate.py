"""Evaluate: the one place that reads the test split, once, when everything has been chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from handlers.errors import BuildError
from model_build.calibrate import Calibration, calibrate, confidence
from model_build.gate import ROUNDING, GateResult
from model_build.gpu_variant import GpuVariant, run
from model_build.metric import Metric
from model_build.recipe import Gates, Split
from model_build.session import outputs_of
from model_build.step import Step, Work
from model_build.trained import DistilResult, Trained, load

Array = npt.NDArray[Any]

RESAMPLES = 400
CERTAINTY = 0.95


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the reliability diagram: mean confidence, share correct, examples."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True, slots=True)
class Row:
    """One network or variant on the test split."""

    name: str
    score: float
    parameters: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Drop:
    """The gpu variant's score minus the cpu variant's on the test split, with a two-sided 90 % interval.

    `cpu_high`: the upper end of the cpu variant's own score.
    """

    points: float
    low: float
    high: float
    cpu_high: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Test scores. `confusion[i][j]`: examples of class i that the cpu variant called j (empty for a
    regression).

    `cascade`, `escalation_share`: the cascade at the chosen threshold, on the test split (None for a
    regression).
    """

    cpu: float
    gpu: float
    drop: Drop
    rows: tuple[Row, ...]
    cascade: float | None
    escalation_share: float | None
    agreement: float | None
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[Bin, ...]
    examples: int


def calibrate_step(work: Work, gated: GateResult, gpu: GpuVariant) -> Calibration:
    """Temperature and threshold on the threshold split; a regression has neither."""
    if work.recipe.task != "classification":
        return Calibration(1.0, 1.0, 0.0, 0.0, None)
    split = work.splits.threshold
    logits = outputs_of(gated.chosen.candidate.path, split.tensors, gated.chosen.load_optimisation)
    bound = work.recipe.guarantee
    return calibrate(logits, program_outputs(gpu, split), split.targets, bound.epsilon, bound.delta)


def evaluate(
    work: Work,
    gated: GateResult,
    calibration: Calibration,
    gpu: GpuVariant,
    teacher: Trained,
    student: DistilResult,
    reference: Trained | None,
) -> Evaluated:
    """Score the chosen variants, the networks they came from and the cascade. Raises BuildError on a failed
    gate.
    """
    recipe, test = work.recipe, work.splits.test
    chosen = gated.chosen.candidate
    cpu = outputs_of(chosen.path, test.tensors, gated.chosen.load_optimisation)
    heavy = program_outputs(gpu, test)
    score = recipe.metric.score
    rows = [Row("gpu variant", score(heavy, test.targets), teacher.parameters, gpu.size_bytes)]
    for title, trained in (
        ("teacher", teacher),
        ("student, labels only", student.plain),
        ("student, distilled", student.distilled),
        ("reference", reference),
    ):
        if trained is not None:
            network = load(recipe, work.splits, trained)
            rows.append(
                Row(title, score(run(network, _tensors(test)), test.targets), trained.parameters, None)
            )
    rows.append(Row(f"cpu variant ({chosen.name})", score(cpu, test.targets), None, chosen.size_bytes))
    cpu_score, gpu_score = score(cpu, test.targets), score(heavy, test.targets)
    drop = drop_between(recipe.metric, cpu, heavy, test.targets, recipe.seed)
    refuse(recipe.gates, drop)
    cascade = share = agreement = None
    confusion: tuple[tuple[int, ...], ...] = ()
    bins: tuple[Bin, ...] = ()
    if recipe.task == "classification":
        confidences = confidence(cpu, calibration.temperature)
        bins = reliability(confidences, cpu.argmax(axis=1) == test.targets)
        confusion = confusion_matrix(cpu.argmax(axis=1), test.targets, cpu.shape[1])
        if calibration.cascade is not None:
            kept = confidences >= calibration.cascade.threshold
            answers = np.where(kept, cpu.argmax(axis=1), heavy.argmax(axis=1))
            cascade, share = float(np.mean(answers == test.targets)), float(1 - kept.mean())
            agreement = float(np.mean(answers == heavy.argmax(axis=1)))
    return Evaluated(
        cpu_score, gpu_score, drop, tuple(rows), cascade, share, agreement, confusion, bins, len(test)
    )


def program_outputs(gpu: GpuVariant, split: Split) -> Array:
    """The exported program's outputs over a split, [N, K]."""
    return run(torch.export.load(gpu.path).module(), _tensors(split))


def reliability(confidences: Array, correct: Array, bins: int = 15) -> tuple[Bin, ...]:
    """Bins of equal width that hold any example."""
    index = np.minimum((confidences * bins).astype(int), bins - 1)
    return tuple(
        Bin(float(confidences[index == b].mean()), float(correct[index == b].mean()), int(np.sum(index == b)))
        for b in range(bins)
        if np.any(index == b)
    )


def confusion_matrix(answers: Array, targets: Array, classes: int) -> tuple[tuple[int, ...], ...]:
    """Counts by true class (row) and answered class (column)."""
    counts = np.bincount(targets * classes + answers, minlength=classes * classes).reshape(classes, classes)
    return tuple(tuple(int(cell) for cell in row) for row in counts)


def drop_between(metric: Metric, cpu: Array, gpu: Array, targets: Array, seed: int) -> Drop:
    """How far the cpu variant's answers [N, K] score below the gpu variant's on the same N examples.

    The interval is a paired bootstrap's (Efron and Tibshirani 1993, ch. 13): the same drawn rows for both.
    """
    draw = np.random.default_rng(seed)
    cpus, drops = [], []
    for _ in range(RESAMPLES):
        rows = draw.integers(0, len(targets), len(targets))
        cpus.append(metric.score(cpu[rows], targets[rows]))
        drops.append(metric.score(gpu[rows], targets[rows]) - cpus[-1])
    low, high = np.quantile(drops, [1 - CERTAINTY, CERTAINTY])
    points = metric.score(gpu, targets) - metric.score(cpu, targets)
    return Drop(points, float(low), float(high), float(np.quantile(cpus, CERTAINTY)))


def refuse(gates: Gates, drop: Drop) -> None:
    """Raises BuildError when the test split shows that a gate does not hold.

    The candidate was chosen by these gates on validation, and the test split is a sample too: a variant whose
    true drop equals the gate's would fail a plain comparison every second time. So a release is stopped where
    the whole interval is beyond the gate; the report states the interval.
    """
    if drop.low > gates.max_drop + ROUNDING:
        raise BuildError(
            f"gate: on the test split the cpu variant is {100 * drop.points:.2f} points below the gpu "
            f"variant (surely more than {100 * drop.low:.2f}), at most {100 * gates.max_drop:.2f} are "
            "allowed; no release is made"
        )
    if gates.min_accuracy is not None and drop.cpu_high < gates.min_accuracy:
        raise BuildError(
            f"gate: on the test split the cpu variant scores surely less than {drop.cpu_high:.4f}, "
            f"{gates.min_accuracy:.4f} is asked; no release is made"
        )


def _tensors(split: Split) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(tensor)) for tensor in split.tensors)


CALIBRATE = Step("calibrate", calibrate_step, needs=("gate", "gpu-variant"), reads=("guarantee", "task"))
EVALUATE = Step(
    "evaluate",
    evaluate,
    needs=("gate", "calibrate", "gpu-variant", "teacher", "distil", "reference"),
    reads=("gates", "metric", "task", "teacher", "student", "reference", "seed"),
)
