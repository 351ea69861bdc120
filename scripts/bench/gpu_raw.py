"""The raw batched model in a process of its own: the ceiling that a server is measured against.

The process stays and waits for orders, so that the ceiling can be measured right before and after a server:
where the machine's own speed changes by half within seconds, only neighbours compare.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from scripts.bench.gpu_models import MODELS, BenchModel

Timing = dict[str, float]
"""{"ms": a batch's median, "items_per_s"}."""
Raw = Callable[[int, float], Timing]
"""(batch size, seconds to measure for) -> its timing; three batches are the least."""


@contextmanager
def raw_model(program: str, model: BenchModel, device: str, threads: int) -> Iterator[Raw]:
    """The program without any server, loaded until the end of the block."""
    command = [sys.executable, "-m", "scripts.bench.gpu_raw", program, model.name, device, str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        orders, answers = process.stdin, process.stdout
        if orders is None or answers is None:
            raise TypeError("both pipes were asked for")

        def measure(size: int, seconds: float) -> Timing:
            print(json.dumps([size, seconds]), file=orders, flush=True)
            timing: Timing = json.loads(answers.readline())
            return timing

        yield measure


def serve(program: str, model: BenchModel, device: str, threads: int) -> None:
    """Measure what each line of the input asks for: the program in a loop, its input on the device already.

    On CUDA as a captured graph, which spares the launches. One thread keeps to the core that the bench gives
    to each server's busiest process.
    """
    import torch

    from model_build.gpu_server.backend import load_forward

    cores = sorted(os.sched_getaffinity(0))
    if device == "cpu" and threads == 1 and len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
    torch.set_num_threads(threads)
    forward = load_forward(Path(program), torch.device(device), "eager", "release")
    ready: dict[int, Callable[[], object]] = {}
    for line in sys.stdin:
        size, seconds = json.loads(line)
        with torch.inference_mode():
            if size not in ready:
                batch = model.example(size).to(device)
                ready[size] = _captured(forward, batch) if device == "cuda" else partial(forward, batch)
                for _ in range(3):
                    ready[size]()
            print(json.dumps(timed(ready[size], size, seconds)), flush=True)


def timed(run: Callable[[], object], size: int, seconds: float) -> Timing:
    """`run`, a batch of `size`, again and again for `seconds`."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        begun = time.perf_counter()
        run()
        times.append((time.perf_counter() - begun) * 1000)
    return {"ms": statistics.median(times), "items_per_s": size / (statistics.fmean(times) / 1000)}


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
    serve(sys.argv[1], MODELS[sys.argv[2]], sys.argv[3], int(sys.argv[4]))
