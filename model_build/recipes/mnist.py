"""`mnist`: 70,000 handwritten digits (LeCun, Cortes, Burges); the reference CNN and a stronger teacher."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model_build import idx, sources
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
from model_build.sources import Source

LABELS = tuple(str(digit) for digit in range(10))
SIZES = {"validation": 3000, "calibration": 500, "threshold": 6000}
IMAGE = TensorSpec("image", "FP32", (-1, 1, 28, 28))
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"


def _source(name: str, sha256: str) -> Source:
    return Source(f"mnist/{name}.gz", f"{MIRROR}/{name}.gz", sha256)


TRAIN_IMAGES = _source(
    "train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
)
TRAIN_LABELS = _source(
    "train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
)
TEST_IMAGES = _source(
    "t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
)
TEST_LABELS = _source(
    "t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
)


def _pair(images: Source, labels: Source) -> Split:
    pixels = idx.parse(sources.read(images), axes=3, name=images.path)
    targets = idx.parse(sources.read(labels), axes=1, name=labels.path)
    return Split(((pixels[:, None] / np.float32(255)).astype(np.float32),), targets.astype(np.int64))


def data() -> Splits:
    """Images in 0..1, float32 [N, 1, 28, 28]; the test split is the usual 10,000."""
    known, test = _pair(TRAIN_IMAGES, TRAIN_LABELS), _pair(TEST_IMAGES, TEST_LABELS)
    rows = cut(len(known), seed=11, sizes=SIZES)
    samples = tuple(Sample((test.tensors[0][row],), LABELS[test.targets[row]]) for row in range(16))
    return Splits(
        **{name: known.take(chosen) for name, chosen in rows.items()},
        test=test,
        samples=samples,
        unlabelled=None,
        files={},
    )


def jitter(tensors: tuple[torch.Tensor, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Each image moved by up to two pixels, turned by up to 10° and scaled by up to 10 %."""
    image = tensors[0]
    count = len(image)
    draw = torch.rand((4, count), generator=generator) * 2 - 1
    angle, scale = draw[0] * (10 * torch.pi / 180), 1 + 0.1 * draw[1]
    rows = torch.stack((scale * angle.cos(), -scale * angle.sin(), draw[2] * 4 / 28), dim=1)
    columns = torch.stack((scale * angle.sin(), scale * angle.cos(), draw[3] * 4 / 28), dim=1)
    grid = functional.affine_grid(
        torch.stack((rows, columns), dim=1).to(image.device), list(image.shape), align_corners=False
    )
    return (functional.grid_sample(image, grid, align_corners=False),)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Reference(nn.Module):
    """The textbook CNN: conv32, pool, conv64, pool, dense 10."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1600, 10),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image)
        return logits


class Teacher(nn.Module):
    """Four convolutions with batch normalisation, 32 to 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(1, 32), nn.MaxPool2d(2),
            convolution(32, 64), convolution(64, 64), nn.MaxPool2d(2),
            convolution(64, 128), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(1152, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(image))
        return logits


class Student(nn.Module):
    """Three convolutions, 16 to 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution(1, 16), nn.MaxPool2d(2),
            convolution(16, 32), nn.MaxPool2d(2),
            convolution(32, 64), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(576, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(image))
        return logits


RECIPE = Recipe(
    name="mnist",
    task="classification",
    labels=LABELS,
    inputs=(IMAGE,),
    tensors=(IMAGE,),
    data=data,
    teacher=Teacher,
    student=Student,
    reference=Reference,
    augment=jitter,
    teacher_training=Training(epochs=12, batch_size=128, learning_rate=4e-3, average=0.998, precision="bf16"),
    student_training=Training(epochs=15, batch_size=128, learning_rate=1e-2, average=0.998, precision="bf16"),
    reference_training=Training(
        epochs=5, batch_size=128, learning_rate=1e-3, schedule="constant", precision="bf16"
    ),
    distillation=Distillation(temperature=3.0, weight=0.8),
    pruning=Pruning(
        ratios=(0.5,),
        training=Training(epochs=5, batch_size=128, learning_rate=4e-3, average=0.998, precision="bf16"),
    ),
    guarantee=Guarantee(epsilon=0.005),
    gates=Gates(max_drop=0.002, min_accuracy=0.99),
)
