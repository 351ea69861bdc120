"""The raw batched model in a process of its own: the ceiling that a server is measured against."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench.gpu_models import MODELS, BenchModel


def raw_curve(program: str, model: BenchModel, device: str, threads: int) -> dict[str, dict[str, float]]:
    """Batch size -> {ms (median), items_per_s}, measured without any server."""
    command = [sys.executable, "-m", "scripts.bench.gpu_raw", program, model.name, device, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    curve: dict[str, dict[str, float]] = json.loads(done.stdout)
    return curve


def measure(
    program: str, model: BenchModel, device: str, threads: int, seconds: float = 2.0
) -> dict[str, Any]:
    """Run the program in a loop at batch 1 and at the largest batch, its input on the device already; on CUDA
    as a captured graph, which spares the launches.
    """
    import torch

    from model_build.gpu_server.backend import load_forward

    torch.set_num_threads(threads)
    forward = load_forward(Path(program), torch.device(device), "eager", "release")
    curve: dict[str, Any] = {}
    for size in (1, model.batch_on(device)):
        batch = model.example(size).to(device)
        times: list[float] = []
        with torch.inference_mode():
            run = _captured(forward, batch) if device == "cuda" else partial(forward, batch)
            for _ in range(3):
                run()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(times) < 5:
                begun = time.perf_counter()
                run()
                times.append((time.perf_counter() - begun) * 1000)
        ms = statistics.median(times)
        curve[str(size)] = {"ms": ms, "items_per_s": size / (statistics.fmean(times) / 1000)}
    return curve


def _captured(forward: Callable[..., Any], batch: Any) -> Callable[[], None]:
    """Replays one captured pass and waits for it."""
    import torch

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            forward(batch)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward(batch)

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], MODELS[sys.argv[2]], sys.argv[3], int(sys.argv[4]))))
