"""Export: a PyTorch network becomes an ONNX graph that is proved to answer the same.

`torch.onnx.export` has had wrong-answer bugs in both of its exporters (pytorch #148886, #166797, #169178), so
neither is believed: each one's graph is compared with PyTorch, and the first that agrees is kept.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn

from handlers.errors import BuildError
from model_build.recipe import TensorSpec

Array = npt.NDArray[Any]
Exporter = Callable[[nn.Module, tuple[torch.Tensor, ...], Sequence[TensorSpec], str, Path], None]

OPSET = 20
MIN_INPUTS = 32
# A float32 graph may reorder sums; more than this is another function.
MAX_RELATIVE_ERROR = 1e-4
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the graph's answers are from PyTorch's in float32.

    `max_abs`: largest absolute difference; `max_rel`: that over the largest absolute answer; `inputs`:
    examples compared; `batch_sizes`: in batches of these sizes.
    """

    max_abs: float
    max_rel: float
    inputs: int
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A float32 ONNX graph: where, by which exporter, and how exactly it agrees with PyTorch.

    `rejected`: why each exporter tried before this one was not believed.
    """

    path: Path
    exporter: str
    opset: int
    parity: Parity
    size_bytes: int
    rejected: tuple[str, ...] = ()


def export(
    module: nn.Module,
    examples: tuple[torch.Tensor, ...],
    tensors: Sequence[TensorSpec],
    output_name: str,
    path: Path,
    exporters: Sequence[tuple[str, Exporter]] | None = None,
) -> Exported:
    """Write `module` as ONNX with a dynamic batch axis to `path`, by the first exporter that passes parity.

    `examples`: one tensor per graph input, at least 32 rows. Raises BuildError when no exporter gives a graph
    that agrees within 1e-4 of the largest answer on every example, in batches of 1 and of several.
    """
    rows = len(examples[0])
    if rows < MIN_INPUTS:
        raise BuildError(f"export: parity needs at least {MIN_INPUTS} example inputs, got {rows}")
    was_training = module.training
    rejected: list[str] = []
    try:
        for name, exporter in exporters or EXPORTERS:
            module.eval()
            try:
                exporter(module, examples, tensors, output_name, path)
                parity = measure_parity(module.eval(), path, examples, tensors)
            except Exception as error:  # an exporter may fail with anything: its reason is kept and shown
                rejected.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
                continue
            if parity.max_rel <= MAX_RELATIVE_ERROR:
                return Exported(path, name, _opset(path), parity, path.stat().st_size, tuple(rejected))
            rejected.append(
                f"{name}: answers differ from PyTorch by {parity.max_rel:.2e} of the largest answer"
                f" (allowed {MAX_RELATIVE_ERROR:.0e})"
            )
    finally:
        module.train(was_training)
    path.unlink(missing_ok=True)
    raise BuildError("export: no exporter gave a graph that answers as PyTorch does: " + "; ".join(rejected))


def measure_parity(
    module: nn.Module,
    path: Path,
    examples: tuple[torch.Tensor, ...],
    tensors: Sequence[TensorSpec],
    batch_sizes: tuple[int, ...] = (1, 8),
) -> Parity:
    """Run graph and module on the same examples, in batches of each size; see Parity."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rows = len(examples[0])
    worst, largest = 0.0, 0.0
    for size in batch_sizes:
        for start in range(0, rows, size):
            batch = tuple(example[start : start + size] for example in examples)
            with torch.inference_mode():
                wanted = module(*batch).float().numpy()
            got = session.run(None, dict(zip((t.name for t in tensors), map(_numpy, batch), strict=True)))[0]
            if got.shape != wanted.shape:
                raise BuildError(f"export: a batch of {len(wanted)} came back with shape {got.shape}")
            difference = np.abs(got - wanted)
            if not np.isfinite(difference).all():
                raise BuildError("export: the graph or the network answers NaN or infinity")
            worst = max(worst, float(difference.max()))
            largest = max(largest, float(np.abs(wanted).max()))
    return Parity(worst, worst / max(largest, SMALLEST), rows, batch_sizes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both exporters print and warn at length about what parity then checks."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


@_quiet()
def export_dynamo(
    module: nn.Module,
    examples: tuple[torch.Tensor, ...],
    tensors: Sequence[TensorSpec],
    output: str,
    path: Path,
) -> None:
    """The exporter over `torch.export`: smaller graphs, needs a traceable module."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    torch.onnx.export(
        module,
        tuple(example[:2] for example in examples),
        str(path),
        dynamo=True,
        input_names=[tensor.name for tensor in tensors],
        output_names=[output],
        dynamic_shapes=tuple({0: batch} for _ in tensors),
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )


@_quiet()
def export_torchscript(
    module: nn.Module,
    examples: tuple[torch.Tensor, ...],
    tensors: Sequence[TensorSpec],
    output: str,
    path: Path,
) -> None:
    """The older exporter over TorchScript tracing."""
    names = [tensor.name for tensor in tensors]
    torch.onnx.export(
        module,
        tuple(example[:2] for example in examples),
        str(path),
        dynamo=False,
        input_names=names,
        output_names=[output],
        dynamic_axes={name: {0: "batch"} for name in [*names, output]},
        opset_version=OPSET,
    )


EXPORTERS: tuple[tuple[str, Exporter], ...] = (("dynamo", export_dynamo), ("torchscript", export_torchscript))


def _numpy(tensor: torch.Tensor) -> Array:
    return np.ascontiguousarray(tensor.numpy())


def _opset(path: Path) -> int:
    imports = onnx.load(str(path)).opset_import
    return next(int(entry.version) for entry in imports if entry.domain in ("", "ai.onnx"))
