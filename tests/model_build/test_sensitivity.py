"""Sensitivity: a layer that int8 would drown is found and stays float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from model_build.export import export_torchscript
from model_build.quantise import quantise, schemes
from model_build.recipe import TensorSpec
from model_build.sensitivity import robust_scheme
from model_build.session import outputs_of


class Spectral(nn.Module):
    """Power, a filter bank and a log in front of an ordinary network: nine decades in one layer."""

    def __init__(self, hostile: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hostile = hostile
        self.bank = nn.Linear(64, 32, bias=False)
        self.body = nn.Sequential(nn.Conv1d(1, 16, 5, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4))
        with torch.no_grad():
            self.bank.weight.abs_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.bank(10.0 ** (3 * x) if self.hostile else x)
        if self.hostile:
            features = torch.log(features + 1e-6)
        logits: torch.Tensor = self.body(features.unsqueeze(1))
        return logits


def made(hostile: bool, folder: Path) -> tuple[Path, list[np.ndarray]]:
    rows = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    rows = rows + 1.5 * torch.randn(64, 1, generator=torch.Generator().manual_seed(2))
    spec = (TensorSpec("x", "FP32", (-1, 64)),)
    export_torchscript(Spectral(hostile).eval(), (rows,), spec, "logits", folder / "s.onnx")
    return folder / "s.onnx", [rows.numpy()]


def noise(graph: Path, wanted: np.ndarray, rows: list[np.ndarray]) -> float:
    return float(np.mean((outputs_of(graph, rows) - wanted) ** 2) / np.mean(wanted**2))


def test_the_hostile_layer_is_spared_and_the_rest_is_int8(tmp_path: Path) -> None:
    # Given a network with nine decades in its first layer
    graph, rows = made(True, tmp_path)
    wanted = outputs_of(graph, rows)
    # When the sensitive layers are spared
    robust = robust_scheme(graph, rows, tmp_path)
    assert robust is not None
    done = quantise(graph, robust, rows, tmp_path / "r.onnx")
    whole = quantise(graph, schemes(graph)[0], rows, tmp_path / "w.onnx")
    # Then most of the noise is gone and something is still int8
    assert noise(done.path, wanted, rows) < 0.2 * noise(whole.path, wanted, rows)
    assert sum(done.operators.values()) >= 1


def test_a_network_without_such_a_layer_needs_no_sparing(tmp_path: Path) -> None:
    graph, rows = made(False, tmp_path)
    assert robust_scheme(graph, rows, tmp_path) is None


def test_a_single_layer_leaves_nothing_to_choose(tmp_path: Path) -> None:
    spec = (TensorSpec("x", "FP32", (-1, 8)),)
    export_torchscript(nn.Linear(8, 2).eval(), (torch.zeros(2, 8),), spec, "y", tmp_path / "l.onnx")
    assert robust_scheme(tmp_path / "l.onnx", [np.zeros((32, 8), np.float32)], tmp_path) is None
