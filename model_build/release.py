"""Release: everything that a function and an endpoint need, in one folder named by its content."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from handlers.errors import BuildError
from handlers.serving import manifest as manifests
from model_build.calibrate import Calibration
from model_build.candidate import ExportResult
from model_build.evaluate import Evaluated
from model_build.gate import GateResult
from model_build.gpu_variant import GpuVariant
from model_build.profile import GPU_MAX_WAIT_MS, GPU_STARTUP_S, NETWORK_MS, Profiled
from model_build.recipe import Recipe, Sample, Splits, TensorSpec
from model_build.weights import Placed

CPU_FILE, GPU_FILE, REPORT_FILE, SAMPLES_FILE = (
    "cpu/model.onnx",
    "gpu/model.pt2",
    "report.html",
    "samples.json",
)
TOOLCHAIN = ("torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the steps before have made of one recipe."""

    exported: ExportResult
    gated: GateResult
    placed: Placed
    gpu: GpuVariant
    calibration: Calibration
    profiled: Profiled
    evaluated: Evaluated


@dataclass(frozen=True, slots=True)
class Released:
    """A whole release: its folder and its id."""

    folder: Path
    release: str


def assemble(recipe: Recipe, splits: Splits, parts: Parts, report: str, folder: Path) -> Released:
    """Lay out the release in `folder` (made anew) and check it as a function will before serving it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in (CPU_FILE, GPU_FILE):
        (folder / name).parent.mkdir(parents=True)
    shutil.copyfile(parts.placed.graph, folder / CPU_FILE)
    if parts.placed.data is not None:
        shutil.copyfile(parts.placed.data, folder / f"{CPU_FILE}.data")
    shutil.copyfile(parts.gpu.path, folder / GPU_FILE)
    (folder / REPORT_FILE).write_text(report, encoding="utf-8")
    (folder / SAMPLES_FILE).write_bytes(manifests.canonical(samples_document(recipe.inputs, splits.samples)))
    for name, content in splits.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    files = {
        str(path.relative_to(folder)): manifests.file_entry(path)._asdict()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = manifests.canonical(document(recipe, parts, files))
    (folder / manifests.MANIFEST_NAME).write_bytes(content)
    manifests.verify(folder, manifests.parse(content))
    return Released(folder, manifests.release_id(content))


def document(recipe: Recipe, parts: Parts, files: dict[str, Any]) -> dict[str, Any]:
    """The manifest as JSON values; see handlers.serving.manifest."""
    calibration, evaluated, chosen = parts.calibration, parts.evaluated, parts.gated.chosen
    graph = next(g for g in parts.exported.graphs if g.network == chosen.candidate.network)
    shape = [-1, len(recipe.labels)] if recipe.task == "classification" else [-1, *_value_shape(parts)]
    output = {"name": recipe.output_name, "dtype": "FP32", "shape": shape}
    return {
        "schema_version": manifests.SCHEMA_VERSION,
        "model": recipe.name,
        "task": recipe.task,
        "metric": recipe.metric.name,
        "labels": list(recipe.labels),
        "toolchain": {"turnout": version("turnout"), **{name: version(name) for name in TOOLCHAIN}},
        "inputs": [_spec(spec) for spec in recipe.inputs],
        "preprocess": dict(recipe.preprocess),
        "tensors": [_spec(spec) for spec in recipe.tensors],
        "outputs": wire_outputs(recipe.task, output),
        "graph_output": output,
        "variants": {
            "cpu": {
                "file": CPU_FILE,
                "precision": chosen.candidate.precision,
                "scheme": chosen.candidate.name,
                "reason": parts.gated.reason,
                "opset": graph.exported.opset,
                "ort_min": ".".join(version("onnxruntime").split(".")[:2]) + ".0",
                "accuracy": evaluated.cpu,
                "size_bytes": parts.placed.size_bytes,
                "temperature": calibration.temperature,
                "load_optimisation": chosen.load_optimisation,
                "exporter": graph.exported.exporter,
                "parity": asdict(graph.exported.parity),
                "isa_parity": [asdict(result) for result in parts.gated.isa.results],
            },
            "gpu": {
                "file": GPU_FILE,
                "precision": parts.gpu.precision,
                "accuracy": evaluated.gpu,
                "size_bytes": parts.gpu.size_bytes,
                "temperature": calibration.gpu_temperature,
            },
        },
        "networks": {
            row.name: {"score": row.score, "parameters": row.parameters}
            for row in evaluated.rows
            if row.size_bytes is None
        },
        "cascade": cascade_document(calibration),
        "profile": profile_document(parts),
        "samples": SAMPLES_FILE,
        "files": files,
    }


def cascade_document(calibration: Calibration) -> dict[str, Any] | None:
    """The cascade's part of the manifest, None for a regression."""
    if calibration.cascade is None:
        return None
    cascade = asdict(calibration.cascade)
    cascade["curve"] = [asdict(point) for point in calibration.cascade.curve]
    return cascade


