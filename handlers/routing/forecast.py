"""How long each path takes for one kind of request: rows of numbers, worked out once and remembered.

A row depends on the latencies, the batch size, the percentile asked for and where the router runs; requests
repeat these, so `forecast` keeps rows on the `Latencies` they come from and `decide` only looks them up.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf
from typing import NamedTuple

from .latency import Quantiles
from .sharing import Shared, chunked, share
from .snapshot import GpuCapacity, Latencies

MAX_ROWS = 4096


class Forecast(NamedTuple):
    """Latency in ms of each path for `items` items: its curve, its value at the percentile, its mean.

    `cpu` includes the hop and the cold starts where the router is a front, and the cold start of this
    sandbox where it is not; `cpu_billed_ms` is the mean time that the model's function is billed for.
    `cascade` is the CPU's time and the GPU's together. `gpu_chunk`: the most items to put into one call
    to the endpoint, so that instances share a large batch where that is faster. `shared`: a batch divided
    between the two.
    """

    cpu: Quantiles
    cpu_ms: float
    cpu_mean_ms: float
    cpu_billed_ms: float
    gpu: Quantiles | None
    gpu_ms: float
    gpu_median_ms: float
    gpu_p95_ms: float
    gpu_mean_ms: float
    cascade: Quantiles | None
    cascade_ms: float
    gpu_chunk: int
    shared: Shared | None = None


def forecast(
    latencies: Latencies, items: int, attainment: float, cold: bool, split: bool, lanes: int
) -> Forecast:
    """Return the row for these, from memory where it was asked for before; `lanes` are ready instances."""
    key = (items, attainment, cold, split, lanes if items > 1 else 1)
    row = latencies.rows.get(key)
    if row is None:
        if len(latencies.rows) >= MAX_ROWS:
            latencies.rows.clear()
        row = latencies.rows[key] = _forecast(latencies, items, attainment, cold, split, lanes)
    return row


def _forecast(
    latencies: Latencies, items: int, attainment: float, cold: bool, split: bool, lanes: int
) -> Forecast:
    warm = latencies.cpu.curve(items)
    if split:
        service = warm.mixed(latencies.cpu_cold.curve(items), latencies.cold_share)
        cpu = service.plus(latencies.hop)
        billed_ms = service.mean_ms()
    else:
        cpu = latencies.cpu_cold.curve(items) if cold else warm
        billed_ms = cpu.mean_ms()
    gpu, chunk, shared = None, items, None
    if latencies.gpu is not None:
        chunk, gpu = chunked(latencies.gpu, items, max(lanes, 1), attainment)
        hop = latencies.hop if split else None
        shared = share(latencies.cpu, hop, latencies.gpu, items, max(lanes, 1), attainment)
    cascade = None if gpu is None else cpu.plus(gpu)
    return Forecast(
        cpu=cpu,
        cpu_ms=cpu.at(attainment),
        cpu_mean_ms=cpu.mean_ms(),
        cpu_billed_ms=billed_ms,
        gpu=gpu,
        gpu_ms=inf if gpu is None else gpu.at(attainment),
        gpu_median_ms=inf if gpu is None else gpu.at(0.5),
        gpu_p95_ms=inf if gpu is None else gpu.at(0.95),
        gpu_mean_ms=inf if gpu is None else gpu.mean_ms(),
        cascade=cascade,
        cascade_ms=inf if cascade is None else cascade.at(attainment),
        gpu_chunk=chunk,
        shared=shared,
    )


def batch_ms(gpu: GpuCapacity, items: float) -> float:
    """Return the time in ms of one batch of `items` on one instance, interpolated between measured sizes."""
    table = gpu.batch_ms
    i = bisect_right(table, (items, inf))
    if i == 0:
        return table[0][1]
    if i == len(table):
        return table[-1][1]
    (n0, ms0), (n1, ms1) = table[i - 1], table[i]
    return ms0 + (ms1 - ms0) * (items - n0) / (n1 - n0)


def queue_ms(gpu: GpuCapacity, in_flight: float, items: int) -> float:
    """Return the wait in ms that `in_flight` calls at the endpoint cause to a new one.

    The endpoint sends it to the instance with the fewest outstanding. There it waits for the batch that is
    running (a whole one: it may have just begun) and for the full batches ahead of it, and then shares a
    batch as large as the one that ran. Fewer calls than instances: no wait.
    """
    ahead = in_flight // gpu.ready
    if ahead < 1.0:
        return 0.0
    running = min(ahead, float(gpu.max_batch))
    full_batches = (ahead - running) // gpu.max_batch
    wait_ms = batch_ms(gpu, running)
    if full_batches:
        wait_ms += full_batches * batch_ms(gpu, gpu.max_batch)
    if running > items:
        wait_ms += batch_ms(gpu, running) - batch_ms(gpu, items)
    return wait_ms


def saturated(gpu: GpuCapacity, in_flight: float) -> bool:
    """Say whether every slot of every instance is taken, so that more work needs one more instance."""
    return in_flight >= gpu.ready * gpu.max_batch
