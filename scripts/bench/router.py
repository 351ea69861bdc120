"""How long a decision takes, beside the one popular router that can be installed and asked the same.

`decide()` is measured with a full snapshot: a cascade with its curve, learned latencies, breakers, budgets,
and a request that differs each time. LiteLLM's Router picks between two deployments in an environment of its
own (`peers_python` makes it, on first use); it neither predicts nor prices. Both by the CPU time of the
deciding thread, so that another program on the machine does not count. llm-d's published figure for its
scheduler's decision, 12 ms, is quoted, not measured.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from handlers.routing.latency import Quantiles
from handlers.routing.observe import Observer
from handlers.routing.policy import decide
from handlers.routing.types import (
    BudgetView,
    Cascade,
    CurvePoint,
    Economics,
    Path,
    Profile,
    Request,
    Snapshot,
)

LLM_D_PUBLISHED_US = 12_000.0
PEERS = ("litellm==1.106.0",)
PROFILE: dict[str, Any] = {
    "name": "bench",
    "cpu": {
        "memory_mb": 3072,
        "service_ms": {"p50": 120, "p95": 130, "p99": 145},
        "init_ms": 900,
        "accuracy": 0.91,
    },
    "gpu": {
        "batch_ms": {"1": 40, "2": 60, "4": 105, "8": 200},
        "max_batch": 8,
        "max_wait_ms": 20,
        "accuracy": 0.96,
    },
    "network_ms": {"p50": 4, "p99": 12},
}
ECONOMICS = Economics(
    lambda_gb_s=1.67e-5, lambda_request=2e-7, front_door_request=1e-6, model_memory_mb=3072, gpu_hour=1.41
)
PEER = """
import asyncio, json, os, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
from litellm import Router
found = {}
for strategy in ("latency-based-routing", "cost-based-routing"):
    models = [{"model": name, "api_key": "k", "mock_response": "a"} for name in ("gpt-4o-mini", "gpt-4o")]
    router = Router(
        model_list=[{"model_name": "m", "litellm_params": model} for model in models],
        routing_strategy=strategy,
        set_verbose=False,
    )
    messages = [{"role": "user", "content": "hello"}]
    async def measure(calls):
        times = []
        for _ in range(calls):
            began = time.thread_time()
            await router.async_get_available_deployment(model="m", messages=messages, request_kwargs={})
            times.append((time.thread_time() - began) * 1e6)
        return sorted(times)
    times = asyncio.run(measure(300)) and asyncio.run(measure(int(sys.argv[1])))
    found[strategy] = {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}
print(json.dumps(found))
"""


def full_snapshot() -> Snapshot:
    """A snapshot with everything in it that a decision may have to look at."""
    curve = tuple(CurvePoint(0.5 + i / 50.0, 0.02 * i, 0.91 + i / 500.0) for i in range(20))
    made = Snapshot.from_profile(
        Profile.parse(PROFILE), ECONOMICS, cascade=Cascade(0.8, 0.12, 0.95, curve), gpu_ready=2
    )
    hop = Quantiles.from_percentiles(4.0, 8.0, 12.0)
    return replace(made, latencies=replace(made.latencies, cold_share=0.02, hop=hop))


def decide_us(calls: int = 20_000) -> dict[str, float]:
    """Percentiles of one `decide()` in µs, called as a sandbox calls it: observed, refreshed, explored."""
    source, observer, snapshot = random.Random(11), Observer(), full_snapshot()  # noqa: S311 - no secret
    budgets = (BudgetView("model", 1.0, 10.0, 60.0),)
    requests = [
        Request(
            latency_slo_ms=600.0,
            min_confidence=source.choice([None, 0.9]),
            payload_bytes=source.randrange(1, 100_000),
            draw=source.random(),
        )
        for _ in range(1_000)
    ]
    times = []
    gc.collect()
    for i in range(calls):
        now = 1_000.0 + i * 0.05
        local = observer.local(snapshot, now, budgets=budgets)
        request = requests[i % len(requests)]
        began = time.thread_time()
        decision = decide(request, snapshot, local, now)
        times.append((time.thread_time() - began) * 1e6)
        ms = source.gauss(120.0, 5.0) if decision.path is Path.CPU else source.gauss(65.0, 3.0)
        observer.called(decision.path, 1, ms, now, snapshot)
    return percentiles(times)


def percentiles(times_us: list[float]) -> dict[str, float]:
    """The p50 and p99 of a list of times."""
    ordered = sorted(times_us)
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100]}


def litellm_us(python: str, calls: int = 3_000) -> dict[str, dict[str, float]]:
    """Percentiles in µs of LiteLLM's choice by strategy, measured by the Python that has it."""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [python, "-c", PEER, str(calls)], capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def peers_python() -> str:
    """The Python of the peers' own environment. Raises BuildError when they cannot be installed."""
    from model_build.tool_environment import python_with

    return str(python_with("router", PEERS))


def report(python: str | None, measure: Callable[[], dict[str, float]] = decide_us) -> dict[str, Any]:
    """Everything in one run: ours, the peer's where `python` has it, and its times as multiples of ours."""
    ours = measure()
    document: dict[str, Any] = {"decide_us": ours, "llm_d_published_us": LLM_D_PUBLISHED_US}
    if python:
        peers = litellm_us(python)
        document["litellm_us"] = peers
        document["litellm_ratio"] = {
            name: {level: times[level] / ours[level] for level in times} for name, times in peers.items()
        }
    return document


if __name__ == "__main__":
    print(json.dumps(report(peers_python() if "--peers" in sys.argv else None), indent=2))