def profile_document(parts: Parts) -> dict[str, Any]:
    """The profile's part: measured times, and what could not be measured here and is assumed."""
    profiled, evaluated, row = parts.profiled, parts.evaluated, parts.profiled.chosen
    cascade = parts.calibration.cascade
    return {
        "cpu": {
            "memory_mb": profiled.memory_mb,
            "memory_reason": profiled.reason,
            "service_ms": {"p50": row.p50, "p95": row.p95, "p99": row.p99},
            "batch_ms": {str(size): ms for size, ms in profiled.batch_ms.items()},
            "init_ms": row.init_ms,
            "session_ms": profiled.session_ms,
            "import_ms": profiled.import_ms,
            "resident_mb": profiled.resident_mb,
            "accuracy": evaluated.cpu,
            "memory_table": [asdict(entry) for entry in profiled.memory_table],
            "by_threads": {
                str(count): {str(size): asdict(timing) for size, timing in sizes.items()}
                for count, sizes in profiled.by_threads.items()
            },
        },
        "gpu": {
            "batch_ms": {str(size): ms for size, ms in profiled.gpu_batch_ms.items()},
            "max_batch": max(profiled.gpu_batch_ms),
            "max_wait_ms": GPU_MAX_WAIT_MS,
            "startup_s": GPU_STARTUP_S,
            "accuracy": evaluated.gpu,
            "device": profiled.gpu_device,
        },
        "network_ms": NETWORK_MS,
        "escalation_share": cascade.escalation_share if cascade else 0.0,
        "machine": profiled.machine,
        "prices": {"cold_share": profiled.cold_share, **asdict(profiled.price)},
        "assumed": ["gpu.startup_s", "gpu.max_wait_ms", "network_ms"],
    }


def wire_outputs(task: str, output: dict[str, Any]) -> list[dict[str, Any]]:
    """What a caller gets back."""
    if task != "classification":
        return [output]
    return [
        {"name": "probabilities", "dtype": "FP32", "shape": output["shape"]},
        {"name": "label", "dtype": "BYTES", "shape": [-1]},
        {"name": "confidence", "dtype": "FP32", "shape": [-1]},
    ]


def samples_document(inputs: Sequence[TensorSpec], samples: Sequence[Sample]) -> dict[str, Any]:
    """Held-out examples as Open Inference Protocol JSON tensors; bytes that are not text travel in base64."""
    rows = []
    for sample in samples:
        tensors = []
        for spec, value in zip(inputs, sample.inputs, strict=True):
            if isinstance(value, bytes):
                try:
                    tensor = {"shape": [1], "data": [value.decode("utf-8")]}
                except UnicodeDecodeError:
                    encoded = base64.b64encode(value).decode("ascii")
                    tensor = {"shape": [1], "data": [encoded], "parameters": {"encoding": "base64"}}
            else:
                array = np.asarray(value)
                tensor = {"shape": [1, *array.shape], "data": array.ravel().tolist()}
            tensors.append({"name": spec.name, "datatype": spec.dtype, **tensor})
        rows.append({"inputs": tensors, "label": sample.label})
    return {"samples": rows}


def publish(released: Released, model: str, store: Path) -> Path:
    """Copy a release into `store`/model/release and point `current` at it, each in one rename."""
    home = store / model
    home.mkdir(parents=True, exist_ok=True)
    final = home / released.release
    if final.is_dir():
        manifests.verify(final, manifests.load(final))
    else:
        part = Path(tempfile.mkdtemp(prefix=".partial-", dir=home))
        try:
            shutil.copytree(released.folder, part / "release")
            manifests.verify(part / "release", manifests.load(part / "release"))
            (part / "release").rename(final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    set_current(home, released.release)
    return final


def set_current(home: Path, release: str) -> None:
    """Point `current` of a model's folder at a release that is there. Raises BuildError when it is not."""
    if not (home / release / manifests.MANIFEST_NAME).is_file():
        raise BuildError(f"release {release}: not in {home}")
    part = home / f".current-{os.getpid()}"
    part.write_text(release + "\n")
    part.rename(home / "current")


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _entry(path: Path) -> dict[str, Any]:
    entry = manifests.file_entry(path)
    return {"sha256": entry.sha256, "bytes": entry.bytes}


def _value_shape(parts: Parts) -> list[int]:
    import onnx  # slow to import, and needed only for a regression

    output = onnx.load(str(parts.gated.chosen.candidate.path)).graph.output[0]
    return [dim.dim_value for dim in output.type.tensor_type.shape.dim[1:]]
