"""Sharing a batch: so many of its items on the GPU, the rest on the CPU at the same time.

The two parts end together when the time of the one, which rises with its items, meets that of the other,
which falls; there the function waits least, and waiting is what it pays for. With T the time of a part,

    k* = argmin over 1 ≤ k < n of max(T_gpu(k), T_cpu(n − k))

found by bisection on the means, and weighed like any other way to serve the request. Its latency at a
percentile q is predicted by the union bound, each part at 1 − (1 − q)/2: never an underestimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from .latency import BatchTable, Quantiles


@dataclass(frozen=True, slots=True)
class Shared:
    """`gpu_items` of the batch go to the endpoint, in calls of up to `chunk`; times in ms.

    `gpu_ms` and `cpu_ms` are each part's at the percentile where the two together meet the one asked for;
    `mean_ms` how long both take, `cpu_billed_ms` what the CPU's part keeps its function busy.
    """

    gpu_items: int
    chunk: int
    gpu: Quantiles
    cpu: Quantiles
    gpu_ms: float
    cpu_ms: float
    mean_ms: float
    cpu_billed_ms: float

    def share_within(self, ms: float, queue_ms: float) -> float:
        """Return the least share of batches of which both parts are done in `ms`, the GPU's after a wait."""
        return max(0.0, self.gpu.share_within(ms - queue_ms) + self.cpu.share_within(ms) - 1.0)


def share(
    cpu: BatchTable, hop: Quantiles | None, gpu: BatchTable, items: int, lanes: int, attainment: float
) -> Shared | None:
    """Return the best division of `items` (None for one item); `hop`: what lies before the CPU's function."""
    if items < 2:
        return None
    low, high = 1, items - 1
    while low < high:  # the least k whose GPU part takes at least as long as the rest on the CPU
        middle = (low + high) // 2
        gpu_longer = chunked(gpu, middle, lanes, attainment)[1].mean_ms() >= _cpu(cpu, hop, items - middle)
        low, high = (low, middle) if gpu_longer else (middle + 1, high)
    found = [_shared(cpu, hop, gpu, k, items, lanes, attainment) for k in {max(low - 1, 1), low}]
    return min(found, key=lambda shared: (shared.mean_ms, shared.gpu_items))


def _cpu(cpu: BatchTable, hop: Quantiles | None, items: int) -> float:
    return cpu.curve(items).mean_ms() + (hop.mean_ms() if hop is not None else 0.0)


def _shared(
    cpu: BatchTable, hop: Quantiles | None, gpu: BatchTable, k: int, items: int, lanes: int, attainment: float
) -> Shared:
    chunk, theirs = chunked(gpu, k, lanes, attainment)
    own = cpu.curve(items - k)
    seen = own if hop is None else own.plus(hop)
    each = 1.0 - (1.0 - attainment) / 2.0
    longer = Quantiles(tuple(map(max, theirs.ms, seen.ms)))
    return Shared(
        gpu_items=k,
        chunk=chunk,
        gpu=theirs,
        cpu=seen,
        gpu_ms=theirs.at(each),
        cpu_ms=seen.at(each),
        mean_ms=longer.mean_ms(),
        cpu_billed_ms=own.mean_ms(),
    )


def chunked(table: BatchTable, items: int, lanes: int, q: float) -> tuple[int, Quantiles]:
    """Return the size of chunk in which `items` are soonest done by `lanes` in parallel, and how soon.

    Whole, or in chunks of one of the table's sizes; each lane does its chunks one after the other.
    """
    whole = min(items, table.sizes[-1])
    best, soonest = whole, table.curve(items)
    for size in (*(size for size in table.sizes if size < whole), whole):
        rounds = ceil(ceil(items / size) / lanes)
        curve = table.curve(size).times(float(rounds))
        if curve.at(q) < soonest.at(q):
            best, soonest = size, curve
    return best, soonest
