"""The CUDA back end on a real device: right answers by every switch, no races, and room made when it is full.

`TURNOUT_GPU_DEVICE=cuda pytest tests/model_build/gpu_server` runs the server's own tests there too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from handlers.serving.manifest import load
from model_build.gpu_server.backend import Backend, choose, warm_up
from model_build.gpu_server.batching import Curve
from model_build.gpu_server.spec import from_manifest
from model_build.gpu_server.worker import Worker
from scripts.bench.gpu_models import MODELS, write_release

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none is here")

SIZES = (1, 2, 4, 8)


class Greedy(nn.Module):
    """Doubles its input, and wants 256 TB once a batch has eight items."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wanted = torch.empty(torch.div(x.shape[0], 8, rounding_mode="floor") * 2**46, device=x.device)
        return x[:, :2] * 2.0 + wanted[:0].sum()


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the ResNet-18 shape."""
    folder = tmp_path_factory.mktemp("medium")
    torch.manual_seed(0)
    model = MODELS["medium"]
    write_release(folder, model.make(), model.example(2), datatype=model.datatype, classes=model.classes)
    return folder


def backend(
    folder: Path, device: str, engine: str = "eager", precision: str = "release", **off: bool
) -> Backend:
    spec = from_manifest(load(folder))
    switches = {"pinned": True, "cuda_graphs": True, **off}
    return choose(folder / "gpu/model.pt2", spec, device, engine, precision, SIZES[-1], **switches)


def fill(device: Backend, images: np.ndarray[Any, Any]) -> None:
    rows = device.stage()[0]
    rows[: len(images)] = images.reshape(len(images), -1).view(np.uint8)


def distance(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("engine", "precision", "off", "allowed"),
    [
        ("eager", "release", {}, 2e-3),  # convolutions take TF32 units
        ("eager", "release", {"cuda_graphs": False}, 2e-3),
        ("eager", "release", {"pinned": False}, 2e-3),
        ("eager", "tf32", {}, 2e-3),
        ("eager", "bf16", {}, 2e-2),
        ("eager", "fp16", {}, 5e-3),
        ("compile", "bf16", {}, 2e-2),
        ("aot", "release", {}, 2e-3),
    ],
)
def test_every_switch_gives_the_cpus_answers(
    medium: Path, engine: str, precision: str, off: dict[str, bool], allowed: float
) -> None:
    """Given images never seen, when 1, 3 and 8 of them run on the device, then the CPU says the same."""
    reference = backend(medium, "cpu")
    device = backend(medium, "cuda", engine, precision, **off)
    warm_up(device, SIZES, repeats=1)
    for items, bucket in ((1, 1), (3, 4), (8, 8)):
        images = np.random.default_rng(items).random((items, 3, 224, 224), np.float32)
        for side in (reference, device):
            fill(side, images)
        expected = reference.submit(items, bucket).output()
        assert distance(device.submit(items, bucket).output(), expected) < allowed


def test_batches_that_overlap_never_mix(medium: Path) -> None:
    """Given two batches always under way, when 400 of changing size run, then each has its own answers."""
    device = backend(medium, "cuda")
    warm_up(device, SIZES, repeats=1)
    draw = np.random.default_rng(0)
    images = draw.random((8, 3, 224, 224), np.float32)
    alone = []
    for image in images:
        fill(device, image[None])
        alone.append(device.submit(1, 1).output()[0].copy())
    pending: tuple[Any, Any] | None = None
    for _ in range(400):
        chosen = draw.integers(0, 8, draw.integers(1, 9))
        fill(device, images[chosen])
        handle = device.submit(len(chosen), next(size for size in SIZES if size >= len(chosen)))
        if pending is not None:
            order, waiting = pending
            assert distance(waiting.output(), np.stack([alone[i] for i in order])) < 5e-3
        pending = chosen, handle


def test_a_full_device_serves_halves_and_leaves_the_other_batch_alone(
    make_release: Callable[[nn.Module], Path],
) -> None:
    """Given a batch of eight that does not fit and one of two under way, then both are answered right."""
    folder = make_release(Greedy())
    spec = from_manifest(load(folder))
    device = backend(folder, "cuda")
    curve = warm_up(device, SIZES)
    assert tuple(curve) == SIZES[:-1]  # eight was out of memory in the warm-up
    memory = bytearray(1 << 12)
    rows = np.random.default_rng(0).random((10, 4), np.float32)
    memory[:160] = rows.tobytes()
    worker = Worker(device, spec, Curve((1, 2, 4, 8), (1.0, 1.0, 1.0, 1.0)), memoryview(memory))
    large = {"batch": 1, "items": 8, "out": 1024, "parts": [[8, 0]]}
    small = {"batch": 2, "items": 2, "out": 2048, "parts": [[2, 128]]}
    handles = [worker.start(large), worker.start(small)]
    reply, other = worker.finish(large, handles[0]), worker.finish(small, handles[1])
    assert (reply["errors"], reply["max_batch"], other["errors"]) == ([], 4, [])
    np.testing.assert_array_equal(np.frombuffer(memory, np.float32, 16, 1024).reshape(8, 2), rows[:8, :2] * 2)
    np.testing.assert_array_equal(np.frombuffer(memory, np.float32, 4, 2048).reshape(2, 2), rows[8:, :2] * 2)


def test_the_graphs_of_all_sizes_share_their_memory(medium: Path) -> None:
    """Given every size captured for both sets, then they take less than twice what the largest takes."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    device = backend(medium, "cuda")
    warm_up(device, SIZES[-1:], repeats=1)
    largest = torch.cuda.memory_reserved() - before
    warm_up(device, SIZES, repeats=1)
    assert torch.cuda.memory_reserved() - before < 2 * largest
