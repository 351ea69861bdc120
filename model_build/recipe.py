"""What a recipe provides: the data, the two networks, and what is asked of the release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model_build.metric import ACCURACY, Metric

Array = npt.NDArray[Any]
Task = Literal["classification", "regression"]
Augment = Callable[[tuple[torch.Tensor, ...], torch.Generator], tuple[torch.Tensor, ...]]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: Open Inference Protocol dtype (FP32, INT64, BYTES, …), shape with -1 for the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Examples as the graph sees them.

    `tensors`: one array per graph tensor, first axis N. `targets`: int64 [N] class indices for a
    classification, float32 [N, D] for a regression; empty ([0]) for unlabelled data.
    """

    tensors: tuple[Array, ...]
    targets: Array

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def take(self, rows: slice | Array) -> Split:
        """The examples at `rows`."""
        targets = self.targets if len(self.targets) == 0 else self.targets[rows]
        return Split(tuple(tensor[rows] for tensor in self.tensors), targets)


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out example as a caller sends it: one value per wire input, without the batch axis.

    A BYTES input is `bytes` (UTF-8 text, a whole WAV file), any other an array. `label` is what the
    example is: a label's name, or the target values of a regression.
    """

    inputs: tuple[bytes | Array, ...]
    label: str | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Splits:
    """The data, split once by a fixed seed; `test` is read only for the numbers that are reported.

    `validation` chooses among epochs and candidates, `calibration` sets quantisation ranges,
    `threshold` sets temperature and escalation threshold, `unlabelled` is extra input for distillation.
    `files` are the release's files that preprocessing needs (path in the release -> content).
    """

    train: Split
    validation: Split
    calibration: Split
    threshold: Split
    test: Split
    samples: tuple[Sample, ...]
    unlabelled: Split | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Training:
    """How one network is trained: Adam(W) under a one-cycle learning rate.

    `keep`: the weights of the `best` epoch on validation, or of the `last` one. A one-cycle schedule ends at
    its best, so where the validation split is small (hundreds), choosing an epoch by it is choosing by noise.

    `patience`: epochs without a better validation score before stopping. `average`: decay of the
    exponential moving average of the weights that is evaluated and kept (0 = none). `precision`: bf16
    multiplies in bfloat16 where the machine has such instructions, and in float32 elsewhere.
    `threads`: CPU threads (None: as many as there are cores); a small network gains nothing from a second.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int | None = None
    label_smoothing: float = 0.0
    average: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "one_cycle"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = None
    keep: Literal["best", "last"] = "best"


@dataclass(frozen=True, slots=True)
class Distillation:
    """Student loss = weight·T²·KL(teacher/T ‖ student/T) + (1 − weight)·loss (Hinton et al. 2015)."""

    temperature: float = 4.0
    weight: float = 0.7


@dataclass(frozen=True, slots=True)
class Pruning:
    """Structured pruning at each of `ratios` (share of channels removed), widths rounded to `round_to`."""

    ratios: tuple[float, ...]
    training: Training
    round_to: int = 16
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guarantee:
    """With probability ≥ 1 − delta the cascade's error exceeds the teacher's by at most epsilon."""

    epsilon: float
    delta: float = 0.05


@dataclass(frozen=True, slots=True)
class Gates:
    """What a release must pass; `max_drop` is in points of the metric (0.01 = 1 point) below the teacher."""

    max_drop: float
    max_size_bytes: int | None = None
    max_latency_ms: float | None = None
    min_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one model is built and what its release must pass: one file a model, `RECIPE = Recipe(…)`.

    `gpu_precisions`: half precisions that the gpu variant may take, the preferred one first; the first that
    holds accuracy is released (worth its while on a GPU, slower on most CPUs). `slo_ms`: the latency
    objective that the function's memory size is chosen by; a model that no size keeps under it (p99) is not
    released.
    Networks take the graph's `tensors` as positional arguments and return raw logits [N, K]
    (classification) or values [N, D] (regression).
    """

    name: str
    task: Task
    inputs: tuple[TensorSpec, ...]
    tensors: tuple[TensorSpec, ...]
    data: Callable[[], Splits]
    teacher: Callable[[], nn.Module]
    student: Callable[[], nn.Module]
    teacher_training: Training
    student_training: Training
    guarantee: Guarantee
    gates: Gates
    labels: tuple[str, ...] = ()
    metric: Metric = ACCURACY
    loss: Loss | None = None
    augment: Augment | None = None
    distillation: Distillation | None = None
    pruning: Pruning | None = None
    reference: Callable[[], nn.Module] | None = None
    reference_training: Training | None = None
    preprocess: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none"})
    gpu_precisions: tuple[Literal["bf16", "fp16"], ...] = ()
    seed: int = 0
    slo_ms: float = 50.0

    @property
    def output_name(self) -> str:
        """The graph's one output: `logits` or `value`."""
        return "logits" if self.task == "classification" else "value"


def example(splits: Splits, count: int) -> tuple[torch.Tensor, ...]:
    """The first `count` calibration examples as torch tensors: example inputs for export and profiling."""
    rows = splits.calibration.take(slice(0, count))
    if len(rows) < count:
        repeats = -(-count // len(rows))
        rows = rows.take(np.tile(np.arange(len(rows)), repeats)[:count])
    return tuple(torch.from_numpy(np.ascontiguousarray(tensor)) for tensor in rows.tensors)
