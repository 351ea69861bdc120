"""The gpu variant: the teacher as a `torch.export` program with a dynamic batch axis, weights and graph, no
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from handlers.errors import BuildError
from model_build.gpu_precision import HalfPrecision, Tried, try_precision
from model_build.recipe import example
from model_build.step import Step, Work
from model_build.trained import Trained, load

Array = npt.NDArray[Any]
MAX_RELATIVE_ERROR = 1e-4


@dataclass(frozen=True, slots=True)
class GpuVariant:
    """An exported program. `score`: the metric on validation; `max_rel`: its distance from the module's
    answers.
    """

    path: Path
    precision: str
    size_bytes: int
    score: float
    max_rel: float
    batch_max: int = 256
    tried: tuple[Tried, ...] = ()


def gpu_variant(work: Work, teacher: Trained) -> GpuVariant:
    """Export the teacher in float32 and check it; then in the first half precision of the recipe that holds.

    Raises BuildError when the program answers something
    else.
    """
    network = load(work.recipe, work.splits, teacher)
    path = work.folder / "model.pt2"
    save_program(network, example(work.splits, 4), path)
    program = torch.export.load(path).module()
    tensors = tuple(torch.from_numpy(np.ascontiguousarray(t)) for t in work.splits.validation.tensors)
    outputs = run(program, tensors)
    wanted = run(network, tensors)
    max_rel = float(np.abs(outputs - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))
    if max_rel > MAX_RELATIVE_ERROR:
        raise BuildError(f"gpu variant: the exported program differs from the teacher by {max_rel:.2e}")
    targets = work.splits.validation.targets
    tried: list[Tried] = []
    for precision in work.recipe.gpu_precisions:
        half, half_path = HalfPrecision(network, precision), work.folder / f"model-{precision}.pt2"
        save_program(half, example(work.splits, 4), half_path)
        answers = run(torch.export.load(half_path).module(), tensors)
        drop = work.recipe.gates.max_drop
        tried.append(try_precision(wanted, answers, targets, work.recipe.metric, precision, drop))
        if tried[-1].kept:
            half_path.replace(path)
            size = path.stat().st_size
            return GpuVariant(path, precision, size, tried[-1].score, tried[-1].max_rel, tried=tuple(tried))
        half_path.unlink()
    score = work.recipe.metric.score(outputs, targets)
    return GpuVariant(path, "fp32", path.stat().st_size, score, max_rel, tried=tuple(tried))


def save_program(
    network: nn.Module, examples: tuple[torch.Tensor, ...], path: Path, batch_max: int = 256
) -> None:
    """Write `network` as an exported program for batches of 1 to `batch_max`, without its example inputs."""
    batch = torch.export.Dim("batch", min=1, max=batch_max)
    shapes = tuple({0: batch} for _ in examples)
    # HalfPrecision takes any number of tensors: its one variadic parameter holds all their shapes
    dynamic = (shapes,) if isinstance(network, HalfPrecision) else shapes
    program = torch.export.export(network.eval(), examples, dynamic_shapes=dynamic)
    program.example_inputs = None  # they would be stored as a pickle
    torch.export.save(program, path)


def run(module: nn.Module, tensors: tuple[torch.Tensor, ...], batch: int = 64) -> Array:
    """Outputs [N, K] float32 over all rows."""
    starts = range(0, len(tensors[0]), batch)
    with torch.inference_mode():
        parts = [module(*(tensor[s : s + batch] for tensor in tensors)).float().numpy() for s in starts]
    return np.concatenate(parts)


GPU_VARIANT = Step(
    "gpu-variant", gpu_variant, needs=("teacher",), reads=("teacher", "metric", "gpu_precisions", "gates")
)
