"""What a replay came to: money by component, latencies, counts, and what there was over time."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .draws import Draws
from .scenario import Scenario

CPU, GPU, CASCADE, STANDBY, REFUSED = 0, 1, 2, 3, 4
SERVED_BY = ("cpu", "gpu", "cascade", "standby", "refused")


@dataclass(slots=True)
class Tally:
    """Filled while the engine runs. Latencies in s by request; GB-s of Lambda by what they were for."""

    latency_s: array[float]
    served: bytearray
    degraded: bytearray
    work_gb_s: float = 0.0
    wait_gb_s: float = 0.0
    init_gb_s: float = 0.0
    restored_gb: float = 0.0
    invocations: int = 0
    cold_starts: int = 0
    escalations: int = 0
    throttled: int = 0
    instance_s: float = 0.0
    startup_s: float = 0.0
    starts: int = 0
    cached_gb: float = 0.0
    capacity: list[tuple[float, int, int]] = field(default_factory=list)
    actions: list[tuple[float, int, int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, requests: int) -> Tally:
        """An empty tally for so many requests."""
        return cls(array("d", bytes(8 * requests)), bytearray(requests), bytearray(requests))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's result. USD for the whole trace; `served` holds an index into SERVED_BY per request."""

    policy: str
    latency_ms: NDArray[np.float64]
    served: NDArray[np.uint8]
    components_usd: dict[str, float]
    cost_usd: float
    attainment: float
    accuracy: float
    degraded: int
    missed: int
    escalations: int
    cold_starts: int
    throttled: int
    gpu_hours: float
    gpu_starts: int
    lambda_gb_s: float
    capacity: list[tuple[float, int, int]]
    actions: list[tuple[float, int, int, str]]

    def percentile_ms(self, percent: float) -> float:
        """Latency in ms that so many percent of the answered requests stay within."""
        answered = self.latency_ms[self.served != REFUSED]
        return float(np.percentile(answered, percent)) if len(answered) else float("nan")


def price_list(scenario: Scenario) -> dict[str, float]:
    """What a tally is multiplied with, USD."""
    economics, snap = scenario.economics, scenario.cloud.snap_start
    return {
        "front_door_request": economics.front_door_request,
        "lambda_request": economics.lambda_request,
        "lambda_gb_s": economics.lambda_gb_s,
        "gpu_second": economics.gpu_second_usd(),
        "missed": economics.missed_escalation_usd,
        "restore_gb": snap.usd_per_gb_restored if snap else 0.0,
        "cache_gb_s": snap.usd_per_gb_s_cached if snap else 0.0,
    }


def outcome_of(
    policy: str,
    tally: Tally,
    draws: Draws,
    needs: NDArray[np.bool_],
    prices: dict[str, float],
    slo_ms: float,
    duration_s: float,
) -> Outcome:
    """Turn a tally into money and shares. `prices` are those of `price_list`."""
    latency_ms = np.frombuffer(tally.latency_s, dtype=np.float64) * 1000.0
    served = np.frombuffer(bytes(tally.served), dtype=np.uint8)
    on_gpu = (served == GPU) | (served == CASCADE)
    missed = int(np.sum(needs & ~on_gpu))
    right = np.where(on_gpu, draws.gpu_right, draws.cpu_right) & (served != REFUSED)
    met = (latency_ms <= slo_ms) & (served != REFUSED)
    gb_s = prices["lambda_gb_s"]
    components = {
        "front door": len(served) * prices["front_door_request"],
        "Lambda requests": tally.invocations * prices["lambda_request"],
        "Lambda work": tally.work_gb_s * gb_s,
        "Lambda waiting": tally.wait_gb_s * gb_s,
        "Lambda cold starts": tally.init_gb_s * gb_s + tally.restored_gb * prices["restore_gb"],
        "GPU": tally.instance_s * prices["gpu_second"],
        "GPU starts": tally.startup_s * prices["gpu_second"],
        "missed escalations": missed * prices["missed"],
    }
    if tally.cached_gb:
        components["SnapStart cache"] = tally.cached_gb * duration_s * prices["cache_gb_s"]
    return Outcome(
        policy=policy,
        latency_ms=latency_ms,
        served=served,
        components_usd=components,
        cost_usd=sum(components.values()),
        attainment=float(met.mean()),
        accuracy=float(right.mean()),
        degraded=int(np.count_nonzero(np.frombuffer(bytes(tally.degraded), dtype=np.uint8))),
        missed=missed,
        escalations=tally.escalations,
        cold_starts=tally.cold_starts,
        throttled=tally.throttled,
        gpu_hours=(tally.instance_s + tally.startup_s) / 3600.0,
        gpu_starts=tally.starts,
        lambda_gb_s=tally.work_gb_s + tally.wait_gb_s + tally.init_gb_s,
        capacity=tally.capacity,
        actions=tally.actions,
    )
