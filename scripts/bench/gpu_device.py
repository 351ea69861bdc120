"""What each switch buys on the device at hand: throughput and p99 by batch, and the distance to its ceiling.

    python -m scripts.bench.gpu_device [--models light,medium,heavy] [--device auto] [--variants eager,aot]
        [--sizes 1,8,32] [--json]

On CPU it compares eager, compiled, ahead-of-time and half precision with one thread; on CUDA also graphs,
pinned buffers and copies that overlap, each left out of the server's default (`graph`) in turn. The ceiling
is of `scripts.bench.ceiling`, from rates timed here. A variant that fails says why in its row.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import typer

from handlers.serving.manifest import load
from model_build.gpu_server.backend import Backend, choose
from model_build.gpu_server.spec import from_manifest
from scripts.bench.ceiling import Rates, Work, ceiling, rates_of, work_of
from scripts.bench.gpu_models import MODELS, BenchModel, write_release


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting of the server's switches; `graphs`, `pinned` and `overlap` matter on CUDA alone."""

    label: str
    engine: str = "eager"
    precision: str = "release"
    graphs: bool = False
    pinned: bool = True
    overlap: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """What the products are computed in."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    @property
    def for_cuda(self) -> bool:
        """Whether a CPU would only repeat another row."""
        return self.graphs or not self.pinned or not self.overlap or self.precision == "tf32"


VARIANTS = (
    Variant("eager"),
    Variant("eager bf16", precision="bf16"),
    Variant("eager fp16", precision="fp16"),
    Variant("compile", "compile"),
    Variant("compile bf16", "compile", "bf16"),
    Variant("aot", "aot"),
    Variant("graph", graphs=True),
    Variant("graph, no overlap", graphs=True, overlap=False),
    Variant("graph, unpinned", graphs=True, pinned=False),
    Variant("graph tf32", precision="tf32", graphs=True),
    Variant("graph bf16", precision="bf16", graphs=True),
    Variant("graph fp16", precision="fp16", graphs=True),
    Variant("compile graph tf32", "compile", "tf32", graphs=True),
    Variant("compile graph bf16", "compile", "bf16", graphs=True),
)
LABELS = [variant.label for variant in VARIANTS]


def timed(backend: Backend, size: int, seconds: float, overlap: bool) -> tuple[float, float]:
    """(items a second, the next batch under way where copies may overlap; p99 in ms of a batch alone)."""
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
    p99_ms = float(np.percentile(alone, 99))
    if not overlap:
        return size * len(alone) / (sum(alone) / 1000), p99_ms
    begun, batches = time.perf_counter(), 0
    backend.stage()
    pending = backend.submit(size, size)
    while time.perf_counter() < begun + seconds / 2 or batches < 5:
        backend.stage()
        following = backend.submit(size, size)
        pending.output()
        pending, batches = following, batches + 1
    pending.output()
    return (batches + 1) * size / (time.perf_counter() - begun), p99_ms


def bench(
    model: BenchModel,
    device: torch.device,
    sizes: tuple[int, ...],
    seconds: float,
    wanted: list[Variant],
    rates: dict[torch.dtype, Rates],
) -> list[dict[str, Any]]:
    """Every variant that is wanted with one model."""
    rows: list[dict[str, Any]] = []
    work = work_of(model)
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
        for variant in wanted:
            print(f"[{model.name}] {variant.label}", file=sys.stderr)
            rows.append(
                {"model": model.name, "variant": variant.label}
                | _measured(variant, release, device, sizes, seconds, work, best_of(rates, variant.dtype))
            )
    return rows


def _measured(
    variant: Variant,
    release: Path,
    device: torch.device,
    sizes: tuple[int, ...],
    seconds: float,
    work: Work,
    rates: Rates,
) -> dict[str, Any]:
    """Size -> {items_per_s, p99_ms, of_ceiling, roof}, or the reason why it cannot run."""
    row: dict[str, Any] = {}
    try:
        backend = choose(
            release / "gpu/model.pt2",
            from_manifest(load(release)),
            str(device),
            variant.engine,
            variant.precision,
            max(sizes),
            pinned=variant.pinned,
            cuda_graphs=variant.graphs,
        )
        for size in sizes:
            rate, p99 = timed(backend, size, seconds, variant.overlap)
            roof = ceiling(work, rates, size, variant.dtype.itemsize)
            row[str(size)] = {
                "items_per_s": rate,
                "p99_ms": p99,
                "of_ceiling": rate / roof.items_per_s,
                "roof": roof.roof,
            }
    except Exception as error:  # a variant that this device or toolchain cannot run is a finding
        row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return row


def main(
    models: str = "light,medium,heavy",
    device: str = "auto",
    sizes: str = "1,8,32",
    seconds: float = 1.0,
    variants: str = ";".join(LABELS),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Measure and print the table (or one JSON document); variants are divided by semicolons."""
    torch.set_num_threads(1)
    name = device if device != "auto" else ("cuda:0" if torch.cuda.is_available() else "cpu")
    asked = variants.split(";")
    for option, values, allowed in (("variants", asked, LABELS), ("models", models.split(","), list(MODELS))):
        unknown = [value for value in values if value not in allowed]
        if unknown:
            raise typer.BadParameter(f"{option}: {unknown} is not allowed; allowed: {', '.join(allowed)}")
    target = torch.device(name)
    wanted = [v for v in VARIANTS if v.label in asked and not (v.for_cuda and target.type == "cpu")]
    rates = {dtype: rates_of(target, dtype) for dtype in {torch.float32} | {v.dtype for v in wanted}}
    batches = tuple(int(size) for size in sizes.split(","))
    rows = [
        row
        for model in models.split(",")
        for row in bench(MODELS[model], target, batches, seconds, wanted, rates)
    ]
    card = torch.cuda.get_device_name(name) if target.type == "cuda" else "CPU, one thread"
    if as_json:
        found = {str(dtype).removeprefix("torch."): vars_of(rate) for dtype, rate in rates.items()}
        print(json.dumps({"device": card, "torch": torch.__version__, "rates": found, "rows": rows}))
        return
    print(f"{card}, PyTorch {torch.__version__}; " + "; ".join(describe(d, r) for d, r in rates.items()))
    print(f"items/s, p99 ms of a batch alone, share of the ceiling and its roof, in batches of {sizes}")
    for row in rows:
        cells = (
            [" " + row["failed"]]
            if "failed" in row
            else [
                "{items_per_s:>10.0f} {p99_ms:>8.2f} {of_ceiling:>5.0%} {roof:<10}".format(**row[str(size)])
                for size in batches
            ]
        )
        print(f"{row['model']:8}{row['variant']:20}" + "|".join(cells))


def best_of(rates: dict[torch.dtype, Rates], dtype: torch.dtype) -> Rates:
    """The rates in `dtype`, or float32's arithmetic where that is faster (CPUs that only emulate a half)."""
    return replace(rates[dtype], flops=max(rates[dtype].flops, rates[torch.float32].flops))


def vars_of(rates: Rates) -> dict[str, float | None]:
    """For JSON, which has no infinity."""
    bus = rates.bus_bytes if rates.bus_bytes < float("inf") else None
    return {"flops": rates.flops, "memory_bytes": rates.memory_bytes, "bus_bytes": bus}


def describe(dtype: torch.dtype, rates: Rates) -> str:
    """One precision's rates in words."""
    bus = f", bus {rates.bus_bytes / 1e9:.1f} GB/s" if rates.bus_bytes < float("inf") else ""
    name = str(dtype).removeprefix("torch.")
    return f"{name} {rates.flops / 1e12:.2f} TFLOP/s, memory {rates.memory_bytes / 1e9:.0f} GB/s{bus}"


if __name__ == "__main__":
    typer.run(main)
