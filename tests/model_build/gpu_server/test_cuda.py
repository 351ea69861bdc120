"""The CUDA back end's books, on a CPU: PyTorch's streams, events and graphs are stood in for by ones that run
at once. That the real ones overlap, and what that gains, only a device can show.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from model_build.gpu_server.spec import GraphSpec, RowSpec

FLOAT, WHOLE = np.dtype(np.float32), np.dtype(np.int64)
SPEC = GraphSpec(
    "m",
    "r",
    (RowSpec("x", "FP32", FLOAT, (2,), 8), RowSpec("n", "INT64", WHOLE, (), 8)),
    RowSpec("y", "FP32", FLOAT, (2,), 8),
)


class Stream:
    def __init__(self, _device: object) -> None: ...

    def wait_event(self, _event: object) -> None: ...


class Event:
    def record(self, _stream: object) -> None: ...

    def synchronize(self) -> None: ...


class Graph:
    """Runs again what was called while it was being captured, on the same memory."""

    capturing: Graph | None = None

    def __init__(self) -> None:
        self.again: list[Callable[[], object]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        for call in self.again:
            call()


@contextmanager
def capture(graph: Graph, pool: object, stream: object) -> Iterator[None]:
    Graph.capturing = graph
    yield
    Graph.capturing = None


@contextmanager
def on(_stream: object) -> Iterator[None]:
    yield


class Forward:
    """y = x × n; `calls` counts the launches that the host makes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = x * n[:, None]
        if Graph.capturing is not None:
            Graph.capturing.again.append(lambda: torch.mul(x, n[:, None], out=y))
        return y


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, imported over the stand-ins."""
    for name, stand_in in (
        ("Stream", Stream),
        ("Event", Event),
        ("CUDAGraph", Graph),
        ("graph", capture),
        ("graph_pool_handle", lambda: (0, 1)),
        ("stream", on),
        ("set_device", lambda _device: None),
        ("synchronize", lambda _device: None),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    name = "model_build.gpu_server.cuda"
    before = sys.modules.pop(name, None)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)
    if before is not None:
        sys.modules[name] = before


def backend(cuda: ModuleType, forward: Callable[..., Any], graphs: bool) -> Any:
    return cuda.CudaBackend(forward, SPEC, 4, torch.device("cpu"), pinned=False, cuda_graphs=graphs)


def fill(device: Any, x: float, n: int, items: int) -> None:
    rows, numbers = device.stage()
    rows[:items] = np.full((items, 2), x, np.float32).view(np.uint8)
    numbers[:items] = np.full((items, 1), n, np.int64).view(np.uint8)


@pytest.mark.parametrize("graphs", [False, True])
def test_two_batches_under_way_keep_their_own_answers(cuda: ModuleType, graphs: bool) -> None:
    device = backend(cuda, Forward(), graphs)
    fill(device, 1.5, 2, 3)
    first = device.submit(3, 4)
    fill(device, 1.5, 10, 1)
    second = device.submit(1, 1)
    np.testing.assert_array_equal(first.output(), np.full((3, 2), 3, np.float32))
    np.testing.assert_array_equal(second.output(), np.full((1, 2), 15, np.float32))


def test_a_bucket_is_captured_once_for_each_set_of_buffers_and_replayed_after(cuda: ModuleType) -> None:
    forward = Forward()
    device = backend(cuda, forward, graphs=True)
    for value in range(4):  # as the warm-up does: both sets see the bucket
        fill(device, value, 3, 4)
        device.submit(4, 4).output()
    warm = forward.calls
    for value in range(8):
        fill(device, value, 5, 3)
        np.testing.assert_array_equal(device.submit(3, 4).output(), np.full((3, 2), 5 * value))
    assert forward.calls == warm


def test_eager_launches_every_batch(cuda: ModuleType) -> None:
    forward = Forward()
    device = backend(cuda, forward, graphs=False)
    for _ in range(3):
        fill(device, 1, 1, 2)
        device.submit(2, 2).output()
    assert forward.calls == 3


@pytest.mark.parametrize("graphs", [False, True])
def test_an_answer_that_waits_survives_the_reuse_of_its_buffers(cuda: ModuleType, graphs: bool) -> None:
    """Given a batch under way, when a failed one runs again in halves over both sets, then it is unharmed."""
    device = backend(cuda, Forward(), graphs)
    fill(device, 1, 1, 1)
    device.submit(1, 1)
    fill(device, 2, 1, 2)
    waiting = device.submit(2, 2)
    for value in (7, 8, 9):
        fill(device, value, 1, 2)
        np.testing.assert_array_equal(device.submit(2, 2).output(), np.full((2, 2), value, np.float32))
    np.testing.assert_array_equal(waiting.output(), np.full((2, 2), 2, np.float32))


@pytest.mark.parametrize("graphs", [False, True])
def test_a_graph_of_another_shape_than_the_manifests_is_refused(cuda: ModuleType, graphs: bool) -> None:
    device = backend(cuda, lambda x, n: x[:, :1], graphs)
    fill(device, 1, 1, 1)
    with pytest.raises(TypeError, match="items, 2"):
        device.submit(1, 1)
