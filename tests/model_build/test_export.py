"""Export: a graph is kept only when it answers as PyTorch does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from handlers.errors import BuildError
from model_build.export import EXPORTERS, export, export_torchscript
from model_build.recipe import TensorSpec

SPEC = (TensorSpec("image", "FP32", (-1, 1, 8, 8)),)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )


def examples(rows: int = 32) -> tuple[torch.Tensor, ...]:
    return (torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(1)),)


def wrong_exporter(
    module: nn.Module, rows: tuple[torch.Tensor, ...], specs: Sequence[TensorSpec], output: str, path: Path
) -> None:
    """Writes a graph that loads and runs, and answers something else."""
    export_torchscript(nn.Sequential(module, nn.Softmax(dim=1)), rows, specs, output, path)


def static_exporter(
    module: nn.Module, rows: tuple[torch.Tensor, ...], specs: Sequence[TensorSpec], output: str, path: Path
) -> None:
    torch.onnx.export(module, rows, str(path), dynamo=False, input_names=["image"], output_names=[output])


@pytest.mark.slow
@pytest.mark.parametrize("exporter", EXPORTERS, ids=lambda pair: pair[0])
def test_each_exporter_agrees_with_pytorch_and_takes_any_batch(exporter, tmp_path: Path) -> None:
    # Given a network in training mode, so that dropout would show
    module = network().train()
    # When it is exported
    exported = export(module, examples(), SPEC, "logits", tmp_path / "m.onnx", [exporter])
    # Then the graph agrees, takes other batch sizes, and the module is left as it was
    assert exported.exporter == exporter[0]
    assert exported.parity.max_rel < 1e-5
    assert exported.parity.inputs == 32
    assert len(exported.parity.batch_sizes) >= 2
    session = ort.InferenceSession(str(tmp_path / "m.onnx"))
    assert session.run(["logits"], {"image": np.zeros((5, 1, 8, 8), np.float32)})[0].shape == (5, 10)
    assert module.training


@pytest.mark.parametrize("bad", [wrong_exporter, static_exporter])
def test_falls_back_when_the_first_exporter_is_wrong(bad, tmp_path: Path) -> None:
    exported = export(
        network(),
        examples(),
        SPEC,
        "logits",
        tmp_path / "m.onnx",
        [("bad", bad), ("torchscript", export_torchscript)],
    )
    assert exported.exporter == "torchscript"
    assert exported.rejected[0].startswith("bad: ")


def test_fails_loudly_when_no_exporter_agrees(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no exporter .* bad: answers differ from PyTorch by"):
        export(network(), examples(), SPEC, "logits", tmp_path / "m.onnx", [("bad", wrong_exporter)])
    assert not (tmp_path / "m.onnx").exists()


def test_refuses_too_few_inputs(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="at least 32 example inputs, got 31"):
        export(network(), examples(31), SPEC, "logits", tmp_path / "m.onnx")


def test_refuses_a_network_that_answers_nan(tmp_path: Path) -> None:
    module = network()
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(BuildError, match="NaN or infinity"):
        export(module, examples(), SPEC, "logits", tmp_path / "m.onnx")
