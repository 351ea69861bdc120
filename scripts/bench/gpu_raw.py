"""The raw batched model in a process of its own: the ceiling that a server is measured against."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.bench.gpu_models import MODELS, BenchModel


def raw_curve(program: str, model: BenchModel, threads: int) -> dict[str, dict[str, float]]:
    """Batch size -> {ms (median), items_per_s}, measured without any server."""
    command = [sys.executable, "-m", "scripts.bench.gpu_raw", program, model.name, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    curve: dict[str, dict[str, float]] = json.loads(done.stdout)
    return curve


def measure(program: str, model: BenchModel, threads: int, seconds: float = 2.0) -> dict[str, Any]:
    """Run the program in a loop at batch 1 and at the largest batch."""
    import torch

    from model_build.gpu_server.backend import load_forward

    torch.set_num_threads(threads)
    forward = load_forward(Path(program), torch.device("cpu"), "eager", "release")
    curve: dict[str, Any] = {}
    for size in (1, model.max_batch):
        batch = model.example(size)
        times: list[float] = []
        with torch.inference_mode():
            for _ in range(3):
                forward(batch)
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(times) < 5:
                begun = time.perf_counter()
                forward(batch)
                times.append((time.perf_counter() - begun) * 1000)
        ms = statistics.median(times)
        curve[str(size)] = {"ms": ms, "items_per_s": size / (statistics.fmean(times) / 1000)}
    return curve


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], MODELS[sys.argv[2]], int(sys.argv[3]))))
