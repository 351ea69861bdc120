"""What one network is to learn: inputs, an objective over their rows, how it is judged, at what rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from model_build.metric import Metric
from model_build.recipe import Array, Augment, Loss, Recipe, Split, Splits, Training

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Mean loss from outputs [B, K] and the examples' row numbers [B]."""

WARM_UP = 0.25


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one network is to learn: inputs, the objective over their rows, and how it is judged."""

    inputs: tuple[Array, ...]
    objective: Objective
    validation: Split
    loss: Loss
    metric: Metric
    training: Training
    augment: Augment | None
    seed: int


def default_loss(recipe: Recipe) -> Loss:
    """The recipe's loss: its own, else cross-entropy or mean squared error by task."""
    if recipe.loss is not None:
        return recipe.loss
    return nn.functional.cross_entropy if recipe.task == "classification" else nn.functional.mse_loss


def labelled(recipe: Recipe, splits: Splits, training: Training, device: torch.device) -> Lesson:
    """The ordinary lesson: the training split's own targets."""
    targets = torch.from_numpy(splits.train.targets).to(device)
    loss = default_loss(recipe)

    def objective(outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if training.label_smoothing and recipe.loss is None and recipe.task == "classification":
            smooth = training.label_smoothing
            return nn.functional.cross_entropy(outputs, targets[rows], label_smoothing=smooth)
        return loss(outputs, targets[rows])

    return Lesson(
        splits.train.tensors,
        objective,
        splits.validation,
        loss,
        recipe.metric,
        training,
        recipe.augment,
        recipe.seed,
    )


def learning_rate(training: Training, done: float) -> float:
    """The rate after a share `done` of all steps: linear warm-up, then a cosine to nought (one-cycle)."""
    if training.schedule == "constant":
        return training.learning_rate
    if done < WARM_UP:
        return training.learning_rate * (0.04 + 0.96 * done / WARM_UP)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
