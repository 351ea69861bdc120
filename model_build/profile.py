"""Profile: what the chosen cpu variant costs at each memory size of a function, and the gpu variant by batch.

A function's CPU share grows with its memory. Each size is timed in a fresh process under a CPU quota of
that share (cgroup, 20 ms period) where this machine allows, and modelled from one thread's times where not,
marked as such. A start is work for one CPU: below one it takes longer in proportion to the share.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_build.cpu_quota import cpu_quota, modelled_ms
from model_build.gate import GateResult
from model_build.gpu_timing import time_program
from model_build.gpu_variant import GpuVariant
from model_build.lambda_price import ARM64, MEMORIES_MB, LambdaPrice, threads, usd_per_million, vcpu
from model_build.latency import Latency, Timing, save_inputs, time_graph
from model_build.memory import COLD_SHARE, HANDLER_INIT_MS, MemorySize, choose, fits, handler_ms
from model_build.step import Step, Work

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
GPU_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
# Not measurable here: from the facts on SageMaker start-up and from the same region's network.
GPU_STARTUP_S = 240.0
GPU_MAX_WAIT_MS = 5.0
NETWORK_MS = {"p50": 4.0, "p95": 8.0, "p99": 12.0}


@dataclass(frozen=True, slots=True)
class Profiled:
    """The whole profile. `by_threads`: unthrottled times by thread count and batch size."""

    memory_mb: int
    reason: str
    batch_ms: dict[int, float]
    memory_table: tuple[MemorySize, ...]
    by_threads: dict[int, dict[int, Timing]]
    session_ms: float
    import_ms: float
    resident_mb: float
    gpu_batch_ms: dict[int, float]
    gpu_device: str
    price: LambdaPrice
    cold_share: float
    machine: str

    @property
    def chosen(self) -> MemorySize:
        """The row of the memory size that was chosen."""
        return next(row for row in self.memory_table if row.memory_mb == self.memory_mb)


def profile(work: Work, gated: GateResult, gpu: GpuVariant) -> Profiled:
    """Time everything that a manifest's profile states."""
    chosen = gated.chosen
    graph, level = chosen.candidate.path, chosen.load_optimisation
    tensors = work.splits.calibration.tensors
    inputs = save_inputs([tensor[:8] for tensor in tensors], work.folder / "inputs.npz")
    cores = os.cpu_count() or 1
    free: dict[int, Latency] = {}
    for count in range(1, min(cores, 4) + 1):
        work.progress(0.05 * count, f"{count} thread{'s' if count > 1 else ''}")
        free[count] = time_graph(graph, inputs, BATCH_SIZES, count, level, seconds=0.2)
    held: dict[int, Latency | None] = {}
    for index, memory_mb in enumerate(MEMORIES_MB):
        work.progress(0.2 + 0.6 * index / len(MEMORIES_MB), f"{memory_mb} MB")
        held[memory_mb] = _held(graph, inputs, level, memory_mb, max(free))
    starts = [found.init_ms for found in free.values()]
    starts += [min(vcpu(size), 1.0) * found.init_ms for size, found in held.items() if found is not None]
    # One start is timed a process, and others work here too: the shortest is what it takes.
    rows = [_row(size, free, found, min(starts), ARM64) for size, found in held.items()]
    memory_mb, reason = choose(rows, work.recipe.slo_ms)
    work.progress(0.85, "gpu variant")
    gpu_batch_ms = time_program(gpu.path, [tensor[:8] for tensor in tensors], GPU_BATCH_SIZES)
    chosen_row = next(row for row in rows if row.memory_mb == memory_mb)
    base = free[min(chosen_row.threads, max(free))].batch_ms
    slower = chosen_row.p50 / base[1].p50
    return Profiled(
        memory_mb=memory_mb,
        reason=reason,
        batch_ms={size: timing.p50 * slower for size, timing in base.items()},
        memory_table=tuple(rows),
        by_threads={count: latency.batch_ms for count, latency in free.items()},
        session_ms=free[1].session_ms,
        import_ms=free[1].import_ms,
        resident_mb=free[1].resident_mb,
        gpu_batch_ms=gpu_batch_ms,
        gpu_device="cpu",
        price=ARM64,
        cold_share=COLD_SHARE,
        machine=machine(),
    )


def _held(graph: Path, inputs: Path, level: str, memory_mb: int, most_threads: int) -> Latency | None:
    """Timed under the size's own share of a CPU; None where this machine gives no such share."""
    share = vcpu(memory_mb)
    if share > (os.cpu_count() or 1):
        return None
    with cpu_quota(share) as group:
        if group is None:
            return None
        count = min(threads(memory_mb), most_threads)
        return time_graph(graph, inputs, (1,), count, level, seconds=0.25, cgroup=group)


def _row(
    memory_mb: int, free: Mapping[int, Latency], held: Latency | None, start_ms: float, price: LambdaPrice
) -> MemorySize:
    """A size's row, from what was timed under its quota, or else from the unthrottled times.

    `start_ms`: import, session and first run on a whole CPU.
    """
    share, count = vcpu(memory_mb), threads(memory_mb)
    if held is not None:
        timing = held.batch_ms[1]
        p50, p95, p99, mean = timing.p50, timing.p95, timing.p99, timing.mean
    else:
        timing = free[min(count, max(free))].batch_ms[1]
        p50, mean = modelled_ms(timing.p50, share, False), modelled_ms(timing.mean, share, False)
        p95, p99 = modelled_ms(timing.p95, share, True), modelled_ms(timing.p99, share, True)
    init_ms = (start_ms + HANDLER_INIT_MS) / min(share, 1.0)
    usd = usd_per_million(price, memory_mb, mean + handler_ms(memory_mb, False), init_ms, COLD_SHARE)
    holds = fits(free[1].resident_mb, memory_mb)
    return MemorySize(memory_mb, round(share, 3), count, p50, p95, p99, init_ms, usd, held is None, holds)


def machine() -> str:
    """The CPU's name and how many cores there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


PROFILE = Step("profile", profile, needs=("gate", "gpu-variant"), reads=("slo_ms",))
