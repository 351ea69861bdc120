"""Quantise: each operator by its method, in 7 bits, and only what can be quantised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from handlers.errors import BuildError
from model_build.export import export_dynamo, export_torchscript
from model_build.quantise import Scheme, quantise, schemes
from model_build.recipe import TensorSpec
from model_build.session import outputs_of


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.lstm, self.head = (
            nn.Embedding(50, 32),
            nn.LSTM(32, 16, batch_first=True),
            nn.Linear(16, 4),
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.lstm(self.table(ids))[0][:, -1])
        return logits


@pytest.fixture
def cnn(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
    ).eval()  # fmt: skip
    rows = torch.rand(70, 1, 8, 8)  # no multiple of a calibration batch
    export_torchscript(
        module, (rows,), (TensorSpec("x", "FP32", (-1, 1, 8, 8)),), "logits", tmp_path / "c.onnx"
    )
    return tmp_path / "c.onnx", [rows.numpy()]


@pytest.fixture
def encoder(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    torch.manual_seed(0)
    rows = torch.randint(0, 50, (64, 12))
    spec = (TensorSpec("ids", "INT64", (-1, 12)),)
    export_torchscript(Encoder().eval(), (rows,), spec, "logits", tmp_path / "e.onnx")
    return tmp_path / "e.onnx", [rows.numpy()]


def test_convolutions_are_static_and_products_dynamic(cnn, tmp_path: Path) -> None:
    graph, rows = cnn
    found = {scheme.name: scheme for scheme in schemes(graph)}
    assert "Conv" not in set().union(*(scheme.dynamic for scheme in found.values()))
    assert "MatMul" not in found["int8-mixed"].static
    done = quantise(graph, found["int8-mixed"], rows, tmp_path / "q.onnx")
    kinds = {node.op_type for node in onnx.load(str(done.path)).graph.node}
    assert "ConvInteger" not in kinds
    assert {"QuantizeLinear", "DequantizeLinear", "MatMulInteger"} <= kinds
    assert done.operators == {"Conv": 2, "MatMul": 1}


def test_recurrent_products_and_tables_are_dynamic(encoder, tmp_path: Path) -> None:
    graph, rows = encoder
    done = quantise(graph, schemes(graph)[0], rows, tmp_path / "q.onnx")
    assert done.scheme.name == "int8-dynamic"
    assert done.operators["LSTM"] == 1
    assert done.size_bytes < 0.5 * graph.stat().st_size


@pytest.mark.parametrize("which", ["cnn", "encoder"])
def test_every_scheme_stays_close_to_float(which, request, tmp_path: Path) -> None:
    graph, rows = request.getfixturevalue(which)
    wanted = outputs_of(graph, rows)
    for scheme in schemes(graph):
        got = outputs_of(quantise(graph, scheme, rows, tmp_path / f"{scheme.name}.onnx").path, rows)
        noise = np.mean((got - wanted) ** 2) / np.mean(wanted**2)
        assert noise < 0.02, scheme.name


@pytest.mark.parametrize("which", ["cnn", "encoder"])
def test_weights_use_seven_bits_so_that_avx2_does_not_saturate(which, request, tmp_path: Path) -> None:
    graph, rows = request.getfixturevalue(which)
    for scheme in schemes(graph):
        model = onnx.load(str(quantise(graph, scheme, rows, tmp_path / "q.onnx").path))
        tensors = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        weights = [tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim >= 2]
        assert weights
        assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64


@pytest.mark.slow
def test_an_lstm_that_the_newer_exporter_leaves_in_pieces_is_found(tmp_path: Path) -> None:
    # Given a graph whose LSTM weights are put together from slices at run time
    rows = torch.randint(0, 50, (64, 12))
    export_dynamo(
        Encoder().eval(), (rows,), (TensorSpec("ids", "INT64", (-1, 12)),), "logits", tmp_path / "d.onnx"
    )
    # When it is quantised
    found = schemes(tmp_path / "d.onnx")
    done = quantise(tmp_path / "d.onnx", found[0], [rows.numpy()], tmp_path / "q.onnx")
    # Then the LSTM computes in int8
    assert done.operators["LSTM"] == 1
    assert "int8-recurrent" in {scheme.name for scheme in found}


def test_spared_nodes_stay_float(cnn, tmp_path: Path) -> None:
    graph, rows = cnn
    inner = next(scheme for scheme in schemes(graph) if scheme.name == "int8-static-inner")
    assert quantise(graph, inner, rows, tmp_path / "q.onnx").operators == {"Conv": 1}


def test_a_spared_head_stays_float_though_it_changes_its_name(encoder, tmp_path: Path) -> None:
    graph, rows = encoder
    inner = next(scheme for scheme in schemes(graph) if scheme.name == "int8-dynamic-inner")
    assert quantise(graph, inner, rows, tmp_path / "q.onnx").operators == {"LSTM": 1}


def test_refuses_static_ranges_without_examples(cnn, tmp_path: Path) -> None:
    graph, rows = cnn
    with pytest.raises(BuildError, match="calibration split is empty"):
        quantise(graph, schemes(graph)[0], [rows[0][:0]], tmp_path / "q.onnx")


def test_refuses_a_scheme_that_quantises_nothing(cnn, tmp_path: Path) -> None:
    graph, rows = cnn
    with pytest.raises(BuildError, match="quantised no operator"):
        quantise(graph, Scheme("none", "", dynamic=frozenset({"LSTM"})), rows, tmp_path / "q.onnx")
