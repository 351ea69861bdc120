"""The models that the GPU server is measured with, and a release folder around any exported module."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handlers.serving.manifest import MANIFEST_NAME, canonical, file_entry, parse


@dataclass(frozen=True, slots=True)
class BenchModel:
    """One model: how to make it, one input tensor (dtype, shape of one item), the largest batch on a CPU and
    on a GPU, which is full only with more.
    """

    name: str
    make: Callable[[], nn.Module]
    datatype: str
    shape: tuple[int, ...]
    classes: int
    cpu_batch: int
    gpu_batch: int

    def batch_on(self, device: str) -> int:
        """The largest batch on `device` (cpu or cuda)."""
        return self.gpu_batch if device == "cuda" else self.cpu_batch

    def example(self, items: int) -> torch.Tensor:
        """Random inputs for `items` items."""
        generator = torch.Generator().manual_seed(0)
        if self.datatype == "INT64":
            return torch.randint(0, 1000, (items, *self.shape), generator=generator)
        return torch.rand((items, *self.shape), generator=generator)


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.short = (
            nn.Identity()
            if stride == 1 and inside == outside
            else nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(image) + self.short(image))


def resnet18(classes: int = 1000) -> nn.Module:
    """ResNet-18 (He et al. 2015), random weights."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inside = 64
    for outside in (64, 128, 256, 512):
        layers += [_Block(inside, outside, 1 if outside == 64 else 2), _Block(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class Encoder(nn.Module):
    """A Transformer encoder over token ids, mean-pooled, with a classifier."""

    def __init__(
        self, vocabulary: int, width: int, heads: int, layers: int, length: int, classes: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(1, length, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.encoder(self.tokens(ids) + self.positions).mean(dim=1))
        return logits


def light() -> nn.Module:
    """784-256-10, the network of the first figures."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


class _Pixels(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(2, 3))


def wide() -> nn.Module:
    """The medium model's input and next to no work: what is left is the way of the bytes."""
    return _Pixels()


def heavy() -> nn.Module:
    """About 100 M parameters: 12 layers of width 768 and an embedding of 20,000 words."""
    return Encoder(20_000, 768, 12, 12, 128, 2)


MODELS = {
    model.name: model
    for model in (
        BenchModel("light", light, "FP32", (784,), 10, 32, 128),
        BenchModel("medium", resnet18, "FP32", (3, 224, 224), 1000, 8, 64),
        BenchModel("wide", wide, "FP32", (3, 224, 224), 3, 8, 64),
        BenchModel("heavy", heavy, "INT64", (128,), 2, 4, 64),
    )
}


def export_program(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write `module` as an exported program with a dynamic batch axis."""
    path.parent.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), (example[:2],), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)


def write_release(
    folder: Path,
    module: nn.Module,
    example: torch.Tensor,
    *,
    datatype: str,
    classes: int,
    model: str = "bench",
) -> str:
    """A minimal release folder around `module`'s gpu variant; returns its id.

    The cpu variant is a placeholder file: a GPU server never opens it.
    """
    export_program(module, example, folder / "gpu/model.pt2")
    (folder / "cpu").mkdir(exist_ok=True)
    (folder / "cpu/model.onnx").write_bytes(b"not served here")
    tensor = {"name": "input", "dtype": datatype, "shape": [-1, *example.shape[1:]]}
    variants = {
        kind: {
            "file": file,
            "precision": "fp32",
            "accuracy": 1.0,
            "size_bytes": (folder / file).stat().st_size,
        }
        for kind, file in (("cpu", "cpu/model.onnx"), ("gpu", "gpu/model.pt2"))
    }
    files = {}
    for file in ("cpu/model.onnx", "gpu/model.pt2"):
        entry = file_entry(folder / file)
        files[file] = {"sha256": entry.sha256, "bytes": entry.bytes}
    document: dict[str, Any] = {
        "schema_version": 1,
        "model": model,
        "task": "classification",
        "metric": "accuracy",
        "labels": [str(label) for label in range(classes)],
        "toolchain": {"torch": torch.__version__},
        "inputs": [tensor],
        "preprocess": {"kind": "none"},
        "tensors": [tensor],
        "outputs": [{"name": "probabilities", "dtype": "FP32", "shape": [-1, classes]}],
        "graph_output": {"name": "logits", "dtype": "FP32", "shape": [-1, classes]},
        "variants": variants,
        "profile": {},
        "files": files,
    }
    content = canonical(document)
    (folder / MANIFEST_NAME).write_bytes(content)
    return parse(content).release
