"""Latency of an ONNX graph, each time in a fresh process (see model_build.latency_worker)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.errors import BuildError
from model_build import latency_worker
from model_build.sources import ROOT

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Timing:
    """Quantiles of one batch size in ms, over `count` runs."""

    p50: float
    p95: float
    p99: float
    mean: float
    count: int


@dataclass(frozen=True, slots=True)
class Latency:
    """One fresh process: imports (numpy, onnxruntime), session, first run, memory, warm runs by batch."""

    import_ms: float
    session_ms: float
    first_run_ms: float
    resident_mb: float
    batch_ms: dict[int, Timing]

    @property
    def init_ms(self) -> float:
        """Import + session + first run."""
        return self.import_ms + self.session_ms + self.first_run_ms


def save_inputs(tensors: Sequence[Array], path: Path) -> Path:
    """Store example inputs (one array per graph input, [N, …]) as arr_0, arr_1, … for a fresh process."""
    np.savez(path, *tensors)
    return path


def time_graph(
    graph: Path,
    inputs: Path,
    batch_sizes: Sequence[int] = (1,),
    threads: int = 1,
    load_optimisation: str = "extended",
    seconds: float = 0.3,
    least: int = 30,
    cgroup: Path | None = None,
) -> Latency:
    """Time `graph` in a fresh process: `seconds` per batch size, at least `least` runs.

    `cgroup`: the `cgroup.procs` that the process joins first. Raises BuildError with the process's last
    words.
    """
    job = {
        "graph": str(graph.resolve()),
        "inputs": str(inputs.resolve()),
        "batch_sizes": list(batch_sizes),
        "threads": threads,
        "load_optimisation": load_optimisation,
        "seconds": seconds,
        "least": least,
        "cgroup": None if cgroup is None else str(cgroup),
    }
    done = subprocess.run(  # noqa: S603  # our own interpreter and module
        [sys.executable, "-m", latency_worker.__name__],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BuildError(f"profile: {graph.name} could not be timed: {last[0]}")
    report = json.loads(done.stdout)
    batches = {int(size): Timing(**timing) for size, timing in report.pop("batch_ms").items()}
    return Latency(batch_ms=batches, **report)
