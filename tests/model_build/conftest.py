"""A recipe small enough for a test: two clouds of points, told apart by a network of a few weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from model_build.recipe import (
    Distillation,
    Gates,
    Guarantee,
    Recipe,
    Sample,
    Split,
    Splits,
    TensorSpec,
    Training,
)

POINT = TensorSpec("point", "FP32", (-1, 4))


def cloud(rows: int, seed: int) -> Split:
    draw = np.random.default_rng(seed)
    targets = draw.integers(0, 2, rows).astype(np.int64)
    points = draw.normal(size=(rows, 4)) + 1.5 * targets[:, None]
    return Split((points.astype(np.float32),), targets)


def tiny_data() -> Splits:
    test = cloud(200, 4)
    return Splits(
        train=cloud(320, 0),
        validation=cloud(100, 1),
        calibration=cloud(64, 2),
        threshold=cloud(400, 3),
        test=test,
        samples=tuple(Sample((test.tensors[0][row],), "ab"[test.targets[row]]) for row in range(10)),
    )


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 2))

    def forward(self, point: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(point)
        return logits


def tiny_teacher() -> nn.Module:
    return Net(64)


def tiny_student() -> nn.Module:
    return Net(32)


@pytest.fixture
def tiny() -> Recipe:
    return Recipe(
        name="tiny",
        task="classification",
        labels=("a", "b"),
        inputs=(POINT,),
        tensors=(POINT,),
        data=tiny_data,
        teacher=tiny_teacher,
        student=tiny_student,
        teacher_training=Training(epochs=4, batch_size=32, learning_rate=1e-2, average=0.9),
        student_training=Training(epochs=3, batch_size=32, learning_rate=1e-2),
        distillation=Distillation(temperature=2.0, weight=0.5),
        guarantee=Guarantee(epsilon=0.1),
        gates=Gates(max_drop=0.1),
    )
