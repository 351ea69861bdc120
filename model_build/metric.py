"""Metrics: one number from outputs and targets, where more is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """`score(outputs, targets)`: logits [N, K] and classes [N], or values [N, D] and targets [N, D].

    The score must grow with quality: gates and early stopping compare it as it is.
    """

    name: str
    score: Callable[[Array, Array], float]


def accuracy(outputs: Array, targets: Array) -> float:
    """The share of rows whose largest logit is the target class."""
    return float(np.mean(outputs.argmax(axis=1) == targets))


def r2(outputs: Array, targets: Array) -> float:
    """Coefficient of determination: 1 − residual sum of squares / total sum of squares."""
    residual = float(np.sum((targets - outputs) ** 2))
    total = float(np.sum((targets - targets.mean(axis=0)) ** 2))
    return 1.0 - residual / total if total > 0 else float(residual == 0)


ACCURACY = Metric("accuracy", accuracy)
R2 = Metric("r2", r2)
