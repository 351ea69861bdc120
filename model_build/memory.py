"""Memory: the size a function should have, from what it takes at each. Pure.

The model's own times are measured for each size (`profile`). What the handler adds was measured once, by
`turnout bench digits` on 2 cores of an AMD EPYC (27 November 2026) and from the resident memory of its
function after it had called the GPU endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handlers.errors import BuildError
from handlers.routing.latency import Quantiles
from model_build.cpu_quota import modelled_ms
from model_build.lambda_price import vcpu

HANDLER_MS = 0.66
"""CPU time of a small request outside the model, runtime client included: hosted 0.67 ms, model 0.01 ms."""
HANDLER_INIT_MS = 80.0
"""CPU time of a cold start beside the import of ONNX Runtime, session and first run: 160 ms, of which 78."""
HANDLER_MB = 45.0
"""Resident beside the process that only runs the model: 104 MB against 61 MB."""
HEADROOM = 1.25
INIT_LIMIT_MS = 10_000.0
"""Lambda ends an init that takes longer (AWS, "Lambda execution environment lifecycle")."""
COLD_SHARE = 0.01
LATE_COLD_FACTOR = 2.0
"""Where no size starts within the objective: how much longer than the shortest a cold start may take."""


@dataclass(frozen=True, slots=True)
class MemorySize:
    """One row of the table: times of one item in the model in ms, USD per million requests, all included.

    `init_ms`: a whole cold start. `modelled`: the times were computed, not measured under a quota. `fits`:
    the function fits this memory.
    """

    memory_mb: int
    vcpu: float
    threads: int
    p50: float
    p95: float
    p99: float
    init_ms: float
    usd_per_million: float
    modelled: bool
    fits: bool

    @property
    def call(self) -> Quantiles:
        """A warm request: the model and the handler; the slow ones begin with their CPU share used up."""
        fresh, spent = handler_ms(self.memory_mb, False), handler_ms(self.memory_mb, True)
        return Quantiles.from_percentiles(self.p50 + fresh, self.p95 + spent, self.p99 + spent)

    @property
    def cold_ms(self) -> float:
        """A request that finds no sandbox."""
        return self.init_ms + self.p50 + handler_ms(self.memory_mb, False)

    def in_time(self, slo_ms: float, cold_share: float) -> float:
        """The share of requests within `slo_ms`, of which `cold_share` start a sandbox."""
        cold = cold_share if self.cold_ms <= slo_ms else 0.0
        return (1.0 - cold_share) * self.call.share_within(slo_ms) + cold


def handler_ms(memory_mb: int, throttled: bool) -> float:
    """What the handler adds to a warm request in a function of this size, in ms."""
    return modelled_ms(HANDLER_MS, vcpu(memory_mb), throttled)


def fits(model_mb: float, memory_mb: int) -> bool:
    """Whether a function of this size holds the handler beside a process of `model_mb`, with headroom."""
    return HEADROOM * (model_mb + HANDLER_MB) <= memory_mb


def choose(rows: Sequence[MemorySize], slo_ms: float, attainment: float = 0.99) -> tuple[int, str]:
    """The cheapest size in MB that keeps the objective, cold starts counted, and why.

    Where cold starts alone take all the share that may be late, they have to be in time. Where none can be
    at any size, the warm requests keep the objective and a cold start takes at most twice the shortest.
    Raises BuildError when no size does that, naming the fastest.
    """
    holds = [row for row in rows if row.fits and row.init_ms <= INIT_LIMIT_MS]
    able = [row for row in holds if row.in_time(slo_ms, COLD_SHARE) > attainment]
    starts = "cold starts included"
    if not able:
        warm = [row for row in holds if row.in_time(slo_ms, 0.0) > attainment]
        if not warm:
            raise BuildError(_none(rows, slo_ms, attainment))
        limit_ms = LATE_COLD_FACTOR * min(row.cold_ms for row in warm)
        able = [row for row in warm if row.cold_ms <= limit_ms]
        starts = f"cold starts apart, which take more at any size and here at most {limit_ms:.0f} ms"
    best = min(able, key=lambda row: (row.usd_per_million, row.memory_mb))
    kept = f"{attainment:.4g} of the requests within {slo_ms:g} ms, {starts}"
    usd = f"{best.usd_per_million:.3f} USD per million"
    return best.memory_mb, f"cheapest of {len(able)} sizes with {kept}: {usd}"


def _none(rows: Sequence[MemorySize], slo_ms: float, attainment: float) -> str:
    fastest = min(rows, key=lambda row: row.call.at(attainment))
    return (
        f"no memory size keeps {attainment:.4g} of the requests within {slo_ms:g} ms; the fastest, "
        f"{fastest.memory_mb} MB, takes {fastest.call.at(attainment):.1f} ms; ask for a longer objective "
        "or a smaller model"
    )
