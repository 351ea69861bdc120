"""What each switch buys on the device at hand: throughput and p99 by batch, and the distance to its ceiling.

    python -m scripts.bench.gpu_device [--models light,medium,heavy] [--device auto] [--variants eager,aot]
        [--json]

On CPU it compares eager, compiled, ahead-of-time and half precision with one thread; on CUDA also with and
without graphs. The ceiling is the device's own matrix multiplication, timed here in the same precision,
applied to the model's counted operations. A variant that fails says why in its row.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from model_build.gpu_server.backend import Backend, choose
from model_build.gpu_server.spec import GraphSpec, from_manifest
from scripts.bench.gpu_models import MODELS, BenchModel, write_release

VARIANTS = (
    ("eager", "eager", "release", False),
    ("eager bf16", "eager", "bf16", False),
    ("eager fp16", "eager", "fp16", False),
    ("compile", "compile", "release", False),
    ("compile bf16", "compile", "bf16", False),
    ("aot", "aot", "release", False),
    ("graph", "eager", "release", True),
    ("graph bf16", "eager", "bf16", True),
    ("compile graph bf16", "compile", "bf16", True),
)
LABELS = [variant[0] for variant in VARIANTS]


def timed(backend: Backend, size: int, seconds: float) -> tuple[float, float]:
    """(items a second with two batches under way, p99 in ms of one batch alone)."""
    alone: list[float] = []
    for _ in range(3):
        backend.stage()
        backend.submit(size, size).output()
    end = time.perf_counter() + seconds / 2
    while time.perf_counter() < end or len(alone) < 5:
        begun = time.perf_counter()
        backend.stage()
        backend.submit(size, size).output()
        alone.append((time.perf_counter() - begun) * 1000)
    begun, batches = time.perf_counter(), 0
    backend.stage()
    pending = backend.submit(size, size)
    while time.perf_counter() < begun + seconds / 2 or batches < 5:
        backend.stage()
        following = backend.submit(size, size)
        pending.output()
        pending, batches = following, batches + 1
    pending.output()
    return (batches + 1) * size / (time.perf_counter() - begun), float(np.percentile(alone, 99))


def peak_flops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a square matrix multiplication: the ceiling that can be reached."""
    a = torch.rand(side, side, device=device).to(dtype)
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return 2 * side**3 / min(times)


def operations(model: BenchModel) -> int:
    """Floating-point operations of one item, counted on a forward pass."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.make().eval()(model.example(1))
    return int(counter.get_total_flops())


def bench(
    model: BenchModel, name: str, sizes: tuple[int, ...], seconds: float, wanted: list[str]
) -> list[dict[str, Any]]:
    """Every variant that is wanted with one model."""
    from handlers.serving.manifest import load

    device = torch.device(name)
    rows: list[dict[str, Any]] = []
    flops = operations(model)
    side = 8192 if device.type == "cuda" else 1024
    with TemporaryDirectory() as folder:
        release = Path(folder)
        write_release(
            release,
            model.make(),
            model.example(2),
            datatype=model.datatype,
            classes=model.classes,
            model=model.name,
        )
        spec: GraphSpec = from_manifest(load(release))
        for label, engine, precision, graphs in VARIANTS:
            if label not in wanted or (graphs and device.type == "cpu"):
                continue
            row: dict[str, Any] = {"model": model.name, "variant": label}
            try:
                backend = choose(
                    release / "gpu/model.pt2",
                    spec,
                    name,
                    engine,
                    precision,
                    max(sizes),
                    pinned=True,
                    cuda_graphs=graphs,
                )
                dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
                peak = peak_flops(device, dtype, side)
                for size in sizes:
                    rate, p99 = timed(backend, size, seconds)
                    row[str(size)] = {"items_per_s": rate, "p99_ms": p99, "of_ceiling": rate * flops / peak}
            except Exception as error:  # a variant that this device or toolchain cannot run is a finding
                row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
            rows.append(row)
    return rows


def main(
    models: str = "light,medium,heavy",
    device: str = "auto",
    sizes: str = "1,8,32",
    seconds: float = 1.0,
    variants: str = ",".join(LABELS),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Measure and print the table (or one JSON document)."""
    torch.set_num_threads(1)
    name = device if device != "auto" else ("cuda:0" if torch.cuda.is_available() else "cpu")
    wanted = variants.split(",")
    unknown = [label for label in wanted if label not in LABELS]
    if unknown:
        raise typer.BadParameter(f"variants: {unknown} is not allowed; allowed: {', '.join(LABELS)}")
    batches = tuple(int(size) for size in sizes.split(","))
    rows = [
        row for model in models.split(",") for row in bench(MODELS[model], name, batches, seconds, wanted)
    ]
    card = torch.cuda.get_device_name(name) if name.startswith("cuda") else "CPU, one thread"
    if as_json:
        print(json.dumps({"device": card, "rows": rows}))
        return
    print(f"{card}; items/s, p99 ms, share of the ceiling, by batch size {sizes}")
    for row in rows:
        cells = (
            [row.get("failed", "")]
            if "failed" in row
            else [
                "{items_per_s:>9.0f} {p99_ms:>8.2f} {of_ceiling:>5.0%}".format(**row[str(size)])
                for size in batches
            ]
        )
        print(f"{row['model']:8}{row['variant']:20}" + " |".join(cells))


if __name__ == "__main__":
    typer.run(main)
