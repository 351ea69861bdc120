"""Optimise: portable fusion only; a graph bound to one CPU is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from handlers.errors import BuildError
from model_build.export import export_torchscript
from model_build.optimise import optimise, refuse_isa_specific
from model_build.recipe import TensorSpec
from model_build.session import outputs_of


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten())
    rows = torch.zeros(2, 3, 8, 8)
    export_torchscript(
        module.eval(), (rows,), (TensorSpec("x", "FP32", (-1, 3, 8, 8)),), "y", tmp_path / "g.onnx"
    )
    return tmp_path / "g.onnx"


def test_fuses_and_answers_the_same(graph: Path, tmp_path: Path) -> None:
    done = optimise(graph, tmp_path / "o.onnx")
    rows = [np.random.default_rng(0).random((4, 3, 8, 8), np.float32)]
    np.testing.assert_allclose(outputs_of(done.path, rows, "off"), outputs_of(graph, rows, "off"), atol=1e-6)
    assert done.nodes_after < done.nodes_before
    assert "com.microsoft.nchwc" not in {entry.domain for entry in onnx.load(str(done.path)).opset_import}


def test_is_reproducible_to_the_byte(graph: Path, tmp_path: Path) -> None:
    first, second = optimise(graph, tmp_path / "a.onnx"), optimise(graph, tmp_path / "b.onnx")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_refuses_a_graph_saved_for_this_cpu_only(graph: Path, tmp_path: Path) -> None:
    # Given what ORT_ENABLE_ALL writes on an x86 machine
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "all.onnx")
    ort.InferenceSession(str(graph), options)
    model = onnx.load(str(tmp_path / "all.onnx"))
    if not any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
        pytest.skip("onnxruntime writes no ISA-specific layout on this CPU")
    # Then it is refused by name
    with pytest.raises(BuildError, match=r"com\.microsoft\.nchwc:Conv.*, which is bound to the CPU"):
        refuse_isa_specific(model, "all.onnx")
