"""turnout's compression beside Olive, NNCF and plain `quantize_dynamic`, on the same float32 graphs.

`python -m scripts.bench.compression_peers [MODEL …] [--json]`. A MODEL must have been built (`turnout build
MODEL`); `resnet18` is made here. The peers live in a virtual environment of their own, made on first use.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from handlers.errors import BuildError
from model_build.tool_environment import python_with

Array = npt.NDArray[Any]

PACKAGES = ("nncf==3.4.0", "olive-ai==0.13.0")
PEERS = ("ort-dynamic", "olive-dynamic", "olive-static", "nncf")
MODELS = ("mnist", "sst2", "speech", "resnet18")
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """One model: the float32 graph that all start from, the data, and what turnout made of it.

    `score(outputs)`: the metric over the test rows. `emulated_rows`: how many of them an emulated CPU
    answers.
    """

    name: str
    graph: Path
    calibration: tuple[Array, ...]
    test: tuple[Array, ...]
    score: Callable[[Array], float]
    task: str
    turnout: Path
    turnout_level: str
    emulated_rows: int


@dataclass(frozen=True, slots=True)
class Row:
    """One tool on one model. `p50_ms`: one thread, batch 1; `sqnr_db`: against float32; `haswell`: see
    isa_parity.
    """

    model: str
    tool: str
    size_bytes: int | None = None
    p50_ms: float | None = None
    score: float | None = None
    sqnr_db: float | None = None
    haswell: str = ""
    haswell_gap: float | None = None
    failed: str = ""


def subject_of(model: str, folder: Path) -> Subject:
    """Load what a build has left in the cache, or make the ResNet."""
    return _resnet(folder) if model == "resnet18" else _built(model)


def _built(model: str) -> Subject:
    from model_build import build
    from model_build.recipes import find
    from model_build.trained import PruneResult

    ready = build.prepare(find(model))
    items = {item.step.name: item for item in ready.planned}
    missing = [name for name in ("export", "gate") if not items[name].cached]
    if missing:
        raise BuildError(f"{model}: not built with this code yet; run: turnout build {model}")
    from model_build.candidate import ExportResult
    from model_build.gate import GateResult

    exported = ready.cache.load("export", items["export"].key, ExportResult)
    gated = ready.cache.load("gate", items["gate"].key, GateResult)
    pruned = ready.cache.load("prune", items["prune"].key, PruneResult)
    whole = next(g for g in exported.graphs if g.network == pruned.candidates[-1].name)
    test = ready.splits.test
    return Subject(
        name=model,
        graph=whole.exported.path,
        calibration=ready.splits.calibration.tensors,
        test=test.tensors,
        score=lambda outputs: ready.recipe.metric.score(outputs, test.targets),
        task=ready.recipe.task,
        turnout=gated.chosen.candidate.path,
        turnout_level=gated.chosen.load_optimisation,
        emulated_rows=64,
    )


def _resnet(folder: Path) -> Subject:
    from model_build.candidate import Candidate
    from model_build.export import export
    from model_build.gate import ranked
    from model_build.latency import save_inputs, time_graph
    from model_build.measure import LEVELS, best_level, race
    from model_build.optimise import optimise
    from model_build.quantise import quantise, schemes
    from model_build.recipe import TensorSpec
    from model_build.session import outputs_of
    from scripts.bench.resnet import SIDE, images, resnet18

    spec = (TensorSpec("image", "FP32", (-1, 3, SIDE, SIDE)),)
    graph = export(resnet18(), (images(32, 1),), spec, "logits", folder / "resnet18.onnx").path
    calibration, test = (images(64, 2).numpy(),), (images(64, 3).numpy(),)
    wanted = outputs_of(graph, test).argmax(axis=1)
    made = []
    for scheme in (None, *schemes(graph)):
        name = "fp32" if scheme is None else scheme.name
        raw = (
            graph
            if scheme is None
            else quantise(graph, scheme, calibration, folder / f"{name}.raw.onnx").path
        )
        done = optimise(raw, folder / f"{name}.onnx")
        precision = "fp32" if scheme is None else "int8"
        made.append(Candidate(name, "resnet18", name, name, precision, 0.0, done.path, done.size_bytes, {}))  # type: ignore[arg-type]
    inputs = save_inputs([calibration[0][:2]], folder / "inputs.npz")
    times = race(
        made, lambda c, level: time_graph(c.path, inputs, load_optimisation=level, seconds=0.4, least=10)
    )
    from model_build.candidate import Measured

    measured = []
    for candidate in made:
        level, p50_ms, session_ms = best_level({lv: times[candidate.name, lv] for lv in LEVELS})
        agreement = float(np.mean(outputs_of(candidate.path, test).argmax(axis=1) == wanted))
        measured.append(Measured(candidate, agreement, p50_ms, session_ms, level))
    best = next(entry for entry in ranked(measured) if entry.score >= 0.9)
    return Subject(
        name="resnet18",
        graph=graph,
        calibration=calibration,
        test=test,
        score=lambda outputs: float(np.mean(outputs.argmax(axis=1) == wanted)),
        task="classification",
        turnout=best.candidate.path,
        turnout_level=best.load_optimisation,
        emulated_rows=2,
    )


def rows_for(subject: Subject, python: Path, folder: Path) -> list[Row]:
    """Every tool on one model: made by each, timed in turns, scored, and run on an emulated CPU."""
    from model_build.latency import save_inputs

    calibration = save_inputs(subject.calibration, folder / "calibration.npz")
    made: list[tuple[str, Path, str]] = [("float32", subject.graph, "all")]
    made.append(("turnout", subject.turnout, subject.turnout_level))
    rows: list[Row] = []
    for peer in PEERS:
        output = folder / f"{peer}.onnx"
        worker = Path(__file__).with_name("peer_quantise.py")
        command = [str(python), str(worker), peer, str(subject.graph), str(calibration), str(output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode == 0:
            made.append((peer, output, "all"))
        else:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            rows.append(Row(subject.name, peer, failed=last[:160]))
    return [*_measure(subject, made, folder), *rows]


def _measure(subject: Subject, made: Sequence[tuple[str, Path, str]], folder: Path) -> list[Row]:
    from model_build.isa_parity import check
    from model_build.latency import save_inputs, time_graph
    from model_build.session import outputs_of

    inputs = save_inputs([tensor[:8] for tensor in subject.test], folder / "inputs.npz")
    best: dict[str, float] = {}
    for _round in range(ROUNDS):
        for tool, path, level in made:
            p50 = time_graph(path, inputs, load_optimisation=level, seconds=0.3, least=10).batch_ms[1].p50
            best[tool] = min(best.get(tool, p50), p50)
    wanted = outputs_of(subject.graph, subject.test)
    rows = []
    for tool, path, level in made:
        outputs = outputs_of(path, subject.test, level)
        noise = float(np.mean((outputs - wanted) ** 2))
        sqnr = 10 * float(np.log10(np.mean(wanted**2) / noise)) if noise > 0 else None
        few = [tensor[: subject.emulated_rows] for tensor in subject.test]
        isa = check(path, few, subject.task, folder, level).results[0]
        rows.append(
            Row(subject.name, tool, path.stat().st_size, best[tool], subject.score(outputs), sqnr,
                isa.status, isa.confidence_gap if isa.status != "skipped" else None)
        )  # fmt: skip
    return rows


def main(
    models: Annotated[
        list[str] | None, typer.Argument(help=f"any of {', '.join(MODELS)}, or another recipe")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on stdout")] = False,
) -> None:
    """Print size, single-thread p50, score and AVX2 behaviour of every tool on every model."""
    python = python_with("peers", PACKAGES)
    rows: list[Row] = []
    head = f"{'model':<10}{'tool':<15}{'kB':>10}{'p50 ms':>9}{'score':>8}{'SQNR dB':>9}"
    if not as_json:
        print(f"{head}  on AVX2 (largest confidence gap)", flush=True)
    for model in models or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"peers: {model}", file=sys.stderr)
            rows += (made := rows_for(subject_of(model, Path(folder)), python, Path(folder)))
        if not as_json:
            print(*(_line(row) for row in made), sep="\n", flush=True)
    if as_json:
        typer.echo(json.dumps({"rows": [asdict(row) for row in rows]}))


def _line(row: Row) -> str:
    start = f"{row.model:<10}{row.tool:<15}"
    if row.failed:
        return f"{start}failed: {row.failed}"
    sqnr = "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
    gap = "" if row.haswell_gap is None else f" ({row.haswell_gap:.4f})"
    size = (row.size_bytes or 0) / 1000
    return f"{start}{size:>10.1f}{row.p50_ms:>9.3f}{row.score:>8.4f}{sqnr:>9}  {row.haswell}{gap}"


def run() -> None:
    """Entry point: an error that the user can mend is one line and exit code 2."""
    try:
        typer.run(main)
    except BuildError as error:
        print(f"compression_peers: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
