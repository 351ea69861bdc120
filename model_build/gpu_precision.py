"""Half precision for the gpu variant: weights and arithmetic in bf16 or fp16, inputs and outputs as before.

Measured, not assumed: a precision is kept only when the metric on validation falls by no more than the
recipe's gate allows and every answer is finite. Embedding ids and other integers are left alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model_build.metric import Metric

Array = npt.NDArray[Any]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# The share of the gate's allowed drop that the GPU's precision may use up; the rest is the cpu variant's.
SHARE_OF_GATE = 0.25


class HalfPrecision(nn.Module):
    """`network` in `precision`; floating inputs are cast on the way in, the output back to float32."""

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        self.network = copy.deepcopy(network).to(self.dtype).eval()

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Raw logits or values, float32."""
        cast = (tensor.to(self.dtype) if tensor.is_floating_point() else tensor for tensor in tensors)
        output: torch.Tensor = self.network(*cast).float()
        return output


@dataclass(frozen=True, slots=True)
class Tried:
    """One precision: its validation score, how far its answers are from float32's, and whether it is kept."""

    precision: str
    score: float
    max_rel: float
    kept: bool
    reason: str


def try_precision(
    wanted: Array, outputs: Array, targets: Array, metric: Metric, precision: str, max_drop: float
) -> Tried:
    """Judge one precision by its `outputs` beside float32's `wanted`, both [N, K], on the same examples."""
    largest = max(float(np.abs(wanted).max()), 1e-30)
    if not np.isfinite(outputs).all():
        return Tried(precision, float("-inf"), float("inf"), False, "some answers are not finite")
    max_rel = float(np.abs(outputs - wanted).max()) / largest
    score, before = metric.score(outputs, targets), metric.score(wanted, targets)
    allowed = SHARE_OF_GATE * max_drop
    drop = before - score
    kept = drop <= allowed
    reason = f"{metric.name} falls by {drop:.5f}, {allowed:.5f} is allowed"
    return Tried(precision, score, max_rel, kept, reason)
