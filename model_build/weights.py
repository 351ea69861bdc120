"""Weights: inside the ONNX file or beside it, whichever opens faster.

A file beside the graph is mapped into memory rather than parsed and copied: for tens of MB that halves the
time to open a session. Small graphs open as fast in one piece, and one file is one download.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from model_build.gate import GateResult
from model_build.latency import save_inputs, time_graph
from model_build.step import Step, Work

WORTH_TRYING_BYTES = 4_000_000
WORTH_SHARE = 0.9
BESIDE_FROM_BYTES = 1024
ROUNDS = 3
GRAPH_NAME = "model.onnx"


@dataclass(frozen=True, slots=True)
class Placed:
    """The files of the cpu variant. `inside_ms`, `beside_ms`: opening a session each way (None: untried)."""

    graph: Path
    data: Path | None
    size_bytes: int
    inside_ms: float | None = None
    beside_ms: float | None = None


def place_weights(work: Work, gated: GateResult) -> Placed:
    """Decide by timing both in fresh processes, in turns; the best of each counts."""
    chosen = gated.chosen
    path, level = chosen.candidate.path, chosen.load_optimisation
    if chosen.candidate.size_bytes < WORTH_TRYING_BYTES:
        return Placed(path, None, chosen.candidate.size_bytes)
    beside, data = move_beside(path, work.folder / GRAPH_NAME)
    inputs = save_inputs(
        [tensor[:1] for tensor in work.splits.calibration.tensors], work.folder / "inputs.npz"
    )
    inside_ms: list[float] = []
    beside_ms: list[float] = []
    for turn in range(ROUNDS):
        work.progress(turn / ROUNDS, "opening")
        for graph, times in ((path, inside_ms), (beside, beside_ms)):
            run = time_graph(graph, inputs, load_optimisation=level, seconds=0.0, least=1)
            times.append(run.session_ms)
    return decide(path, beside, data, min(inside_ms), min(beside_ms))


def decide(path: Path, beside: Path, data: Path, inside_ms: float, beside_ms: float) -> Placed:
    """Beside only where that opens at least a tenth faster."""
    if beside_ms <= WORTH_SHARE * inside_ms:
        size = beside.stat().st_size + data.stat().st_size
        return Placed(beside, data, size, inside_ms, beside_ms)
    return Placed(path, None, path.stat().st_size, inside_ms, beside_ms)


def move_beside(path: Path, target: Path) -> tuple[Path, Path]:
    """Write the graph to `target` and its weights of 1 kB and more to `target`.data; returns both paths."""
    data = target.with_name(target.name + ".data")
    data.unlink(missing_ok=True)  # onnx appends to what is there
    onnx.save_model(
        onnx.load(str(path)),
        str(target),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=BESIDE_FROM_BYTES,
    )
    return target, data


WEIGHTS = Step("weights", place_weights, needs=("gate",), reads=())
