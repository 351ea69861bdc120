"""Half precision for the gpu variant: kept where it holds, refused where it does not, the same wire."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_build.gpu_precision import HalfPrecision, try_precision
from model_build.gpu_variant import run, save_program
from model_build.metric import ACCURACY

TARGETS = np.arange(100) % 4
WANTED = np.eye(4, dtype=np.float32)[TARGETS]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_half_precision_program_takes_and_gives_float32(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    inputs = (torch.rand(64, 8),)
    save_program(HalfPrecision(network, precision), (inputs[0][:4],), tmp_path / "half.pt2")
    save_program(network, (inputs[0][:4],), tmp_path / "full.pt2")
    program = torch.export.load(tmp_path / "half.pt2").module()
    for size in (1, 3, 64):
        answers = run(program, (inputs[0][:size],))
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers, run(network, (inputs[0][:size],)), atol=0.03)
    assert network[0].weight.dtype == torch.float32


def test_ids_stay_integers() -> None:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(1000, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.table(ids).sum(1)  # type: ignore[no-any-return]

    assert HalfPrecision(Lookup(), "bf16")(torch.tensor([[999, 3]])).dtype == torch.float32


def test_a_precision_that_holds_accuracy_is_kept() -> None:
    tried = try_precision(WANTED, WANTED + 0.01, TARGETS, ACCURACY, "bf16", 0.01)
    assert tried.kept
    assert tried.max_rel == pytest.approx(0.01, rel=1e-3)


def test_a_precision_that_loses_more_than_its_share_of_the_gate_is_refused() -> None:
    outputs = WANTED.copy()
    outputs[0] = np.roll(outputs[0], 1)
    tried = try_precision(WANTED, outputs, TARGETS, ACCURACY, "fp16", 0.01)
    assert not tried.kept
    assert "falls by 0.01" in tried.reason


def test_overflow_is_refused_even_where_the_class_is_right() -> None:
    tried = try_precision(WANTED, np.where(WANTED > 0, np.inf, 0), TARGETS, ACCURACY, "fp16", 1.0)
    assert not tried.kept
    assert "not finite" in tried.reason
