"""The planner against reality: drive a running API with a trace at real speed, and predict the same trace.

Compared are path shares, percentiles of the handler's own latency, and what the requests cost (the handler
counts each with the deployed prices). The rent of the endpoint is left out: that is the scaler's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from handlers.errors import LocalCloudError
from handlers.routing.snapshot import Topology
from scripts.local.client import ask, error_text

from .design import Design
from .draws import draw
from .engine import replay
from .outcome import CASCADE, CPU, GPU, STANDBY
from .scaling import Fixed
from .scenario import Scenario
from .trace import Trace

THREADS = 32
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Shown:
    """One side of the comparison: shares of the requests by path, ms, USD per request, share in time."""

    requests: int
    cpu_share: float
    gpu_share: float
    latency_ms: dict[int, float]
    usd_per_request: float
    attainment: float


def drive(url: str, trace: Trace, samples: Sequence[dict[str, Any]], parameters: dict[str, Any]) -> Shown:
    """Send each request of the trace at its time, with the samples in turn; raises if one is not answered."""
    with ThreadPoolExecutor(THREADS) as pool:
        began = time.monotonic()

        def one(number: int, at: float) -> dict[str, Any]:
            time.sleep(max(0.0, began + at - time.monotonic()))
            inputs = samples[number % len(samples)]["inputs"]
            answer = ask(url, {"inputs": inputs, "parameters": parameters})
            if answer.status != 200:
                raise LocalCloudError(f"request {number}: {answer.status} {error_text(answer)}")
            said: dict[str, Any] = answer.body["parameters"]
            return said

        said = list(pool.map(one, range(trace.requests), trace.times.tolist()))
    latency = np.array([float(answer["actual_ms"]) for answer in said])
    on_gpu = sum(answer["path"] == "gpu" for answer in said) / len(said)
    return Shown(
        requests=len(said),
        cpu_share=1.0 - on_gpu,
        gpu_share=on_gpu,
        latency_ms={q: float(np.percentile(latency, q)) for q in PERCENTILES},
        usd_per_request=sum(float(answer["cost_usd"]) for answer in said) / len(said),
        attainment=sum(bool(answer["objective_met"]) for answer in said) / len(said),
    )


def predict(scenario: Scenario, trace: Trace, design: Design, seed: int) -> Shown:
    """The same trace in the simulator, cold starts apart: the handler does not see its own init."""
    warm = replace(
        scenario,
        profile=replace(scenario.profile, cpu=replace(scenario.profile.cpu, init_ms=0.0)),
    )
    one = replay(warm, trace, design, draw(warm, trace.requests, 0.01, seed), seed)
    parts = ("front door", "Lambda requests", "Lambda work", "Lambda waiting")
    return Shown(
        requests=trace.requests,
        cpu_share=float(np.mean((one.served == CPU) | (one.served == STANDBY))),
        gpu_share=float(np.mean((one.served == GPU) | (one.served == CASCADE))),
        latency_ms={q: one.percentile_ms(q) for q in PERCENTILES},
        usd_per_request=sum(one.components_usd[part] for part in parts) / trace.requests,
        attainment=one.attainment,
    )


def fixed_design(router: str, instances: int) -> Design:
    """What a laptop cloud with so many GPU processes and the colocated topology is."""
    return Design("laptop", router, Topology.COLOCATED, lambda: Fixed(instances))
