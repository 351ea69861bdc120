"""Weights beside the graph: the same answers, and only where that opens faster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_build.export import export_torchscript
from model_build.recipe import TensorSpec
from model_build.session import outputs_of
from model_build.weights import decide, move_beside


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 4)).eval()
    spec = (TensorSpec("x", "FP32", (-1, 64)),)
    export_torchscript(module, (torch.zeros(2, 64),), spec, "y", tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def test_weights_beside_the_graph_give_the_same_answers_wherever_the_pair_goes(
    graph: Path, tmp_path: Path
) -> None:
    rows = [np.random.default_rng(0).random((4, 64), np.float32)]
    wanted = outputs_of(graph, rows)
    moved, data = move_beside(graph, tmp_path / "model.onnx")
    assert data.name == "model.onnx.data"
    assert data.stat().st_size > 10 * moved.stat().st_size
    elsewhere = tmp_path / "release"
    elsewhere.mkdir()
    for file in (moved, data):
        file.rename(elsewhere / file.name)
    np.testing.assert_array_equal(outputs_of(elsewhere / "model.onnx", rows), wanted)


def test_moving_twice_gives_the_same_bytes(graph: Path, tmp_path: Path) -> None:
    first = [file.read_bytes() for file in move_beside(graph, tmp_path / "model.onnx")]
    assert [file.read_bytes() for file in move_beside(graph, tmp_path / "model.onnx")] == first


@pytest.mark.parametrize(
    ("inside_ms", "beside_ms", "moved"), [(50, 20, True), (50, 48, False), (20, 30, False)]
)
def test_they_move_only_where_that_opens_a_tenth_faster(
    graph: Path, tmp_path: Path, inside_ms: float, beside_ms: float, moved: bool
) -> None:
    beside, data = move_beside(graph, tmp_path / "model.onnx")
    placed = decide(graph, beside, data, inside_ms, beside_ms)
    assert (placed.data is not None) is moved
    assert placed.size_bytes == sum(f.stat().st_size for f in (placed.graph, placed.data) if f is not None)
