"""The planner against reality: drive a running API with a trace at real speed, and predict the same trace.

Every other request demands the GPU, so that both paths are taken. Compared are, by path, the share and the
percentiles of the handler's own latency, and what the requests cost (the handler counts each with the
deployed prices). The rent of the endpoint is left out: that is the scaler's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.errors import LocalCloudError
from handlers.routing.snapshot import Topology
from scripts.local.client import ask, error_text

from .design import Design
from .draws import ASKS_GPU, draw
from .engine import replay
from .outcome import CASCADE, GPU
from .scaling import Fixed
from .scenario import Scenario
from .trace import Trace

THREADS = 32
PERCENTILES = (50, 95)


@dataclass(frozen=True, slots=True)
class Shown:
    """One side of the comparison: share of the requests that the GPU answered, ms by path and percentile,
    USD per request, share in time."""

    requests: int
    gpu_share: float
    latency_ms: dict[str, dict[int, float]]
    usd_per_request: float
    attainment: float


def asks_gpu(requests: int) -> NDArray[np.bool_]:
    """Which requests demand the GPU: every other one."""
    return np.asarray(np.arange(requests) % 2 == 1)


def drive(url: str, trace: Trace, samples: Sequence[dict[str, Any]]) -> Shown:
    """Send each request of the trace at its time, with the samples in turn; raises if one is not answered."""
    forced = asks_gpu(trace.requests)
    with ThreadPoolExecutor(THREADS) as pool:
        began = time.monotonic()

        def one(number: int, at: float) -> dict[str, Any]:
            time.sleep(max(0.0, began + at - time.monotonic()))
            inputs = samples[number // 2 % len(samples)]["inputs"]
            answer = ask(url, {"inputs": inputs, "parameters": {"path": "gpu"} if forced[number] else {}})
            if answer.status != 200:
                raise LocalCloudError(f"request {number}: {answer.status} {error_text(answer)}")
            said: dict[str, Any] = answer.body["parameters"]
            return said

        said = list(pool.map(one, range(trace.requests), trace.times.tolist()))
    latency = np.array([float(answer["actual_ms"]) for answer in said])
    return Shown(
        requests=len(said),
        gpu_share=sum(answer["path"] == "gpu" for answer in said) / len(said),
        latency_ms=_by_path(latency, np.array([answer["path"] == "gpu" for answer in said])),
        usd_per_request=sum(float(answer["cost_usd"]) for answer in said) / len(said),
        attainment=sum(bool(answer["objective_met"]) for answer in said) / len(said),
    )


def predict(scenario: Scenario, trace: Trace, design: Design, seed: int) -> Shown:
    """The same trace in the simulator, cold starts apart: the handler does not see its own init."""
    warm = replace(
        scenario,
        profile=replace(scenario.profile, cpu=replace(scenario.profile.cpu, init_ms=0.0)),
    )
    forced = np.where(asks_gpu(trace.requests), ASKS_GPU, 0).astype(np.uint8).tobytes()
    draws = replace(draw(warm, trace.requests, 0.0, seed), explores=forced)
    one = replay(warm, trace, design, draws, seed)
    on_gpu = (one.served == GPU) | (one.served == CASCADE)
    parts = ("front door", "Lambda requests", "Lambda work", "Lambda waiting")
    return Shown(
        requests=trace.requests,
        gpu_share=float(np.mean(on_gpu)),
        latency_ms=_by_path(one.latency_ms, on_gpu),
        usd_per_request=sum(one.components_usd[part] for part in parts) / trace.requests,
        attainment=one.attainment,
    )


def _by_path(latency_ms: NDArray[np.float64], on_gpu: NDArray[np.bool_]) -> dict[str, dict[int, float]]:
    return {
        path: {q: float(np.percentile(latency_ms[chosen], q)) for q in PERCENTILES}
        for path, chosen in (("cpu", ~on_gpu), ("gpu", on_gpu))
        if chosen.any()
    }


def fixed_design(router: str, instances: int) -> Design:
    """What a laptop cloud with so many GPU processes and the colocated topology is."""
    return Design("laptop", router, Topology.COLOCATED, lambda: Fixed(instances))
