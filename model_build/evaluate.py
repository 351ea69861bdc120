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
from model_build.recipe import Split
from model_build.session import outputs_of
from model_build.step import Step, Work
from model_build.trained import DistilResult, Trained, load

Array = npt.NDArray[Any]


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
class Evaluated:
    """Test scores. `confusion[i][j]`: examples of class i that the cpu variant called j (empty for a
    regression).

    `cascade`, `escalation_share`: the cascade at the chosen threshold, on the test split (None for a
    regression).
    """

    cpu: float
    gpu: float
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
    _refuse(recipe.gates.max_drop, recipe.gates.min_accuracy, cpu_score, gpu_score)
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
    return Evaluated(cpu_score, gpu_score, tuple(rows), cascade, share, agreement, confusion, bins, len(test))


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


def _refuse(max_drop: float, min_accuracy: float | None, cpu: float, gpu: float) -> None:
    if gpu - cpu > max_drop + ROUNDING:
        raise BuildError(
            f"gate: on the test split the cpu variant is {100 * (gpu - cpu):.2f} points below the gpu "
            f"variant, at most {100 * max_drop:.2f} are allowed; no release is made"
        )
    if min_accuracy is not None and cpu < min_accuracy:
        raise BuildError(
            f"gate: the cpu variant scores {cpu:.4f} on the test split, {min_accuracy:.4f} is asked"
        )


def _tensors(split: Split) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(tensor)) for tensor in split.tensors)


CALIBRATE = Step("calibrate", calibrate_step, needs=("gate", "gpu-variant"), reads=("guarantee", "task"))
EVALUATE = Step(
    "evaluate",
    evaluate,
    needs=("gate", "calibrate", "gpu-variant", "teacher", "distil", "reference"),
    reads=("gates", "metric", "task", "teacher", "student", "reference"),
)
