"""Time an exported program by batch size, in a fresh process: `python -m model_build.gpu_timing` is that
process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.errors import BuildError
from model_build.latency import save_inputs
from model_build.sources import ROOT

Array = npt.NDArray[Any]


def time_program(path: Path, tensors: Sequence[Array], batch_sizes: Sequence[int]) -> dict[int, float]:
    """Median ms of a batch of each size on CPU, one thread; the endpoint measures itself again where it
    runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs = save_inputs(tensors, Path(folder) / "inputs.npz")
        done = subprocess.run(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", "model_build.gpu_timing", str(path.resolve()), str(inputs),
             json.dumps(list(batch_sizes))],
            capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BuildError(f"profile: the gpu variant could not be timed: {last[0]}")
    return {int(size): float(ms) for size, ms in json.loads(done.stdout).items()}


def main() -> None:
    """Load, warm up, time; prints {batch size: median ms}."""
    import torch

    path, inputs, sizes = sys.argv[1:]
    torch.set_num_threads(1)
    module = torch.export.load(path).module()
    stored = np.load(inputs)
    rows = [stored[name] for name in stored.files]
    medians: dict[int, float] = {}
    with torch.inference_mode():
        for size in json.loads(sizes):
            batch = [torch.from_numpy(np.resize(array, (size, *array.shape[1:]))) for array in rows]
            module(*batch)
            times: list[float] = []
            until = time.perf_counter() + 0.2
            while len(times) < 5 or (time.perf_counter() < until and len(times) < 2000):
                begun = time.perf_counter()
                module(*batch)
                times.append(1000 * (time.perf_counter() - begun))
            medians[size] = float(np.median(times))
    json.dump(medians, sys.stdout)


if __name__ == "__main__":
    main()
