"""A worker's isolation and memory back-off, over a back end that runs out of memory as CUDA does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
import torch

from model_build.gpu_server.backend import load_forward
from model_build.gpu_server.batching import Curve
from model_build.gpu_server.spec import GraphSpec, RowSpec
from model_build.gpu_server.worker import Worker, serve

FLOAT = np.dtype(np.float32)
SPEC = GraphSpec("m", "r", (RowSpec("x", "FP32", FLOAT, (1,), 4),), RowSpec("y", "FP32", FLOAT, (1,), 4))


@dataclass
class Answer:
    rows: Any

    def output(self) -> Any:
        return self.rows


class Device:
    """Negates its input; `rule` raises what the device would."""

    at_once = 1
    device = "test"

    def __init__(self, rule: Callable[[Any], None]) -> None:
        self.rows = np.zeros((16, 4), np.uint8)
        self.rule = rule
        self.runs = 0

    def stage(self) -> Sequence[Any]:
        return [self.rows]

    def submit(self, items: int, bucket: int) -> Answer:
        self.runs += 1
        values = self.rows[:items].copy().view(np.float32)
        self.rule(values)
        return Answer(-values)


def run(rule: Callable[[Any], None], values: Sequence[float]) -> tuple[dict[str, Any], list[float], Device]:
    device = Device(rule)
    memory = bytearray(4096)
    memory[: 4 * len(values)] = np.array(values, np.float32).tobytes()
    worker = Worker(device, SPEC, Curve((1, 16), (1.0, 1.0)), memoryview(memory))
    message = {"batch": 1, "items": len(values), "out": 2048, "parts": [[len(values), 0]]}
    reply = worker.finish(message, worker.start(message))
    return reply, np.frombuffer(memory, np.float32, len(values), 2048).tolist(), device


def poison(values: Any) -> None:
    if (values == 13).any():
        raise IndexError("unlucky")


def memory_for_four(values: Any) -> None:
    if len(values) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_poisoned_item_costs_only_itself() -> None:
    reply, answers, device = run(poison, [1, 2, 13, 4, 5, 6, 7, 8])
    assert reply["errors"] == [(2, "IndexError: unlucky")]
    assert answers == [-1, -2, 0, -4, -5, -6, -7, -8]
    assert device.runs <= 8


def test_retries_are_bounded_however_many_items_are_poisoned() -> None:
    reply, _, device = run(poison, [13.0] * 15 + [1.0])
    assert device.runs <= 30
    assert len(reply["errors"]) >= 15


def test_out_of_memory_runs_the_halves_and_reports_the_size_that_fits() -> None:
    reply, answers, _ = run(memory_for_four, list(range(16)))
    assert reply["errors"] == []
    assert reply["max_batch"] == 4
    assert answers == [-value for value in range(16)]


def test_a_device_that_is_broken_for_good_ends_the_worker() -> None:
    def broken(values: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        run(broken, [1, 2])


def test_nan_and_infinity_are_reported() -> None:
    reply, _, _ = run(lambda _: None, [1, float("nan"), float("inf"), 2])
    assert reply["nonfinite"] == [1, 2]


def test_a_program_checks_each_batch_size_once_and_refuses_one_that_it_was_not_exported_for(
    tmp_path: Path,
) -> None:
    batch = torch.export.Dim("batch", min=1, max=4)
    program = torch.export.export(torch.nn.Softmax(dim=1), (torch.ones(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    forward = load_forward(tmp_path / "model.pt2", torch.device("cpu"), "eager", "release")
    for _ in range(2):
        assert forward(torch.ones(3, 4)).tolist() == [[0.25] * 4] * 3
        with pytest.raises(RuntimeError, match="<= 4, but got 5"):
            forward(torch.ones(5, 4))


class Link:
    """One end of the worker's socket: two batches wait on it, then the front is gone. `said` is the order."""

    def __init__(self, device: Device) -> None:
        parts = {"items": 1, "out": 2048, "parts": [[1, 0]]}
        self.waiting = [orjson.dumps({"batch": number, **parts}) for number in (1, 2)]
        self.device = device
        self.said: list[tuple[int, int]] = []

    def poll(self, _timeout: float) -> bool:
        return bool(self.waiting)

    def recv_bytes(self) -> bytes:
        if not self.waiting:
            raise EOFError
        return self.waiting.pop(0)

    def send_bytes(self, reply: bytes) -> None:
        self.said.append((orjson.loads(reply)["batch"], self.device.runs))


@pytest.mark.parametrize(("at_once", "said"), [(1, [(1, 1), (2, 2)]), (2, [(1, 2), (2, 2)])])
def test_an_answer_waits_for_the_next_batch_only_where_they_overlap(
    at_once: int, said: list[tuple[int, int]]
) -> None:
    """Given two batches, when submit itself computes, then the first is answered before the second runs."""
    device = Device(lambda _: None)
    link = Link(device)
    worker = Worker(device, SPEC, Curve((1, 16), (1.0, 1.0)), memoryview(bytearray(4096)))
    serve(worker, cast(Connection, link), at_once)
    assert link.said == said
