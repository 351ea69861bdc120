"""Learning latencies: what was measured when the release was built, corrected by what was seen since.

With n calls seen, a curve is the weighted mean of the prior's quantiles and the sketch's, level by level:

    ms(q) = (m · prior(q) + n · seen(q)) / (m + n),   m = PRIOR_CALLS

so few samples move a prediction little and many replace it. Sketches fade, so n shrinks when a path is no
longer used and the prediction goes back towards the prior: a path that was slow is tried again. A batch size
without samples of its own is corrected by the same factor as the nearest size that has some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .latency import BatchTable, Quantiles
from .sketch import Sketch
from .snapshot import Latencies

PRIOR_CALLS = 20.0


def learned(prior: Latencies, sketches: Mapping[str, Sketch], cold_share: float | None = None) -> Latencies:
    """Return `prior` corrected by the sketches (`path:size:state`); it is given back if there are none."""
    if not sketches and cold_share is None:
        return prior
    gpu = prior.gpu
    return Latencies(
        cpu=corrected(prior.cpu, sketches, "cpu", "warm"),
        cpu_cold=corrected(prior.cpu_cold, sketches, "cpu", "cold"),
        gpu=None if gpu is None else corrected(gpu, sketches, "gpu", "warm"),
        hop=prior.hop,
        init_ms=prior.init_ms,
        cold_share=prior.cold_share if cold_share is None else cold_share,
        gpu_in_flight_seen=prior.gpu_in_flight_seen,
    )


def corrected(prior: BatchTable, sketches: Mapping[str, Sketch], path: str, state: str) -> BatchTable:
    """Return the table of one path with what its sketches saw."""
    seen = {
        size: sketch
        for size in prior.sizes
        if (sketch := sketches.get(f"{path}:{size}:{state}")) is not None and sketch.count > 0.0
    }
    if not seen:
        return prior
    own = {size: blend(prior.curve(size), sketch) for size, sketch in seen.items()}
    curves = []
    for size in prior.sizes:
        if size in own:
            curves.append(own[size])
            continue
        nearest = min(own, key=lambda known: abs(known - size))
        before, after = prior.curve(nearest).at(0.5), own[nearest].at(0.5)
        curves.append(prior.curve(size).times(after / before if before > 0.0 else 1.0))
    return BatchTable(prior.sizes, tuple(curves))


def blend(prior: Quantiles, sketch: Sketch) -> Quantiles:
    """Return the prior's curve and the sketch's, weighted by `PRIOR_CALLS` and the calls seen."""
    share = sketch.count / (PRIOR_CALLS + sketch.count)
    seen = sketch.curve()
    return Quantiles.rising(a + (b - a) * share for a, b in zip(prior.ms, seen.ms, strict=True))


def with_model_latency(
    latencies: Latencies,
    sketches: Mapping[str, Sketch],
    model_ms: tuple[float, float, float],
    calls: float,
    network: Quantiles,
) -> Latencies:
    """Correct the GPU's curves by what its service measured, where no sandbox has reported any.

    `model_ms` is p50, p95 and p99 of `calls` calls without the network between; sandboxes see the whole way,
    so their sketches go first.
    """
    gpu = latencies.gpu
    if gpu is None or calls <= 0.0 or any(key.startswith("gpu:") for key in sketches):
        return latencies
    seen = Quantiles.from_percentiles(*model_ms).plus(network)
    share = calls / (PRIOR_CALLS + calls)
    before = gpu.curve(1)
    after = Quantiles.rising(a + (b - a) * share for a, b in zip(before.ms, seen.ms, strict=True))
    factor = after.at(0.5) / before.at(0.5) if before.at(0.5) > 0.0 else 1.0
    curves = (after, *(curve.times(factor) for curve in gpu.curves[1:]))
    return replace(latencies, gpu=BatchTable(gpu.sizes, curves))


def size_of(table: BatchTable, items: int) -> int:
    """Return the batch size under which a call with `items` items is counted: the smallest that holds it."""
    return next((size for size in table.sizes if size >= items), table.sizes[-1])
