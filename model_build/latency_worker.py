"""Run in a fresh process: load one ONNX graph and time it, with nothing else of turnout or PyTorch in memory.

`python -m model_build.latency_worker` reads a JSON job on stdin and writes a JSON report on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Join the cgroup asked for, import, open, warm up, time; see model_build.latency for job and report."""
    job = json.load(sys.stdin)
    if job["cgroup"]:
        Path(job["cgroup"]).write_text(str(os.getpid()))
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    import numpy as np
    import onnxruntime as ort

    imported = time.perf_counter()
    from handlers.serving.session import session_options

    options = session_options(job["threads"], job["load_optimisation"])
    ready = time.perf_counter()
    session = ort.InferenceSession(job["graph"], options, providers=["CPUExecutionProvider"])
    opened = time.perf_counter()
    stored = np.load(job["inputs"])
    names = [entry.name for entry in session.get_inputs()]
    rows = {name: stored[f"arr_{index}"] for index, name in enumerate(names)}
    loaded = time.perf_counter()
    session.run(None, {name: array[:1] for name, array in rows.items()})
    warm = time.perf_counter()
    batch_ms = {}
    for size in job["batch_sizes"]:
        feed = {name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()}
        for _ in range(3):
            session.run(None, feed)
        times: list[float] = []
        until = time.perf_counter() + job["seconds"]
        while len(times) < job["least"] or (time.perf_counter() < until and len(times) < 20_000):
            start = time.perf_counter()
            session.run(None, feed)
            times.append(1000 * (time.perf_counter() - start))
        p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
        mean, count = float(np.mean(times)), len(times)
        batch_ms[str(size)] = {"p50": p50, "p95": p95, "p99": p99, "mean": mean, "count": count}
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    resident = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
    report = {
        "import_ms": 1000 * (imported - begun),
        "session_ms": 1000 * (opened - ready),
        "first_run_ms": 1000 * (warm - loaded),
        "resident_mb": resident / 1024,
        "batch_ms": batch_ms,
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
