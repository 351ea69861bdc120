"""ISA parity: what another CPU answers is compared, under an emulator where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_build import arm64
from model_build.export import export_torchscript
from model_build.isa_parity import NO_ARM, check, compare
from model_build.quantise import Scheme, quantise
from model_build.recipe import TensorSpec

LOGITS = np.array([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.001, 0.0]], np.float32)

needs_emulator = pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="no qemu-x86_64 here")


def test_the_same_answers_are_the_same() -> None:
    found = compare("cpu", LOGITS, LOGITS + 1e-4, "classification")
    assert (found.status, found.labels_changed, found.inputs) == ("same", 0, 3)


def test_a_clear_label_that_changes_is_a_difference() -> None:
    other = LOGITS.copy()
    other[0] = [0.0, 4.0, 0.0]
    found = compare("cpu", LOGITS, other, "classification")
    assert found.status == "differs"
    assert found.detail.startswith("1 of 3 labels change")


def test_a_tie_may_fall_either_way() -> None:
    other = LOGITS.copy()
    other[2] = [1.001, 1.0, 0.0]
    assert compare("cpu", LOGITS, other, "classification").status == "same"


def test_a_confidence_that_moves_is_a_difference_even_if_labels_hold() -> None:
    assert compare("cpu", LOGITS, 0.3 * LOGITS, "classification").status == "differs"


def test_values_of_a_regression_are_compared_relatively() -> None:
    values = np.array([[10.0], [20.0]], np.float32)
    assert compare("cpu", values, values * 1.001, "regression").status == "same"
    assert compare("cpu", values, values * 1.1, "regression").status == "differs"


@pytest.mark.slow
@pytest.mark.skipif(arm64.find() is None, reason=NO_ARM)
def test_the_very_file_answers_the_same_on_an_emulated_arm64(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 4)).eval()
    images = np.random.default_rng(0).normal(size=(16, 1, 8, 8)).astype(np.float32)
    graph = tmp_path / "model.onnx"
    spec = [TensorSpec("image", "FP32", (-1, 1, 8, 8))]
    export_torchscript(network, (torch.from_numpy(images),), spec, "logits", graph)
    scheme = Scheme("int8", "", static=frozenset({"Conv", "Gemm"}))
    int8 = quantise(graph, scheme, [images], tmp_path / "int8.onnx").path
    _haswell, neoverse = check(int8, [images], "classification", tmp_path, "all").results
    assert (neoverse.status, neoverse.inputs) == ("same", 16), neoverse.detail


def test_without_an_emulated_arm64_there_is_none(tmp_path: Path) -> None:
    assert arm64.find(tmp_path) is None


class Wide(nn.Module):
    """Inputs that are all large and weights that agree: the sums that saturate 16 bits without VNNI."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(256, 64), nn.Linear(64, 4)
        with torch.no_grad():
            self.body.weight.abs_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.body(x)))
        return logits


@pytest.fixture
def wide(tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    rows = 0.5 + torch.rand(32, 256, generator=torch.Generator().manual_seed(1))
    spec = (TensorSpec("x", "FP32", (-1, 256)),)
    export_torchscript(Wide().eval(), (rows,), spec, "logits", tmp_path / "w.onnx")
    return tmp_path / "w.onnx", [rows.numpy()]


@needs_emulator
@pytest.mark.slow
def test_seven_bit_weights_answer_alike_without_vnni_and_eight_bit_ones_do_not(wide, tmp_path: Path) -> None:
    # Given one network quantised in seven and in eight bits
    graph, rows = wide
    scheme = Scheme("int8-dynamic", "", dynamic=frozenset({"MatMul", "Gemm"}))
    seven = quantise(graph, scheme, rows, tmp_path / "7.onnx", reduce_range=True).path
    eight = quantise(graph, scheme, rows, tmp_path / "8.onnx", reduce_range=False).path
    # When both answer on an emulated Haswell and here
    good, bad = (check(path, rows, "regression", tmp_path, "extended").results[0] for path in (seven, eight))
    # Then the seven-bit form agrees, and the eight-bit form is caught wherever this CPU has VNNI
    assert good.status == "same", good.detail
    if "vnni" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU saturates as well, so both runs agree")
    assert bad.status == "differs"
    assert bad.confidence_gap > 5 * good.confidence_gap


@pytest.mark.slow
@needs_emulator
def test_runs_the_file_under_an_emulated_cpu_and_skips_what_it_cannot(wide, tmp_path: Path) -> None:
    graph, rows = wide
    haswell, arm = check(graph, rows, "classification", tmp_path, "off").results
    assert haswell.status == "same"
    assert haswell.inputs == 32
    assert arm.status in ("same", "skipped")
    assert arm.detail
