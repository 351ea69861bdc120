"""`digits`: scikit-learn's bundled handwritten digits (UCI, 1,797 images of 8×8), nothing downloaded."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from model_build.data import cut
from model_build.recipe import (
    Distillation,
    Gates,
    Guarantee,
    Pruning,
    Recipe,
    Sample,
    Split,
    Splits,
    TensorSpec,
    Training,
)  # fmt: skip

LABELS = tuple(str(digit) for digit in range(10))
SIZES = {"validation": 150, "calibration": 100, "threshold": 400, "test": 350}


def data() -> Splits:
    """Images in 0..1, float32 [N, 1, 8, 8]."""
    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    targets = bunch.target.astype(np.int64)
    rows = cut(len(images), seed=7, sizes=SIZES)
    splits = {name: Split((images[chosen],), targets[chosen]) for name, chosen in rows.items()}
    samples = tuple(Sample((images[row],), LABELS[targets[row]]) for row in rows["test"][:16])
    return Splits(**splits, samples=samples, unlabelled=None, files={})


def shift(tensors: tuple[torch.Tensor, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Each batch moved by up to one pixel."""
    down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
    return (torch.roll(tensors[0], (down, right), dims=(2, 3)),)


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Teacher(nn.Module):
    """Four convolutions, 32 to 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(1, 32), convolution(32, 32), nn.MaxPool2d(2),
            convolution(32, 64), convolution(64, 64), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(256, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(image))
        return logits


class Student(nn.Module):
    """Two convolutions, 16 and 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(1, 16), nn.MaxPool2d(2), convolution(16, 32), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(image))
        return logits


RECIPE = Recipe(
    name="digits",
    task="classification",
    labels=LABELS,
    inputs=(TensorSpec("image", "FP32", (-1, 1, 8, 8)),),
    tensors=(TensorSpec("image", "FP32", (-1, 1, 8, 8)),),
    data=data,
    teacher=Teacher,
    student=Student,
    augment=shift,
    teacher_training=Training(epochs=30, batch_size=32, learning_rate=3e-3, average=0.99, threads=1),
    student_training=Training(epochs=60, batch_size=32, learning_rate=1e-2, average=0.99, threads=1),
    distillation=Distillation(temperature=3.0, weight=0.8),
    pruning=Pruning(
        ratios=(0.5,),
        training=Training(epochs=30, batch_size=32, learning_rate=5e-3, average=0.99, threads=1),
    ),
    guarantee=Guarantee(epsilon=0.02),
    gates=Gates(max_drop=0.03, min_accuracy=0.93),
)
